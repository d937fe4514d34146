#include "worlds.h"

// The world of this thread. All threads of a warp go on to the end, as sums over lanes ask for: those
// that have none, or one that is not in the mask, repeat another and write nothing.
FN void begin(World &w, Drives &drives, const Fields &f, const float *shared, const float *varied, long worlds,
              const unsigned char *mask) {
  bring_near(shared);
  long world = ((long)blockIdx.x * THREADS + threadIdx.x) / LANES;
  w.valid = world < worlds;
  w.world = w.valid ? world : worlds - 1;
  if (mask && !mask[w.world]) w.valid = 0;
  w.drives = &drives, w.fields = &f, w.shared = shared, w.worlds = worlds;
  w.varied = varied + (w.world / PER_WARP * VARIED_ROWS * PER_WARP + w.world % PER_WARP);
}
// See `run` in cpu_entry.h.
extern "C" __global__ void __launch_bounds__(THREADS)
    run(const __grid_constant__ Fields f, const float *shared, const float *varied, long worlds, int substeps,
        int positions, const unsigned char *mask) {
  World w;  // apart from what is indexed at run time
  Drives drives;
  Contacts C;
  Pairs X;
  begin(w, drives, f, shared, varied, worlds, mask);
  if (LANES == 1 && !w.valid) return;
  if (substeps) step_worlds(w, C, X, f, substeps, positions == 1);
  else load(w, f);
  if (positions == 2) derive_worlds(w, C, X);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    solve_m(const __grid_constant__ Fields f, const float *shared, const float *varied, long worlds,
            const float *force, const float *added, float *out) {
  World w;  // apart from what is indexed at run time
  Drives drives;
  Contacts C;
  Pairs X;
  begin(w, drives, f, shared, varied, worlds, nullptr);
  if (LANES == 1 && !w.valid) return;
  solve_worlds(w, C, X, f, force, added, out);
}
