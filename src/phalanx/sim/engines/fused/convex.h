// How far two convex shapes are apart, or how deep in each other: from their supporting points alone (GJK).
// One world at a time, and in double precision: where curved surfaces are nearest is known only to the
// square root of the precision of their distance. Part of touch.h.
//
// On a GPU a branch or loop around a call takes one of twelve places where threads of a warp wait for each other, and
// so does the call itself. With more, ptxas uses a place twice. Threads then go ahead of others, and code that keeps a
// number once for a warp takes another thread's, or reads memory that is not its own. machine_code.py refuses such a
// step. So functions here end in one place, loops have one condition, and callers decide first and then call in one
// branch.
//
// What a loop keeps has a value before it. ptxas 13.0 makes a wrong step of `T kept; for (...) if (better) kept = some;`:
// it takes `some`, the only value that `kept` is ever given, for what `kept` always is. tests/ptx.py finds such loops.

FN double abs_(double a) { return a < 0 ? -a : a; }
FN double max_(double a, double b) { return a > b ? a : b; }
FN double min_(double a, double b) { return a < b ? a : b; }

#define GUESSES 29
enum { PRISM_SHAPE = 1, POINT_SHAPE = 2, LINE_SHAPE = 3, ELLIPSOID_SHAPE = 4, CYLINDER_SHAPE = 5, BOX_SHAPE = 6, HULL_SHAPE = 7 };

struct Shape {  // a sphere is a point with a radius, a capsule a line with one
  int kind, corner;  // corner: the last supporting one of a hull or box, or which end of a cylinder
  double centre[3], R[9], size[3], radius;
#if HAS_PRISMS
  double prism[6][3];
#endif
#if HAS_GROUND_SOLIDS
  int many_faces;  // of a hull
#endif
  const float *corners, *neighbours, *corner_faces, *faces, *face_corners;  // of a hull: see hulls.py
  const int *farthest;
};
struct Simplex {  // corners of a - b, and where on a they come from; which corner or end of each shape that is
  int n, of_a[4], of_b[4];
  double v[4][3], a[4][3], weight[4];
};
struct Nearest {  // dist: between the surfaces, below zero inside; n: from a to b
  double dist, n[3], on_a[3], on_b[3];
  Simplex at;
};

#if HAS_HULLS
FN double along_corner(const Shape &s, const double *d, int i) {
  const float *v = s.corners + CORNER * i;
  return d[0] * v[0] + d[1] * v[1] + d[2] * v[2];
}
FN const float *neighbours_of(const Shape &s, int i) { return s.neighbours + (int)s.corners[CORNER * i + 3]; }
// The corner of a hull that is farthest along d, from corner to corner: from corner i, or from the one that is farthest
// in the direction's octant.
FN int farthest_corner(const Shape &s, const double *d, int i) {
  int next = s.farthest[(d[0] > 0) | (d[1] > 0) << 1 | (d[2] > 0) << 2];
  double most = along_corner(s, d, next), here = along_corner(s, d, i);
  if (here > most) most = here, next = i;
  i = next;
  const float *k = neighbours_of(s, i);
  for (bool go = true; go;) {
    int other = (int)*k++;
    double along = along_corner(s, d, other < 0 ? i : other);
    if (other >= 0 && along > most) most = along, next = other;
    if (other < 0) go = next != i, i = next, k = neighbours_of(s, i);
  }
  return i;
}
#endif
FN void support_of(Shape &s, const double *dir, double *out) {
  double d[3], x[3] = {0, 0, 0}, scale = 0;
  rotate_back(s.R, dir, d);
  switch (s.kind) {
    case LINE_SHAPE:
      x[2] = d[2] >= 0 ? s.size[1] : -s.size[1];
      break;
    case ELLIPSOID_SHAPE:
      for (int j = 0; j < 3; j++) x[j] = s.size[j] * d[j], scale += x[j] * x[j];
      scale = inverse_(sqrt_(max_(scale, 1e-300)));
      for (int j = 0; j < 3; j++) x[j] *= s.size[j] * scale;
      break;
    case CYLINDER_SHAPE:
      scale = s.size[0] * inverse_(sqrt_(max_(d[0] * d[0] + d[1] * d[1], 1e-300)));
      x[0] = scale * d[0], x[1] = scale * d[1], x[2] = d[2] >= 0 ? s.size[1] : -s.size[1];
      s.corner = d[2] >= 0;
      break;
    case BOX_SHAPE:
      s.corner = 0;
      for (int j = 0; j < 3; j++) x[j] = d[j] >= 0 ? s.size[j] : -s.size[j], s.corner |= (d[j] >= 0) << j;
      break;
#if HAS_PRISMS
    case PRISM_SHAPE: {
      int best = 0;
      for (int i = 1; i < 6; i++) if (dot3(s.prism[i], d) > dot3(s.prism[best], d)) best = i;
      for (int j = 0; j < 3; j++) x[j] = s.prism[best][j];
      break;
    }
#endif
#if HAS_HULLS
    case HULL_SHAPE:
      s.corner = farthest_corner(s, d, s.corner);
      for (int j = 0; j < 3; j++) x[j] = s.corners[CORNER * s.corner + j];
#endif
  }
  rotate(s.R, x, out);
  for (int j = 0; j < 3; j++) out[j] += s.centre[j];
}

// How the point of v[0] ... v[n - 1]'s plane that is nearest to the origin is mixed of them; false if it is
// not between them.
FN bool mixture(const double *const *v, int n, double *weight) {
  bool between = true;
  weight[0] = 1;
  if (n == 2) {
    double e[3];
    for (int j = 0; j < 3; j++) e[j] = v[1][j] - v[0][j];
    weight[1] = -dot3(v[0], e) * inverse_(max_(dot3(e, e), 1e-300));
    weight[0] = 1 - weight[1];
    between = weight[0] > 0 && weight[1] > 0;
  }
  if (n == 3) {
    double e[2][3], normal[3], t[3];
    for (int i = 0; i < 2; i++) for (int j = 0; j < 3; j++) e[i][j] = v[i + 1][j] - v[0][j];
    cross(e[0], e[1], normal);
    double scale = inverse_(max_(dot3(normal, normal), 1e-300));
    for (int i = 0; i < 3; i++) {
      cross(v[(i + 1) % 3], v[(i + 2) % 3], t);
      weight[i] = dot3(normal, t) * scale, between &= weight[i] > 0;
    }
  }
  if (n == 4) {
    double e[3][3], normal[3], t[3];
    for (int i = 0; i < 3; i++) for (int j = 0; j < 3; j++) e[i][j] = v[i + 1][j] - v[0][j];
    cross(e[0], e[1], normal);
    double volume = dot3(normal, e[2]);
    between = abs_(volume) >= 1e-300;
    double scale = -inverse_(between ? volume : 1);
    weight[3] = dot3(normal, v[0]) * scale;
    cross(v[0], e[1], t), weight[1] = dot3(t, e[2]) * scale;
    cross(e[0], v[0], t), weight[2] = dot3(t, e[2]) * scale;
    weight[0] = 1 - weight[1] - weight[2] - weight[3];
    for (int i = 0; i < 4; i++) between &= weight[i] > 0;
  }
  return between;
}
// Keeps the corners whose mixture is nearest to the origin, x; the last one is always among them. square: of that
// distance. Returns 1, -1 if the origin is inside, or 0 and changes nothing if none is nearer than `square`.
APART int reduce(Simplex &s, double &square, double *x) {
  double weight[4] = {};
  // Which corners are mixed, a bit each, four bits a try: those first that most often are the nearest
  unsigned tries = s.n == 4 ? 0xf8ace9bd : s.n == 3 ? 0x4675 : s.n == 2 ? 0x23 : 1;
  int kept = 0;
  bool inside = false;
  for (; tries; tries >>= 4) {
    const double *v[4];
    double mixed[4] = {}, at[3] = {};
    int n = 0, some = tries & 15;
    for (int i = 0; i < 4; i++) v[i] = s.v[0];
    for (int i = 0; i < 4; i++) if (some >> i & 1) v[n++] = s.v[i];
    bool between = mixture(v, n, mixed);
    for (int i = 0; i < 4; i++) if (i < n) for (int j = 0; j < 3; j++) at[j] += mixed[i] * v[i][j];
    double own = dot3(at, at);
    inside = between && n == 4;
    if (between && own < square) {
      bool nearest = true;  // of all: no corner lies before the plane through it
      square = own, kept = some;
      for (int i = 0; i < 4; i++) weight[i] = mixed[i];
      for (int j = 0; j < 3; j++) x[j] = at[j];
      for (int i = 0; i < 4; i++) nearest &= i >= s.n || dot3(at, s.v[i]) >= own * (1 - 1e-9);
      if (nearest || inside) tries = 0;
    }
  }
  bool go = !inside && kept;
  int n = 0, from[4] = {0, 1, 2, 3};
  for (int i = 0; i < 4; i++) from[n] = i, n += kept >> i & 1;
  for (int k = 0; k < 4; k++) if (go && k < n) {
    int i = from[k];
    for (int j = 0; j < 3; j++) s.v[k][j] = s.v[i][j], s.a[k][j] = s.a[i][j];
    s.of_a[k] = s.of_a[i], s.of_b[k] = s.of_b[i], s.weight[k] = weight[k];
  }
  if (go) s.n = n;
  return inside ? -1 : go;
}

// The point of a - b - shift that is farthest along -x, `v`; p: where on `a` it is.
FN void farthest_of_both(Shape &a, Shape &b, const double *shift, const double *x, double *p, double *v) {
  double towards[3], q[3];
  for (int j = 0; j < 3; j++) towards[j] = -x[j];
  support_of(a, towards, p), support_of(b, x, q);
  for (int j = 0; j < 3; j++) v[j] = p[j] - q[j] - shift[j];
}
// The points of `a` and of `b` + shift that are nearest to each other. x: their difference, before a guess; s: corners
// to begin with, or none; error: relative, of the length's square. Returns the length, below zero if the shapes overlap;
// more than `beyond` need not be exact.
APART double between(Shape &a, Shape &b, const double *shift, double beyond, double error, double *x, double *on_a, Simplex &s) {
  double square = 1e300, p[3], v[3], at[3];
  bool go, inside, more = !s.n;  // more: v is another corner
  int iteration = 0;
  farthest_of_both(a, b, shift, x, p, v);
  do {
    if (more) {
      for (int j = 0; j < 3; j++) s.v[s.n][j] = v[j], s.a[s.n][j] = p[j];
      s.of_a[s.n] = a.corner, s.of_b[s.n] = b.corner, s.n++;
    }
    int nearer = reduce(s, square, at);
    go = nearer > 0, inside = nearer < 0, more = true;
    if (!nearer) s.n--;  // there are no more digits: without the new corner
    if (go) {
      for (int j = 0; j < 3; j++) x[j] = at[j], on_a[j] = 0;
      for (int i = 0; i < s.n; i++) for (int j = 0; j < 3; j++) on_a[j] += s.weight[i] * s.a[i][j];
      inside = square < 1e-24;
      farthest_of_both(a, b, shift, x, p, v);
      double along = dot3(x, v);
      go = !inside && square - along > error * square && !(along > 0 && along * along > beyond * beyond * square);
    }
  } while (go && ++iteration < 64);
  return inside ? -1 : sqrt_(square);
}

// How far `a` reaches over `b` along n.
FN double overlap(Shape &a, Shape &b, const double *n) {
  double back[3], p[3], q[3];
  for (int j = 0; j < 3; j++) back[j] = -n[j];
  support_of(a, n, p), support_of(b, back, q);
  return dot3(p, n) - dot3(q, n);
}
// Shapes that overlap: the direction in which the least motion parts them. Moved apart along a guess,
// they are nearest in a better direction, until that is the one along which they were moved.
APART void part(Shape &a, Shape &b, double least, double extent, Nearest &f) {
  double *n = f.n;
  bool go = true;
  double shift[3] = {0, 0, 0}, error = 1e-6;  // only the last of them must be exact
  f.at.n = 0;
  for (int iteration = 0; go && iteration < 40; iteration++) {
    double apart = 0.1 * least + 1e-3 * extent, x[3], turned = 0;
    for (int j = 0; j < 3; j++) {  // corners of before, which are nearly the nearest
      double before = shift[j];
      shift[j] = (least + apart) * n[j], x[j] = -n[j];
      for (int i = 0; i < f.at.n; i++) f.at.v[i][j] += before - shift[j];
    }
    double length = between(a, b, shift, 1e30, error, x, f.on_a, f.at);
    go = length > 0;
    if (go) {
      double scale = -inverse_(length);
      for (int j = 0; j < 3; j++) {
        double next = scale * x[j];
        turned += (next - n[j]) * (next - n[j]), n[j] = next;
        f.on_b[j] = f.on_a[j] - x[j] - shift[j];
      }
      least = 0;
      for (int j = 0; j < 3; j++) least += (f.on_a[j] - f.on_b[j]) * n[j];
      go = turned >= 1e-12 || error > 1e-12, error = min_(error, max_(1e-4 * turned, 1e-13));
    }
  }
  f.dist = -least;
}

// Where to begin: from centre to centre, along the shapes' axes, and between those.
FN void guess(const Shape &a, const Shape &b, int i, double *n) {
  const Shape &own = i < 15 ? a : b;
  double d[3] = {0, 0, 0}, square = 0;
  if (i == 0) for (int j = 0; j < 3; j++) n[j] = b.centre[j] - a.centre[j];
  else if ((i - 1) % 14 < 6) d[(i - 1) % 14 / 2] = i % 2 ? 1 : -1;
  else for (int j = 0; j < 3; j++) d[j] = (i - 1) % 14 - 6 >> j & 1 ? 1 : -1;
  if (i) rotate(own.R, d, n);
  for (int j = 0; j < 3; j++) square += n[j] * n[j];
  double scale = inverse_(sqrt_(max_(square, 1e-300)));
  for (int j = 0; j < 3; j++) n[j] = square > 1e-24 ? n[j] * scale : j == 2;
}
// Shapes that overlap, if they are `deep` in each other: from the best guess, and if they overlap much from all
// that are not much worse.
FN void part_from_guesses(Shape &a, Shape &b, double extent, bool deep, Nearest &f) {
  double over[GUESSES], most = 1e300;
  Nearest other = {};
  int best = 0, k = -1;
  for (int i = 0; deep && i < GUESSES; i++) {
    guess(a, b, i, other.n);
    over[i] = overlap(a, b, other.n);
    if (over[i] < most) most = over[i], best = i;
  }
  if (deep) f.dist = -1e300;
  for (int i = deep ? best : GUESSES; i < GUESSES; i = k) {
    guess(a, b, i, other.n);
    part(a, b, over[i], extent, other);
    if (other.dist > f.dist) f = other;
    do k++;
    while (k < GUESSES && (k == best || over[k] > 2 * most || f.dist > -0.02 * extent));
  }
}

FN bool nearest(Shape &a, Shape &b, double margin, double extent, Nearest &f) {
  double x[3], none[3] = {0, 0, 0}, radius = a.radius + b.radius;
  for (int j = 0; j < 3; j++) x[j] = a.centre[j] - b.centre[j];
  if (dot3(x, x) < 1e-24) x[2] = 1;
  f.at.n = 0;
  double length = between(a, b, none, margin + radius, 1e-13, x, f.on_a, f.at);
  bool near = length <= margin + radius, deep = near && length <= 1e-6 * extent;
  double scale = -inverse_(max_(length, 1e-300));
  f.dist = length;
  for (int j = 0; j < 3; j++) f.n[j] = scale * x[j], f.on_b[j] = f.on_a[j] - x[j];
  part_from_guesses(a, b, extent, deep, f);
  f.dist -= radius;
  for (int j = 0; j < 3; j++) f.on_a[j] += a.radius * f.n[j], f.on_b[j] -= b.radius * f.n[j];
  return near && f.dist < margin;
}
