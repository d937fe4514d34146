#include "worlds.h"

// Worlds in chunks of WORLDS, taken from `next` by whichever thread is free.
struct Memory {
  World world;
  Contacts contacts;
  Pairs pairs;
  Drives drives;
};
extern "C" long memory_size() { return sizeof(Memory); }
template <class Work>
FN void each_chunk(Memory *memory, const Fields *f, const float *shared, const float *varied, long worlds,
                   const unsigned char *mask, long *next, Work work) {
  World &w = memory->world;
  w.drives = &memory->drives;
  w.fields = f, w.shared = shared, w.varied = varied, w.worlds = worlds;
  for (;;) {
    w.world = __atomic_fetch_add(next, (long)WORLDS, __ATOMIC_RELAXED);
    if (w.world >= worlds) return;
    w.valid = worlds - w.world < WORLDS ? worlds - w.world : WORLDS;
    bool any = !mask;
    if (mask) for (int l = 0; l < w.valid; l++) any |= mask[w.world + l] != 0;
    if (any) work();
  }
}
// substeps 0: derived fields alone. positions: 0 none, 1 from before the last integration, 2 of the
// new state. mask: only worlds whose chunk has one that is set; null for all.
extern "C" void run(Memory *memory, const Fields *f, const float *shared, const float *varied, long worlds,
                    int substeps, int positions, const unsigned char *mask, long *next) {
  each_chunk(memory, f, shared, varied, worlds, mask, next, [&] {
    if (substeps) step_worlds(memory->world, memory->contacts, memory->pairs, *f, substeps, positions == 1);
    else load(memory->world, *f);
    if (positions == 2) derive_worlds(memory->world, memory->contacts, memory->pairs);
  });
}
extern "C" void solve_m(Memory *memory, const Fields *f, const float *shared, const float *varied, long worlds,
                        const float *force, const float *added, float *out, long *next) {
  each_chunk(memory, f, shared, varied, worlds, nullptr, next,
             [&] { solve_worlds(memory->world, memory->contacts, memory->pairs, *f, force, added, out); });
}
