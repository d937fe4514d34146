// Contacts of cylinders, ellipsoids and hulls with each other, and with spheres, capsules and boxes. Part of
// touch.h.

#include "convex.h"
#include "convex_faces.h"

// Geom g of world l, with its centre from that of the other geom.
FN void shape_of(const World &w, const Pairs &X, int g, const F *centre, int l, Shape &s) {
  F R[9];
  for (int j = 0; j < 9; j++) s.R[j] = 0;
  for (int j = 0; j < 3; j++) s.centre[j] = element(centre[j], l), s.size[j] = 0;
  s.kind = GEOM_SHAPE[g], s.radius = s.corner = 0;
  if (s.kind > LINE_SHAPE) {
    geom_rotation(w, X, g, R);
    for (int j = 0; j < 9; j++) s.R[j] = element(R[j], l);
    for (int j = 0; j < 3; j++) s.size[j] = element(T(solid, SOLID_OF[g], 9 + j), l);
  } else {
    s.radius = element(T(geom, g, 6), l);
    for (int j = 0; j < 3; j++) s.R[3 * j + 2] = element(X.axis(g)[j], l), s.size[1] += s.R[3 * j + 2] * s.R[3 * j + 2];
    s.size[1] = sqrt_(s.size[1]);
    double scale = inverse_(max_(s.size[1], 1e-300));
    for (int j = 0; j < 3; j++) s.R[3 * j + 2] *= scale;
  }
#if HAS_HULLS
  s.corners = w.shared + AT_hull_corner(HULL_CORNER0[g], 0), s.faces = w.shared + AT_hull_face(HULL_FACE0[g], 0);
  s.neighbours = w.shared + AT_hull_neighbour(0, 0), s.corner_faces = w.shared + AT_hull_corner_face(0, 0);
  s.face_corners = w.shared + AT_hull_face_corner(0, 0), s.farthest = HULL_FARTHEST + OCTANTS * g;
#endif
#if HAS_GROUND_SOLIDS
  s.many_faces = HULL_FACES[g];
#endif
}
FN double extent_of(const Shape &s) {  // geom_rbound
  const double *x = s.size;
  if (s.kind <= LINE_SHAPE) return s.radius + x[1];
  if (s.kind == ELLIPSOID_SHAPE) return max_(x[0], max_(x[1], x[2]));
  return sqrt_(x[0] * x[0] + x[1] * x[1] + (s.kind == CYLINDER_SHAPE ? 0 : x[2] * x[2]));
}
FN void spot_of(const Nearest &f, Spot &spot) {
  spot.dist = (float)f.dist;
  for (int j = 0; j < 3; j++) spot.o[j] = (float)(0.5 * (f.on_a[j] + f.on_b[j])), spot.n[j] = (float)f.n[j];
}
APART int convex_contacts(Shape &a, Shape &b, double margin, Spot *spots) {
  Nearest f = {};
  double extent = min_(extent_of(a), extent_of(b));
  if (!nearest(a, b, margin, extent, f)) return 0;
  spot_of(f, spots[0]);
  if (!MULTICCD || a.kind == POINT_SHAPE || a.kind == ELLIPSOID_SHAPE || b.kind == ELLIPSOID_SHAPE) return 1;
  int lying = lying_contacts(a, b, f, margin, spots);
  if (lying == 1) spots[0].dist = (float)f.dist;
  return lying ? lying : 1;
}

// Whether the boxes around two geoms are apart, along a side of either or along the line between them.
FN F reach_along(const World &w, const Pairs &X, int g, const F *R, const F *d) {
  if (SOLID_OF[g] < 0) return abs_(dot3(X.axis(g), d)) + T(geom, g, 6);
  F reach = ZERO, along[3];
  rotate_back(R, d, along);
  bool cylinder = GEOM_SHAPE[g] == CYLINDER_SHAPE;  // its sizes: radius, half length
  EACH(j, 3) reach += T(solid, SOLID_OF[g], 9 + (cylinder ? j / 2 : j)) * abs_(along[j]);
  return reach;
}
STAGE B boxes_apart(const World &w, const Pairs &X, int g1, int g2, const F *dif, F margin) {
  F R[2][9], d[3], scale = rsqrt_(max_(dot3(dif, dif), ZERO + 1e-20f));
  B apart = ONE < 0.0f;
  EACH(side, 2) if (SOLID_OF[side ? g2 : g1] >= 0) geom_rotation(w, X, side ? g2 : g1, R[side]);
  for (int axis = 0; axis < 7; axis++) {
    int side = axis >= 3;
    if (axis < 6 && SOLID_OF[side ? g2 : g1] < 0) continue;
    EACH(j, 3) d[j] = axis == 6 ? dif[j] * scale : R[side][3 * j + axis % 3];
    F most = reach_along(w, X, g1, R[0], d) + reach_along(w, X, g2, R[1], d) + margin;
    apart = apart | (abs_(dot3(dif, d)) > most * 1.00001f + 1e-7f);
  }
  return apart;
}
FN int touch_convex(const World &w, const Pairs &X, int g1, int g2, const F *dif, F margin, B near, Touches &t) {
  F none[3], away[3];
  int most = 0;
  no_touches(t);
  EACH(j, 3) none[j] = ZERO, away[j] = ZERO - dif[j];
  for (int l = 0; l < WORLDS; l++) {
    if (WORLDS > 1 && !element_on(near, l)) continue;
    Shape a, b;
    Spot spots[4];
    shape_of(w, X, g1, none, l, a), shape_of(w, X, g2, away, l, b);
    int n = convex_contacts(a, b, element(margin, l), spots);
    for (int m = 0; m < n; m++) set_spot(t, m, l, spots[m]);
    most = n > most ? n : most;
  }
  for (int m = 0; m < most; m++) EACH(j, 3) t.o[m][j] += X.centre(g1)[j];
  return most;
}

// The lowest point of a hull or ellipsoid over a plane through the origin, and up to three more corners of a
// hull: of the face there that is nearest to level.
APART int lowest_points(Shape &s, const double *n, double margin, Spot *spots) {
  double down[3], low[3], dist;
  int count = 1;
  for (int j = 0; j < 3; j++) down[j] = -n[j];
  support_of(s, down, low);
  dist = dot3(low, n);
  if (dist > margin) return 0;
  for (int j = 0; j < 3; j++) spots[0].o[j] = (float)(low[j] - 0.5 * dist * n[j]);
  spots[0].dist = (float)dist;
#if HAS_HULLS
  if (s.kind != HULL_SHAPE) return count;
  const float *row = s.corners + CORNER * s.corner, *flat = nullptr;
  double steepest = 1, p[SIDES][3];
  for (int i = 0; i < (int)row[5]; i++) {  // the face at it that is nearest to level
    const float *face = s.faces + FACE * (int)s.corner_faces[(int)row[4] + i];
    double local[3] = {face[0], face[1], face[2]}, normal[3];
    rotate(s.R, local, normal);
    if (dot3(normal, n) < steepest) steepest = dot3(normal, n), flat = face;
  }
  if (!flat) return count;
  const float *own = s.face_corners + (int)flat[3];
  int many = (int)flat[4], first = 0, picked[4] = {0, 1, 2, 3};
  for (int i = 0; i < many; i++) if ((int)own[i] == s.corner) first = i;
  for (int i = 0; i < many; i++) corner_of(s, (int)own[(first + i) % many], p[i]);
  if (many > 4) widest_four(p, many, 1, picked);
  for (int i = 1; i < (many < 4 ? many : 4); i++) {
    const double *x = p[picked[i]];
    dist = dot3(x, n);
    if (dist > dot3(s.centre, n)) continue;
    for (int j = 0; j < 3; j++) spots[count].o[j] = (float)(x[j] - 0.5 * dist * n[j]);
    spots[count++].dist = (float)dist;
  }
#endif
  return count;
}
STAGE int touch_plane_lowest(const World &w, const Pairs &X, int g1, int g2, const F *dif, F margin, B near, Touches &t) {
  F away[3];
  int most = 0;
  no_touches(t);
  EACH(j, 3) away[j] = ZERO - dif[j];
  for (int l = 0; l < WORLDS; l++) {
    if (!element_on(near, l)) continue;
    Shape s;
    Spot spots[4];
    double n[3];
    shape_of(w, X, g2, away, l, s);
    for (int j = 0; j < 3; j++) n[j] = element(X.axis(g1)[j], l);
    int count = lowest_points(s, n, element(margin, l), spots);
    for (int m = 0; m < count; m++) {
      for (int j = 0; j < 3; j++) spots[m].n[j] = (float)n[j];
      set_spot(t, m, l, spots[m]);
    }
    most = count > most ? count : most;
  }
  for (int m = 0; m < most; m++) EACH(j, 3) t.o[m][j] += X.centre(g1)[j];
  return most;
}
