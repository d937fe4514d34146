// Contacts with height fields. MuJoCo cuts each cell into two prisms, from the surface down to the base,
// and a geom touches each of them once. A sphere is a capsule without length. Part of touch.h.

struct Prism {  // the corners of its top; below them it goes on, see ground_touches
  float v[3][3];
};
FN float plane_height(const Prism &T, const float *p) {  // of its top, at p
  const float *a = T.v[0];
  float ux = T.v[1][0] - a[0], uy = T.v[1][1] - a[1], uz = T.v[1][2] - a[2];
  float vx = T.v[2][0] - a[0], vy = T.v[2][1] - a[1], vz = T.v[2][2] - a[2], det = ux * vy - uy * vx;
  float s = ((p[0] - a[0]) * vy - (p[1] - a[1]) * vx) / det, t = ((p[1] - a[1]) * ux - (p[0] - a[0]) * uy) / det;
  return a[2] + s * uz + t * vz;
}
// The point of an edge nearest to p, in two or three dimensions; returns the square of its distance.
FN float nearest_on_edge(const float *a, const float *b, const float *p, int dims, float *q) {
  float along = 0, length = 0, square = 0;
  for (int i = 0; i < dims; i++) along += (p[i] - a[i]) * (b[i] - a[i]), length += (b[i] - a[i]) * (b[i] - a[i]);
  along = min_(max_(along / length, 0.0f), 1.0f);
  for (int i = 0; i < dims; i++) q[i] = a[i] + along * (b[i] - a[i]), square += (p[i] - q[i]) * (p[i] - q[i]);
  return square;
}
FN float side_of_edge(const float *a, const float *b, const float *p) {
  return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]);
}
FN bool above_triangle(const Prism &T, const float *p) {
  float one = side_of_edge(T.v[0], T.v[1], p), two = side_of_edge(T.v[1], T.v[2], p), three = side_of_edge(T.v[2], T.v[0], p);
  return (one >= 0 && two >= 0 && three >= 0) || (one <= 0 && two <= 0 && three <= 0);
}
FN void nearest_of_edges(const Prism &T, const float *p, int dims, float *q) {
  float best = 1e30f, x[3];
  for (int e = 0; e < 3; e++) {
    float square = nearest_on_edge(T.v[e], T.v[(e + 1) % 3], p, dims, x);
    if (square < best) {
      best = square;
      for (int i = 0; i < dims; i++) q[i] = x[i];
    }
  }
}
FN void top_normal(const Prism &T, float *n) {
  float u[3], v[3];
  for (int i = 0; i < 3; i++) u[i] = T.v[1][i] - T.v[0][i], v[i] = T.v[2][i] - T.v[0][i];
  cross(u, v, n);
  float scale = 1 / sqrt_(dot3(n, n));
  if (n[2] < 0) scale = -scale;
  for (int i = 0; i < 3; i++) n[i] *= scale;
}
// From the point of the prism nearest to p to p: the direction n and the distance; below zero, out through
// the nearest face, where p is inside.
STAGE float distance_to_prism(const Prism &T, const float *p, float *n) {
  float q[3] = {p[0], p[1], p[2]};
  bool above = above_triangle(T, p);
  if (!above) nearest_of_edges(T, p, 2, q);
  if (p[2] > plane_height(T, q)) {  // then it is on the top
    float up[3], foot[3], out;
    top_normal(T, up);
    out = (p[0] - T.v[0][0]) * up[0] + (p[1] - T.v[0][1]) * up[1] + (p[2] - T.v[0][2]) * up[2];
    for (int i = 0; i < 3; i++) foot[i] = p[i] - out * up[i];
    if (above_triangle(T, foot)) {
      for (int i = 0; i < 3; i++) n[i] = up[i];
      return out;
    }
    nearest_of_edges(T, p, 3, q);
  } else if (above) {
    float up[3], out, side[2] = {0, 0};
    top_normal(T, up);
    out = (p[0] - T.v[0][0]) * up[0] + (p[1] - T.v[0][1]) * up[1] + (p[2] - T.v[0][2]) * up[2];
    for (int e = 0; e < 3; e++) {
      const float *a = T.v[e], *b = T.v[(e + 1) % 3];
      float x = b[1] - a[1], y = a[0] - b[0], scale = 1 / sqrt_(x * x + y * y), away = side_of_edge(a, b, p) * scale;
      float turn = side_of_edge(a, b, T.v[(e + 2) % 3]) > 0 ? 1.0f : -1.0f;  // the prism's side
      if (-away * turn > out) out = -away * turn, side[0] = x * scale * turn, side[1] = y * scale * turn;
    }
    bool through_top = side[0] == 0 && side[1] == 0;
    for (int i = 0; i < 3; i++) n[i] = through_top ? up[i] : i < 2 ? side[i] : 0.0f;
    return out;
  }
  float square = 0;
  for (int i = 0; i < 3; i++) n[i] = p[i] - q[i], square += n[i] * n[i];
  float scale = 1 / sqrt_(max_(square, 1e-20f));
  for (int i = 0; i < 3; i++) n[i] *= scale;
  return square * scale;
}
FN void on_capsule(const float *centre, const float *half, float part, float *p) {
  for (int i = 0; i < 3; i++) p[i] = centre[i] + part * half[i];
}
struct GroundSpot {  // rel: from the geom's centre
  float dist, n[3], rel[3];
};
// One prism's contact with a capsule.
FN bool touch_prism(const Prism &T, const float *centre, const float *half, float radius, GroundSpot &spot) {
  float p[3], part = 0, low = -1, high = 1;
  if (dot3(half, half) > 0) for (int i = 0; i < 24; i++) {  // where the axis is nearest: its distance is convex
    part = i == 0 ? -1 : i == 1 ? 1 : 0.5f * (low + high);
    on_capsule(centre, half, part, p);
    float away = distance_to_prism(T, p, spot.n), slope = dot3(spot.n, half);
    if (i == 0 && slope >= 0) break;
    if (i == 1 && slope <= 0) break;
    if (i > 1 && slope > 0) high = part;
    else if (i > 1) low = part;
    if (away > radius + 2 * sqrt_(dot3(half, half))) return false;
  }
  on_capsule(centre, half, part, p);
  spot.dist = distance_to_prism(T, p, spot.n) - radius;
  float depth = radius + 0.5f * spot.dist;
  for (int i = 0; i < 3; i++) spot.rel[i] = part * half[i] - spot.n[i] * depth;
  return spot.dist < 0;
}
#define HEIGHT(f, r, c) w.shared[AT_height(HFIELD_START[f] + (r) * HFIELD_COLS[f] + (c), 0)]
// Contacts of a capsule in the axes of height field f, from its middle. Returns how many there are.
STAGE int ground_touches(const World &w, int f, const float *centre, const float *half, float radius, GroundSpot *spots) {
  int count = 0, cols = HFIELD_COLS[f] - 1, rows = HFIELD_ROWS[f] - 1;
  float size[2] = {w.shared[AT_hfield(f, 0)], w.shared[AT_hfield(f, 1)]};
  float dx = 2 * size[0] / cols, dy = 2 * size[1] / rows, x = centre[0] + size[0], y = centre[1] + size[1];
  float wide = radius + abs_(half[0]), deep = radius + abs_(half[1]), low = centre[2] - radius - abs_(half[2]);
  if (x + wide < 0 || x - wide > 2 * size[0] || y + deep < 0 || y - deep > 2 * size[1]) return 0;
  if (centre[2] < -w.shared[AT_hfield(f, 3)]) return 0;  // under the base
  int c0 = grid_index((x - wide) / dx, cols), c1 = grid_index((x + wide) / dx + 0.999999f, cols);
  int r0 = grid_index((y - deep) / dy, rows), r1 = grid_index((y + deep) / dy + 0.999999f, rows);
  for (int r = r0; r < r1; r++) for (int c = c0; c < c1; c++) {
    float z[4] = {HEIGHT(f, r + 1, c), HEIGHT(f, r, c), HEIGHT(f, r + 1, c + 1), HEIGHT(f, r, c + 1)};
    for (int half_ = 0; half_ < 2; half_++) {
      if (z[half_] < low && z[half_ + 1] < low && z[half_ + 2] < low) continue;
      Prism T;
      float from[3] = {x - dx * c, y - dy * r, centre[2]};  // the centre, from the cell's corner
      for (int i = 0; i < 3; i++) {
        int k = half_ + i;
        T.v[i][0] = k > 1 ? dx : 0.0f, T.v[i][1] = k % 2 ? 0.0f : dy, T.v[i][2] = z[k];
      }
      GroundSpot spot = {};
      if (!touch_prism(T, from, half, radius, spot)) continue;
      if (count < MAXTOUCH) spots[count] = spot;
      count++;
    }
  }
  return count;
}
STAGE int touch_ground(const World &w, const Pairs &X, int g1, int g2, const F *dif, B near, Touches &t) {
  F R[9], centre[3], half[3], radius = T(geom, g2, 6), away[3];
  int most = 0;
  geom_rotation(w, X, g1, R);
  EACH(j, 3) away[j] = ZERO - dif[j];
  rotate_back(R, away, centre), rotate_back(R, X.axis(g2), half);
  no_touches(t);
  for (int l = 0; l < WORLDS; l++) {
    if (!element_on(near, l)) continue;
    GroundSpot spots[MAXTOUCH];
    float at[3], axis[3];
    EACH(j, 3) at[j] = element(centre[j], l), axis[j] = element(half[j], l);
    int n = ground_touches(w, HFIELD_OF[g1], at, axis, element(radius, l), spots);
    if (n > MAXTOUCH) {  // noticed by `grow`
      note_overflow(w);
      n = MAXTOUCH;
    }
    for (int m = 0; m < n; m++) {
      set_element(t.dist[m], l, spots[m].dist);
      EACH(j, 3) set_element(t.n[m][j], l, spots[m].n[j]), set_element(t.o[m][j], l, spots[m].rel[j]);
    }
    most = n > most ? n : most;
  }
  turn_touches(X, g2, R, most, t);
  return most;
}
