#include "worlds.h"

// See `run` in cpu_entry.h.
extern "C" __global__ void __launch_bounds__(THREADS)
    run(const __grid_constant__ Fields f, const float *shared, const float *varied, long worlds, int substeps,
        int positions, const unsigned char *mask) {
  Memory memory;
  World &w = memory.world;
  w.world = (long)blockIdx.x * THREADS + threadIdx.x;
  if (w.world >= worlds || (mask && !mask[w.world])) return;
  w.fields = &f, w.shared = shared, w.varied = varied, w.worlds = worlds, w.valid = 1;
  if (substeps) step_worlds(memory, f, substeps, positions == 1);
  else load(w, f);
  if (positions == 2) derive_worlds(memory);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    solve_m(const __grid_constant__ Fields f, const float *shared, const float *varied, long worlds,
            const float *force, const float *added, float *out) {
  Memory memory;
  World &w = memory.world;
  w.world = (long)blockIdx.x * THREADS + threadIdx.x;
  if (w.world >= worlds) return;
  w.fields = &f, w.shared = shared, w.varied = varied, w.worlds = worlds, w.valid = 1;
  solve_worlds(memory, f, force, added, out);
}
