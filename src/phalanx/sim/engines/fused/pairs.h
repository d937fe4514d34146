// Contacts between moving bodies, and with fixed obstacles. Part of step.h.

#include "touch.h"
#include "woodbury.h"

// From the origin of slot a's tree to that of slot b's, or to the world's if b is -1.
FN void tree_shift(const Shown &w, int a, int b, F *shift) {
  F from[3], to[3];
  EACH(j, 3) shift[j] = to[j] = ZERO;
  if (b >= 0 && (NTREE == 1 || TREE[a] == TREE[b])) return;
  tree_origin(w, a, from);
  if (b >= 0) tree_origin(w, b, to);
  EACH(j, 3) shift[j] = to[j] - from[j];
}
// A contact's basis vector j as motions of the first and of the second body.
FN void pair_basis(const Pairs &X, int c, int j, F *first, F *second) {
  contact_basis(X.offset[c], X.normal[c], X.tangent[c], j, first);
  EACH(m, 6) second[m] = first[m];
  if (!ACROSS_TREES) return;
  F t[3];
  cross(X.shift[c], first + 3, t);
  EACH(m, 3) second[m] -= t[m];
}
// Gives every lane the places of all geoms that may touch others.
FN void share_geoms(const World &w, Pairs &X) {
#if LANES > 1
  for (int g = 0; g < NGEOM_; g++) {
    int k = GEOM_SLOT[g], from = GEOM_LANE[g];
    if (from < 0) continue;
#if !GEOMS_NEAR
    EACH(i, 6) X.geoms[g][i] = from_lane(X.geoms[g][i], from);
#endif
    if (SOLID_OF[g] >= 0) {
      F own[9], R[9];
      EACH(i, 9) own[i] = T(solid, SOLID_OF[g], i);
      multiply3(w.R[k], own, R);
      EACH(i, 9) X.rotation[SOLID_OF[g]][i] = from_lane(R[i], from);
    }
  }
#if GEOMS_NEAR
  __syncwarp();
#endif
#endif
}
// The motion of slot k of a lane, of those of all slots. Lanes: all come by.
FN void motion_of(const F (*V)[6], int k, int lane, F *motion) {
#if LANES > 1
  EACH(m, 6) motion[m] = from_lane(V[k][m], lane < 0 ? LANE : lane);
#else
  EACH(m, 6) motion[m] = V[k][m];
#endif
}
// How fast the second body of every contact moves against the first, along its directions times their
// friction: into `speed`, or with ADD `damping` times that is added to it. V: motions of all slots.
template <bool ADD> FN void pair_speeds(const World &w, const Pairs &X, const F (*V)[6], F (*speed)[PBASIS]) {
  if (!NPAIR) return;
  for (int c = 0; some_here(c < w.npair); c++) {  // lanes exchange motions for as long as any world of theirs
    bool mine = c < w.npair;
    int a = mine ? X.slot(c, 0) : 0, b = mine ? X.slot(c, 1) : 0, i = X.pair[c];
    F one[6], two[6], first[6], second[6];
    motion_of(V, a, mine ? X.lane(c, 0) : 0, one), motion_of(V, b, mine ? X.lane(c, 1) : 0, two);
    if (!mine) continue;
    EACH(j, PBASIS) if (j < PAIR_DIM[i]) {
      pair_basis(X, c, j, first, second);
      F along = dot6(second, two) - dot6(first, one);
      if (j) along *= T(pair, i, 8 + j);
      if (ADD) speed[c][j] += T(pair, i, 3) * along;
      else speed[c][j] = along;
    }
  }
}

// Contact of pair i at distance dist, o: between the surfaces, n: from the first geom.
FN void add_pair(World &w, Pairs &X, int i, F dist, const F *o, const F *n, const F *shift) {
  F r = dist - T(pair, i, 1);
  B on = r < 0.0f;
  if (!any_(on)) return;
  if (w.npair == MAXPAIR) {  // noticed by `grow`
    note_overflow(w);
    return;
  }
  int c = w.npair++;
  F t[3];
  make_tangent(n, t);
  F imp = impedance(r, T(pair, i, 4), T(pair, i, 5), T(pair, i, 6), T(pair, i, 7), T(pair, i, 14));
  X.D[c] = select(on, imp / max_((1 - imp) * T(pair, i, 8), ZERO + 1e-15f), ZERO);
  X.pair[c] = i;
  int a = PAIR_GEOM1[i], b = PAIR_GEOM2[i];
  X.set_ends(c, GEOM_SLOT[a], GEOM_LANE[a], GEOM_SLOT[b], GEOM_LANE[b]);
  EACH(j, 3) X.offset[c][j] = o[j], X.normal[c][j] = n[j], X.tangent[c][j] = t[j];
  if (ACROSS_TREES) EACH(j, 3) X.shift[c][j] = shift[j];
  EACH(j, PBASIS) X.x[c][j] = ZERO;
  X.x[c][0] = T(pair, i, 2) * imp * r;
}

// Whether the geoms of pair i may touch; dif: from the second's centre to the first's.
FN B near_each_other(const World &w, const Pairs &X, int i, F *dif, F *shift) {
  int g1 = PAIR_GEOM1[i], g2 = PAIR_GEOM2[i];
  F square = ZERO, reach = T(pair, i, 0);
  EACH(j, 3) shift[j] = ZERO;
  if (ACROSS_TREES) tree_shift(w, GEOM_SLOT[g1], GEOM_SLOT[g2], shift);
  EACH(j, 3) dif[j] = X.centre(g1)[j] - X.centre(g2)[j] - shift[j], square += dif[j] * dif[j];
  return overlapping(w, X, PAIR_KIND[i], g1, g2, dif, T(pair, i, 1), square < reach * reach);
}
FN void add_touches(World &w, Pairs &X, int i, const F *dif, const F *shift, B near) {
  Touches t;
  if (LANES > 1) no_touches(t);  // a loop keeps them, see convex.h
  int count = find_touches(w, X, PAIR_KIND[i], PAIR_GEOM1[i], PAIR_GEOM2[i], dif, T(pair, i, 1), near, t);
  for (int m = 0; m < count; m++) add_pair(w, X, i, t.dist[m], t.o[m], t.n[m], shift);
}
// Whether the geoms of pair i, which are near each other, touch, as far as that is soon known.
FN bool may_touch(const World &w, const Pairs &X, int i) {
  if (PAIR_KIND[i] > CAPSULE_CAPSULE) return true;
  F dif[3], shift[3];
  Touches t;
  int a = PAIR_GEOM1[i], b = PAIR_GEOM2[i];
  near_each_other(w, X, i, dif, shift);
  touch_capsules(X, PAIR_KIND[i], a, b, dif, T(geom, a, 6), T(geom, b, 6), t);
  return any_(t.dist[0] < T(pair, i, 1));
}
STAGE void body_contacts(World &w, Pairs &X) {
  F dif[3], shift[3];
  w.npair = 0;
#if LANES == 1
  for (int i = 0; i < NPAIR; i++) {
    B near = near_each_other(w, X, i, dif, shift);
    if (WORLDS == 1 || any_(near)) add_touches(w, X, i, dif, shift, near);  // on a GPU, find_touches asks
  }
#else
  // A lane looks at its share of the pairs and keeps those that are near each other; of these it finds the
  // ones that touch, which all lanes note.
  int own[NPAIR / LANES + 1], count = 0;
  _Pragma("unroll 8") for (int i = LANE; i < NPAIR; i += LANES)  // eight wait for memory together
    if (near_each_other(w, X, i, dif, shift)) own[count++] = i;
  for (int r = 0; some_here(r < count); r++) {
    int i = r < count ? own[r] : 0;
    unsigned found = lanes_where(r < count && may_touch(w, X, i));
    for (int lane = 0; some_here(found >> lane); lane++) {
      int j = from_lane(i, lane);
      if (found >> lane & 1) add_touches(w, X, j, dif, shift, near_each_other(w, X, j, dif, shift));
    }
  }
#endif
  pair_speeds<true>(w, X, w.V, X.x);
}

// Direction j of contact c times its friction, as motions of the first and of the second body.
FN void scaled_basis(const World &w, const Pairs &X, int c, int j, F *first, F *second) {
  pair_basis(X, c, j, first, second);
  if (j) EACH(m, 6) first[m] *= T(pair, X.pair[c], 8 + j), second[m] *= T(pair, X.pair[c], 8 + j);
}

FN void add_pair_forces(World &w, const Pairs &X) {
  if (!NPAIR) return;
  for (int c = 0; c < w.npair; c++) {
    int i = X.pair[c], a = X.slot(c, 0), b = X.slot(c, 1), dim = PAIR_DIM[i];
    F G[PBASIS], H[PBASIS][PBASIS], first[6], second[6];
    cone_terms<PBASIS>(X.x[c], dim, X.D[c], PAIR_MU(i), G, H);
    for (int j = 0; j < dim; j++) {
      scaled_basis(w, X, c, j, first, second);
      if (ADDS_FOR(X.lane(c, 1))) EACH(m, 6) w.P[b][m] += G[j] * second[m];
      if (ADDS_FOR(X.lane(c, 0))) EACH(m, 6) w.P[a][m] -= G[j] * first[m];
    }
  }
}

// What contact c adds to H is L L': one row for each column of L, as motions of the first and of the second body.
FN void factor_row(const World &w, const Pairs &X, int c, int row, int dim, const F (*L)[PBASIS], F *first, F *second) {
  EACH(m, 6) first[m] = second[m] = ZERO;
  for (int j = row; j < dim; j++) {
    F one[6], two[6];
    scaled_basis(w, X, c, j, one, two);
    EACH(m, 6) first[m] += L[j][row] * one[m], second[m] += L[j][row] * two[m];
  }
}
STAGE void couple_pairs(World &w, Pairs &X, int &n) {
  if (!NPAIR) return;
  for (int c = 0; c < w.npair; c++) {
    int i = X.pair[c], a = X.slot(c, 0), b = X.slot(c, 1), dim = PAIR_DIM[i];
    F L[PBASIS][PBASIS];
    cone_factor<PBASIS>(X.x[c], dim, X.D[c], PAIR_MU(i), L);
    for (int j = 0; j < dim; j++) {
      if (!any_(L[j][j] > 0.0f)) continue;
      if (n == MAXROW) {
        note_overflow(w);
        break;
      }
      F first[6], second[6];
      X.tree[n][0] = TREE[a], X.tree[n][1] = TREE[b];
      factor_row(w, X, c, j, dim, L, first, second);
      add_row<false>(w, X, n, ADDS_FOR(X.lane(c, 1)) ? b : -1, second, ADDS_FOR(X.lane(c, 0)) ? a : -1, first);
    }
  }
}

FN void pair_directions(World &w, Pairs &X) {
  pair_speeds<false>(w, X, w.dV, X.v);
}

// Where geom g of a base is, from `origin`. Lanes may write it at the same time.
FN void place_on_base(const World &w, Pairs &X, int g, int base, const F *origin) {
  F at[3], half[3], from[3], centre[3], axis[3];
  EACH(i, 3) at[i] = T(geom, g, i), half[i] = T(geom, g, 3 + i);
  tree_origin(w, base, from);
  rotate(w.R[base], at, centre), rotate(w.R[base], half, axis);
  EACH(i, 3) X.centre(g)[i] = centre[i] + (from[i] - origin[i]), X.axis(g)[i] = axis[i];
}

// Contacts of slot k's body with geoms that never move and are not planes, or that are not made of
// points where they touch a plane. They weigh on one body, as points on planes do.
FN void static_contacts(World &w, Contacts &C, Pairs &X, int k) {
  F origin[3];
  tree_origin(w, k, origin);
  for (int i = STATIC0[k]; i < STATIC1[k]; i++) {
    int g1 = STATIC_GEOM1[i], g2 = STATIC_GEOM2[i], row = NPOINT + i, fixed = STATIC_FIXED[i], base = GEOM_SLOT[fixed];
    F dif[3], square = ZERO, reach = T(point, row, 0), side = ZERO + (fixed == g1 ? 1.0f : -1.0f);
    if (NBASE && base >= 0) place_on_base(w, X, fixed, base, origin);
    else EACH(j, 3) X.centre(fixed)[j] = T(geom, fixed, j) - origin[j], X.axis(fixed)[j] = T(geom, fixed, 3 + j);
    EACH(j, 3) {
      dif[j] = X.centre(g1)[j] - X.centre(g2)[j], square += dif[j] * dif[j];
    }
    Touches t;
    F margin = T(point, row, 7);
    B near = overlapping(w, X, STATIC_KIND[i], g1, g2, dif, margin, square < reach * reach);
    if (WORLDS > 1 && !any_(near)) continue;
    int count = find_touches(w, X, STATIC_KIND[i], g1, g2, dif, margin, near, t);
    for (int m = 0; m < count; m++) {
      F n[3], tangent[3], r = t.dist[m] - margin;
      B on = r < 0.0f;
      if (!any_(on)) continue;
      EACH(j, 3) n[j] = side * t.n[m][j];
      make_tangent(n, tangent);
      add_world_contact(w, C, k, row, on, r, t.o[m], n, tangent);
    }
  }
}
