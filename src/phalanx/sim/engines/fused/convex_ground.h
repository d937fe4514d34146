// Cylinders, ellipsoids, boxes and hulls on height fields: one contact with each prism, see ground.h. Part of
// touch.h.

#if HAS_GROUND_SOLIDS
#include "ground_solids.h"
#endif

// Where the search for prisms that a shape may touch has come to: two in each cell, row by row.
struct PrismSearch {
  int c0, c1, r1, c, r, second;
};
// On to the next one, whose corners are then `z` high. False if there are no more.
FN bool next_prism(const World &w, int f, double low, PrismSearch &p, float *z) {
  for (;;) {
    p.second++;
    if (p.second == 2) p.second = 0, p.c++;
    if (p.c >= p.c1) p.c = p.c0, p.r++;
    if (p.r >= p.r1 || p.c0 >= p.c1) return false;
    float h[4] = {HEIGHT(f, p.r + 1, p.c), HEIGHT(f, p.r, p.c), HEIGHT(f, p.r + 1, p.c + 1), HEIGHT(f, p.r, p.c + 1)};
    for (int i = 0; i < 3; i++) z[i] = h[p.second + i];
    if (!(z[0] < low && z[1] < low && z[2] < low)) return true;
  }
}
// Contacts of a shape in the axes of height field f, from its middle. Returns how many there are. CORNERED: of a box
// or hull.
template <bool CORNERED>
FN int shape_on_ground(const World &w, int f, Shape &s, GroundSpot *spots) {
  int count = 0, cols = HFIELD_COLS[f] - 1, rows = HFIELD_ROWS[f] - 1;
  double half[2], step[2], cells[2], low[3], high[3], base = -w.shared[AT_hfield(f, 3)], extent = extent_of(s);
  bool over = true;
  for (int j = 0; j < 3; j++) {
    double d[3] = {0, 0, 0}, x[3];
    d[j] = 1, support_of(s, d, x), high[j] = x[j];
    d[j] = -1, support_of(s, d, x), low[j] = x[j];
    if (j == 2) continue;
    half[j] = w.shared[AT_hfield(f, j)], step[j] = 2 * half[j] * inverse_(j ? rows : cols), cells[j] = inverse_(step[j]);
    over &= high[j] >= -half[j] && low[j] <= half[j];
  }
  over &= high[2] >= base;
  PrismSearch p;
  p.c0 = p.c = grid_index((float)((low[0] + half[0]) * cells[0]), cols);
  p.r = grid_index((float)((low[1] + half[1]) * cells[1]), rows), p.second = -1;
  p.c1 = grid_index((float)((high[0] + half[0]) * cells[0]) + 0.999999f, cols);
  p.r1 = over ? grid_index((float)((high[1] + half[1]) * cells[1]) + 0.999999f, rows) : 0;
  float z[3] = {};
  while (next_prism(w, f, low[2], p, z)) {
    Shape prism;
    Nearest found = {};
    bool touching;
    prism.kind = PRISM_SHAPE, prism.corner = 0, prism.radius = 0;
    for (int j = 0; j < 9; j++) prism.R[j] = j % 4 == 0;
    double middle[3] = {0, 0, 0};
    for (int i = 0; i < 6; i++) {
      int k = p.second + i % 3;
      double *x = prism.prism[i];
      x[0] = step[0] * (p.c + (k > 1)) - half[0], x[1] = step[1] * (p.r + 1 - k % 2) - half[1];
      x[2] = i < 3 ? z[i] : base;
      for (int j = 0; j < 3; j++) middle[j] += x[j] * (1.0 / 6);
    }
    for (int i = 0; i < 6; i++) for (int j = 0; j < 3; j++) prism.prism[i][j] -= middle[j];
    for (int j = 0; j < 3; j++) prism.centre[j] = middle[j];
#if HAS_GROUND_SOLIDS
    if constexpr (CORNERED) {
      Nearest other = {};
      double depth = depth_in_prism(prism, s, found.n);
      touching = depth > 0, other.dist = -1e300;
      bool at_corners = touching && s.kind == BOX_SHAPE && touch_with_corners(prism, s, depth, found);
      if (touching && !at_corners) part(prism, s, depth, extent, found);
      // of a hull, two edges may be the least
      bool deep = HAS_HULLS && s.kind == HULL_SHAPE && touching && found.dist < -0.02 * extent;
      part_from_guesses(prism, s, extent, deep, other);
      if (deep && other.dist > found.dist) found = other;
    } else
#endif
      touching = nearest(prism, s, 0, extent, found);
    if (touching && count < MAXTOUCH) {
      spots[count].dist = (float)found.dist;
      for (int j = 0; j < 3; j++) {
        spots[count].n[j] = (float)found.n[j];
        spots[count].rel[j] = (float)(0.5 * (found.on_a[j] + found.on_b[j]) - s.centre[j]);
      }
    }
    count += touching;
  }
  return count;
}
template <bool CORNERED>
STAGE int touch_ground_with_shape(const World &w, const Pairs &X, int g1, int g2, const F *dif, B near, Touches &t) {
  F R[9], away[3];
  int most = 0;
  geom_rotation(w, X, g1, R);
  EACH(j, 3) away[j] = ZERO - dif[j];
  no_touches(t);
  for (int l = 0; l < WORLDS; l++) {
    if (WORLDS > 1 && !element_on(near, l)) continue;
    Shape s;
    GroundSpot spots[MAXTOUCH];
    double ground[9], own[9], centre[3];
    shape_of(w, X, g2, away, l, s);
    for (int j = 0; j < 9; j++) ground[j] = element(R[j], l), own[j] = s.R[j];
    for (int j = 0; j < 3; j++) centre[j] = s.centre[j];
    rotate_back(ground, centre, s.centre);
    for (int i = 0; i < 3; i++) {
      double column[3] = {own[i], own[3 + i], own[6 + i]}, turned[3];
      rotate_back(ground, column, turned);
      for (int j = 0; j < 3; j++) s.R[3 * j + i] = turned[j];
    }
    int n = shape_on_ground<CORNERED>(w, HFIELD_OF[g1], s, spots);
    if (n > MAXTOUCH) {  // noticed by `grow`
      note_overflow(w);
      n = MAXTOUCH;
    }
    for (int m = 0; m < n; m++) {
      Spot spot;
      spot.dist = spots[m].dist;
      for (int j = 0; j < 3; j++) spot.n[j] = spots[m].n[j], spot.o[j] = spots[m].rel[j];
      set_spot(t, m, l, spot);
    }
    most = n > most ? n : most;
  }
  turn_touches(X, g2, R, most, t);
  return most;
}
