// Lanes: the threads of a GPU that step one world together. Slots 0 ... NTRUNK - 1 are the trunk,
// which every lane computes with the same bits; the others are the lane's own limbs, which write to
// the trunk only through sums over lanes. One lane, as on a CPU, has no trunk. Part of step.h.

#define SLOTS(k) UNROLL for (int k = 0; k < NSLOT; k++)
#define LIMBS(k) UNROLL for (int k = NTRUNK; k < NSLOT; k++)
#define LIMBS_UP(k) UNROLL for (int k = NSLOT - 1; k >= NTRUNK; k--)
#define TRUNK(k) UNROLL for (int k = 0; k < NTRUNK; k++)
#define TRUNK_UP(k) UNROLL for (int k = NTRUNK - 1; k >= 0; k--)

// `sum_lanes` and `any_lane`: over the lanes of a world, where all worlds of the warp come by;
// `sum_team`: where this world comes alone. `any_here` and `some_here`: in any world that is stepped in lockstep.
#if LANES == 1
#define LANE 0
FN F sum_lanes(F x) { return x; }
FN F sum_team(F x) { return x; }
FN B any_lane(B b) { return b; }
FN bool any_here(B b) { return any_(b); }
FN bool some_here(bool b) { return b; }
#define OWN(k) (!NBASE || QPOS[k] >= 0)  // a base has no coordinates
#define ONE_OF(b, items, n) for (int b = 0; b < (n); b++)
#else
#define OWN(k) (((k) >= NTRUNK || LANE == 0) && QPOS[k] >= 0)  // this lane writes it
// Items of the lane; each of the trunk's is one lane's.
#define ONE_OF(b, items, n) for (int b##_ = 0, b; (b = ONE_##items[b##_]) >= 0; b##_++)
#endif
#if LANES > 1  // known to the compiler where all lanes agree
struct Ups {
  FN int operator[](int k) const { return UP_OF_LANE[UP_SAME[k] ? 0 : LANE][k]; }
};
#define UP (Ups{})
#endif
// Rows of the tables of bodies that move with slot k.
#define BODIES_OF(k, b) for (int b##_ = BODIES0[k], b; b##_ < BODIES1[k] && (b = SLOT_BODY[b##_], true); b##_++)
// Whether this lane adds to a sum what acts at the slot of geom g, or of placed body b.
#define ADDS_FOR(owner) (LANES == 1 || (owner) == LANE || ((owner) < 0 && LANE == 0))
#define ADDS(g) ADDS_FOR(GEOM_LANE[g])
#define ADDS_BODY(b) ADDS_FOR(PLACE_BODY_LANE[b])
FN void sum_lanes(F *x, int n) {
  if (LANES > 1) _Pragma("unroll") for (int i = 0; i < n; i++) x[i] = sum_lanes(x[i]);
}
FN void sum_team(F *x, int n) {
  if (LANES > 1) _Pragma("unroll") for (int i = 0; i < n; i++) x[i] = sum_team(x[i]);
}
