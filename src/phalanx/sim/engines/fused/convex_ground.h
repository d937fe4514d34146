// Cylinders, ellipsoids, boxes and hulls on height fields: one contact with each prism, see ground.h. Part of
// touch.h.

#if HAS_GROUND_SOLIDS
#include "ground_solids.h"
#endif

// Contacts of a shape in the axes of height field f, from its middle. Returns how many there are.
STAGE int shape_on_ground(const World &w, int f, Shape &s, GroundSpot *spots) {
  int count = 0, cols = HFIELD_COLS[f] - 1, rows = HFIELD_ROWS[f] - 1;
  double half[2], step[2], cells[2], low[3], high[3], base = -w.shared[AT_hfield(f, 3)], extent = extent_of(s);
  for (int j = 0; j < 3; j++) {
    double d[3] = {0, 0, 0}, x[3];
    d[j] = 1, support_of(s, d, x), high[j] = x[j];
    d[j] = -1, support_of(s, d, x), low[j] = x[j];
    if (j == 2) continue;
    half[j] = w.shared[AT_hfield(f, j)], step[j] = 2 * half[j] * inverse_(j ? rows : cols), cells[j] = inverse_(step[j]);
    if (high[j] < -half[j] || low[j] > half[j]) return 0;
  }
  if (high[2] < base) return 0;
  int c0 = grid_index((float)((low[0] + half[0]) * cells[0]), cols), r0 = grid_index((float)((low[1] + half[1]) * cells[1]), rows);
  int c1 = grid_index((float)((high[0] + half[0]) * cells[0]) + 0.999999f, cols);
  int r1 = grid_index((float)((high[1] + half[1]) * cells[1]) + 0.999999f, rows);
  for (int r = r0; r < r1; r++) for (int c = c0; c < c1; c++) {
    float z[4] = {HEIGHT(f, r + 1, c), HEIGHT(f, r, c), HEIGHT(f, r + 1, c + 1), HEIGHT(f, r, c + 1)};
    for (int second = 0; second < 2; second++) {
      if (z[second] < low[2] && z[second + 1] < low[2] && z[second + 2] < low[2]) continue;
      Shape prism;
      Nearest found;
      prism.kind = PRISM_SHAPE, prism.corner = 0, prism.radius = 0;
      for (int j = 0; j < 9; j++) prism.R[j] = j % 4 == 0;
      double middle[3] = {0, 0, 0};
      for (int i = 0; i < 6; i++) {
        int k = second + i % 3;
        double *x = prism.prism[i];
        x[0] = step[0] * (c + (k > 1)) - half[0], x[1] = step[1] * (r + 1 - k % 2) - half[1], x[2] = i < 3 ? z[k] : base;
        for (int j = 0; j < 3; j++) middle[j] += x[j] * (1.0 / 6);
      }
      for (int i = 0; i < 6; i++) for (int j = 0; j < 3; j++) prism.prism[i][j] -= middle[j];
      for (int j = 0; j < 3; j++) prism.centre[j] = middle[j];
#if HAS_GROUND_SOLIDS
      if (s.kind >= BOX_SHAPE) {
        double depth = depth_in_prism(prism, s, found.n);
        if (depth <= 0) continue;
        if (s.kind != BOX_SHAPE || !touch_with_corners(prism, s, depth, found)) part(prism, s, depth, extent, found);
        if (HAS_HULLS && s.kind == HULL_SHAPE && found.dist < -0.02 * extent) {  // two edges may be the least
          Nearest other;
          part_from_guesses(prism, s, extent, true, other);
          if (other.dist > found.dist) found = other;
        }
      } else
#endif
      if (!nearest(prism, s, 0, extent, found)) continue;
      if (count < MAXTOUCH) {
        spots[count].dist = (float)found.dist;
        for (int j = 0; j < 3; j++) {
          spots[count].n[j] = (float)found.n[j];
          spots[count].rel[j] = (float)(0.5 * (found.on_a[j] + found.on_b[j]) - s.centre[j]);
        }
      }
      count++;
    }
  }
  return count;
}
STAGE int touch_ground_with_shape(const World &w, const Pairs &X, int g1, int g2, const F *dif, B near, Touches &t) {
  F R[9], away[3];
  int most = 0;
  geom_rotation(w, X, g1, R);
  EACH(j, 3) away[j] = ZERO - dif[j];
  no_touches(t);
  for (int l = 0; l < WORLDS; l++) {
    if (!element_on(near, l)) continue;
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
    int n = shape_on_ground(w, HFIELD_OF[g1], s, spots);
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
