#include "worlds.h"

// Worlds in chunks of WORLDS, taken from `next` by whichever thread is free.
struct Memory {
  World world;
  Contacts contacts;
  Pairs pairs;
  Drives drives;
};
// What the threads of one call share, and what each function reads besides.
struct Task {
  long next;  // world
  const Fields *fields;
  const float *shared, *varied;
  long worlds;
  // Of `run`. substeps 0: derived fields alone. positions: 0 none, 1 from before the last integration,
  // 2 of the new state. mask: only worlds whose chunk has one that is set; null for all.
  long substeps, positions;
  const unsigned char *mask;
  // Of `solve_m`
  const float *force, *added;
  float *out;
};
extern "C" long memory_size() { return sizeof(Memory); }
template <class Work>
FN void each_chunk(Task *t, Memory *memory, Work work) {
  World &w = memory->world;
  w.drives = &memory->drives;
  w.fields = t->fields, w.shared = t->shared, w.varied = t->varied, w.worlds = t->worlds;
  for (;;) {
    w.world = __atomic_fetch_add(&t->next, (long)WORLDS, __ATOMIC_RELAXED);
    if (w.world >= t->worlds) return;
    w.valid = t->worlds - w.world < WORLDS ? t->worlds - w.world : WORLDS;
    bool any = !t->mask;
    if (t->mask) for (int l = 0; l < w.valid; l++) any |= t->mask[w.world + l] != 0;
    if (any) work();
  }
}
extern "C" void run(Task *t, Memory *memory, long, long) {
  each_chunk(t, memory, [&] {
    if (t->substeps) step_worlds(memory->world, memory->contacts, memory->pairs, *t->fields, t->substeps, t->positions == 1);
    else load(memory->world, *t->fields);
    if (t->positions == 2) derive_worlds(memory->world, memory->contacts, memory->pairs);
  });
}
extern "C" void solve_m(Task *t, Memory *memory, long, long) {
  each_chunk(t, memory, [&] {
    solve_worlds(memory->world, memory->contacts, memory->pairs, *t->fields, t->force, t->added, t->out);
  });
}
