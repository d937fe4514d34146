// Where a face is on a face, or an edge on a face, of two convex shapes that touch: up to four contacts, with
// the face's normal. MuJoCo takes them to lie on each other if they do to within 0.0889 rad. Part of touch.h.

#define ALIGNED 0.99605099  // cosine and sine of it
#define ACROSS 0.088782944

struct Feature {  // what supports a shape in the direction of the other: dim corners of it, and the first's place
  int dim, corner[3];
  double at[3], towards[3];  // towards: the other shape
};
FN void feature_of(const Nearest &f, bool of_b, Feature &x) {
  const Simplex &s = f.at;
  const int *ids = of_b ? s.of_b : s.of_a;
  int second = s.n > 1, third = s.n > 2 ? 2 : 0, c[3] = {ids[0], ids[second], ids[third]};
  if (c[0] == c[1]) c[1] = c[2], x.dim = c[0] == c[2] ? 1 : 2;
  else x.dim = c[2] == c[0] || c[2] == c[1] ? 2 : 3;
  for (int j = 0; j < 3; j++) {
    x.corner[j] = c[j], x.towards[j] = of_b ? -f.n[j] : f.n[j];
    x.at[j] = of_b ? f.on_b[j] : f.on_a[j];
  }
}
FN void along_axis(const Shape &s, int axis, double side, double *n) {
  for (int j = 0; j < 3; j++) n[j] = side * s.R[3 * j + axis];
}
FN void in_world(const Shape &s, const double *local, double *x) {
  rotate(s.R, local, x);
  for (int j = 0; j < 3; j++) x[j] += s.centre[j];
}
FN void corner_of(const Shape &s, int corner, double *x) {  // of a box or hull
  double local[3];
  for (int j = 0; j < 3; j++) local[j] = s.kind == BOX_SHAPE ? (corner >> j & 1 ? s.size[j] : -s.size[j]) : s.corners[CORNER * corner + j];
  in_world(s, local, x);
}
#if HAS_HULLS
FN bool has_corner(const Shape &s, int face, int corner) {
  const float *row = s.faces + FACE * face, *own = s.face_corners + (int)row[3];
  for (int i = 0; i < (int)row[4]; i++) if ((int)own[i] == corner) return true;
  return false;
}
#endif

// The faces that meet in a feature, two times the axis and the side of a box's. Returns how many.
APART int faces_of(const Shape &s, const Feature &f, double (*normal)[3], int *face) {
  int n = 0;
  if (s.kind == CYLINDER_SHAPE && f.dim == 1) {
    along_axis(s, 2, f.corner[0] ? 1 : -1, normal[0]), face[0] = f.corner[0];
    return 1;
  }
  if (s.kind == BOX_SHAPE) {
    int same = 7;
    for (int i = 1; i < f.dim; i++) same &= ~(f.corner[i] ^ f.corner[0]);
    for (int j = 0; j < 3; j++) if (same >> j & 1) {
      int side = f.corner[0] >> j & 1;
      along_axis(s, j, side ? 1 : -1, normal[n]), face[n++] = 2 * j + side;
    }
    for (int i = 0; i < 6 && n == 0; i++) {  // corners across the box
      along_axis(s, i / 2, i % 2 ? 1 : -1, normal[0]), face[0] = i;
      n = dot3(normal[0], f.towards) > ALIGNED;
    }
  }
#if HAS_HULLS
  if (s.kind == HULL_SHAPE) {
    const float *row = s.corners + CORNER * f.corner[0];
    for (int i = 0; i < (int)row[5]; i++) {
      int k = (int)s.corner_faces[(int)row[4] + i];
      if ((f.dim > 1 && !has_corner(s, k, f.corner[1])) || (f.dim > 2 && !has_corner(s, k, f.corner[2]))) continue;
      double local[3];
      for (int j = 0; j < 3; j++) local[j] = s.faces[FACE * k + j];
      rotate(s.R, local, normal[n]), face[n++] = k;
    }
  }
#endif
  return n;
}
// The edges that meet in a feature, from `from` to `to`. Returns how many.
APART int edges_of(const Shape &s, const Feature &f, double *from, double (*to)[3]) {
  for (int j = 0; j < 3; j++) from[j] = f.at[j];
  if (s.kind <= CYLINDER_SHAPE) {  // through where it touches, along the surface
    double arm[3], axis[3];
    along_axis(s, 2, 1, axis);
    for (int j = 0; j < 3; j++) arm[j] = f.at[j] - s.centre[j];
    double up = dot3(arm, axis), first = s.kind == CYLINDER_SHAPE && f.corner[0] ? 1 : -1;
    for (int j = 0; j < 3; j++) from[j] += (first * s.size[1] - up) * axis[j], to[0][j] = from[j] - 2 * first * s.size[1] * axis[j];
    return f.dim < 3;
  }
  corner_of(s, f.corner[0], from);
  if (f.dim > 1) {
    corner_of(s, f.corner[1], to[0]);
    return f.dim == 2;
  }
  if (s.kind == BOX_SHAPE) {
    for (int j = 0; j < 3; j++) corner_of(s, f.corner[0] ^ 1 << j, to[j]);
    return 3;
  }
#if HAS_HULLS
  const float *row = s.corners + CORNER * f.corner[0];
  for (int i = 0; i < (int)row[5]; i++) {  // of each face the one that leads to the corner
    const float *face = s.faces + FACE * (int)s.corner_faces[(int)row[4] + i], *own = s.face_corners + (int)face[3];
    int many = (int)face[4];
    for (int k = 0; k < many; k++) if ((int)own[k] == f.corner[0]) corner_of(s, (int)own[(k + many - 1) % many], to[i]);
  }
  return (int)row[5];
#else
  return 0;
#endif
}
// The corners of a face, clockwise from outside; a cylinder's has sixteen.
FN int polygon_of(const Shape &s, int face, double (*p)[3]) {
  if (s.kind == BOX_SHAPE) {
    int axis = face / 2, side = face % 2;
    const int first[6] = {0, 0, 0, 2, 1, 3};
    for (int i = 0; i < 4; i++) {
      double x[3];
      int k = (first[face] + i) % 4;
      bool up = k == 0 || k == 3, right = k < 2;
      x[axis] = side ? s.size[axis] : -s.size[axis];
      int u = (axis + 1) % 3, v = (axis + 2) % 3;
      x[u] = right ? s.size[u] : -s.size[u], x[v] = up == (side == 1) ? s.size[v] : -s.size[v];
      in_world(s, x, p[i]);
    }
    return 4;
  }
  if (s.kind == CYLINDER_SHAPE) {
    const double step[2] = {0.92387953251128674, 0.38268343236508977};  // of 2 pi / 16
    double side = face ? 1 : -1, x[3] = {s.size[0], 0, side * s.size[1]};
    for (int i = 0; i < 16; i++) {
      in_world(s, x, p[i]);
      double next = step[0] * x[0] + side * step[1] * x[1];
      x[1] = step[0] * x[1] - side * step[1] * x[0], x[0] = next;
    }
    return 16;
  }
#if HAS_HULLS
  const float *row = s.faces + FACE * face, *own = s.face_corners + (int)row[3];
  int many = (int)row[4];
  for (int i = 0; i < many; i++) corner_of(s, (int)own[many - 1 - i], p[i]);
  return many;
#else
  return 0;
#endif
}

// Cuts polygon p, of which an edge is one with two corners, to what is above face `by`, whose normal is n.
APART int cut(const double (*by)[3], int sides, const double *n, double (*p)[3], int count) {
  double out[2 * SIDES][3];
  for (int e = 0; e < sides; e++) {
    const double *a = by[e], *b = by[(e + 1) % sides];
    double edge[3], away[3], d[3];
    int kept = 0;
    for (int j = 0; j < 3; j++) edge[j] = b[j] - a[j];
    cross(n, edge, away);  // to the left of an edge, which is outside
    for (int i = 0; i < count; i++) {
      const double *P = p[i], *Q = p[(i + 1) % count];
      for (int j = 0; j < 3; j++) d[j] = P[j] - a[j];
      double over = dot3(d, away);
      for (int j = 0; j < 3; j++) d[j] = Q[j] - a[j];
      double next = dot3(d, away);
      bool crosses = (over < 1e-10) != (next < 1e-10);
      if (crosses) {
        double part = over * inverse_(over - next);
        for (int j = 0; j < 3; j++) out[kept][j] = P[j] + part * (Q[j] - P[j]);
        kept++;
      }
      if (next < 1e-10) {
        for (int j = 0; j < 3; j++) out[kept][j] = Q[j];
        kept++;
      }
    }
    count = kept;
    for (int i = 0; i < count; i++) for (int j = 0; j < 3; j++) p[i][j] = out[i][j];
  }
  return count;
}
FN double area_of(const double *a, const double *b, const double *c, const double *d) {  // squared
  double x[3], y[3], z[3];
  for (int j = 0; j < 3; j++) x[j] = a[j] - c[j], y[j] = b[j] - d[j];
  cross(x, y, z);
  return dot3(z, z);
}
// Four corners of a convex polygon with much area between them: each goes on as long as that grows. The
// first is one of the first `starts` corners.
FN void widest_four(const double (*p)[3], int count, int starts, int *best) {
  int b = 1, c = 2, d = 3;
#define AREA(b, c, d) area_of(p[a], p[(b) % count], p[(c) % count], p[(d) % count])
#define TAKE best[0] = a, best[1] = b % count, best[2] = c % count, best[3] = d % count
  int a = 0;
  double most = AREA(b, c, d), more;
  TAKE;
  for (; a < starts; a++) {
    while ((more = AREA(b, c, d + 1)) > most) {
      most = more, d++, TAKE;
      while ((more = AREA(b, c + 1, d)) > most) most = more, c++, TAKE;
      while ((more = AREA(b + 1, c, d)) > most) most = more, b++, TAKE;
    }
    if (b % count != a) continue;
    b++;
    if (c % count != b % count) continue;
    c++;
    if (d % count == c % count) d++;
  }
#undef AREA
#undef TAKE
}
// Contacts of polygon p of one shape with a face of the other, `by`, as far as it is above that. n: of the
// contacts, from the first shape; side: 1 if the face is the first's; steep: distances over heights.
APART int contacts_on_face(const Shape &by, int face, const double *normal, double (*p)[3], int count, double margin,
                           const double *n, double side, double steep, Spot *spots) {
  double own[SIDES][3];
  int sides = polygon_of(by, face, own), picked[4] = {0, 1, 2, 3}, many = 0;
  bool edge = count == 2;
  count = cut(own, sides, normal, p, count);
  for (int i = 0; i < count; i++) {
    double d[3];
    for (int j = 0; j < 3; j++) d[j] = p[i][j] - own[0][j];
    if (dot3(d, normal) > margin) continue;
    for (int j = 0; j < 3; j++) p[many][j] = p[i][j];
    many++;
  }
  if (edge && many > 2) {  // corners that are there twice
    double farthest = 0;
    for (int i = 0; i < many; i++) for (int k = i + 1; k < many; k++) {
      double d[3];
      for (int j = 0; j < 3; j++) d[j] = p[k][j] - p[i][j];
      if (dot3(d, d) > farthest) farthest = dot3(d, d), picked[0] = i, picked[1] = k;
    }
    many = 2;
  } else if (many > 4) {
    widest_four(p, many, many, picked), many = 4;
  }
  for (int i = 0; i < many; i++) {
    double d[3], height, dist;
    for (int j = 0; j < 3; j++) d[j] = p[picked[i]][j] - own[0][j];
    height = dot3(d, normal), dist = steep * height;
    spots[i].dist = (float)dist;
    for (int j = 0; j < 3; j++) {
      spots[i].o[j] = (float)(p[picked[i]][j] - height * normal[j] + 0.5 * side * dist * n[j]);
      spots[i].n[j] = (float)n[j];
    }
  }
  return many;
}

// An edge of one shape on a face of the other: the first edge and face that are across.
FN int edge_on_face(const Shape &own, const Feature &f, const Shape &other, int faces, const double (*normal)[3],
                    const int *face, double margin, double side, Spot *spots) {
  double from[3], to[MEETING][3], p[2 * SIDES][3], n[3];
  int edges = edges_of(own, f, from, to);
  for (int i = 0; i < faces; i++) {
    if (dot3(normal[i], f.towards) >= -ACROSS) continue;
    for (int k = 0; k < edges; k++) {
      double d[3];
      for (int j = 0; j < 3; j++) d[j] = to[k][j] - from[j];
      double slope = dot3(d, normal[i]);
      if (slope * slope >= ACROSS * ACROSS * dot3(d, d)) continue;
      for (int j = 0; j < 3; j++) {  // MuJoCo's capsules are wider by half the margin
        double wider = own.kind == LINE_SHAPE ? 0.5 * margin * (f.towards[j] + normal[i][j]) : 0;
        p[0][j] = from[j] + wider, p[1][j] = to[k][j] + wider, n[j] = side * normal[i][j];
      }
      return contacts_on_face(other, face[i], normal[i], p, 2, margin, n, side, 1, spots);
    }
  }
  return 0;
}
// All contacts of shapes that are nearest as `f` says, if they lie on each other; else none.
APART int lying_contacts(const Shape &a, const Shape &b, const Nearest &f, double margin, Spot *spots) {
  Feature of_a, of_b;
  double normal_a[MEETING][3], normal_b[MEETING][3], p[2 * SIDES][3], n[3], best = -ALIGNED;
  int face_a[MEETING], face_b[MEETING], one = -1, two = -1;
  feature_of(f, false, of_a), feature_of(f, true, of_b);
  int faces_a = faces_of(a, of_a, normal_a, face_a), faces_b = faces_of(b, of_b, normal_b, face_b);
  for (int i = 0; i < faces_a; i++) for (int k = 0; k < faces_b; k++) {
    if (dot3(normal_a[i], f.n) <= ACROSS || dot3(normal_b[k], f.n) >= -ACROSS) continue;
    double along = dot3(normal_a[i], normal_b[k]);
    if (along < best) best = along, one = i, two = k;
  }
  if (one >= 0) {
    int count = polygon_of(b, face_b[two], p);
    for (int j = 0; j < 3; j++) n[j] = -normal_b[two][j];
    return contacts_on_face(a, face_a[one], normal_a[one], p, count, margin, n, 1, -best, spots);
  }
  int many = 0;
  if (of_a.dim < 3) many = edge_on_face(a, of_a, b, faces_b, normal_b, face_b, margin, -1, spots);
  if (of_a.dim == 1 && of_b.dim == 1 && b.kind != HULL_SHAPE) return many;  // MuJoCo 4.0 mostly finds none
  if (of_b.dim < 3 && !many) many = edge_on_face(b, of_b, a, faces_a, normal_a, face_a, margin, 1, spots);
  return many;
}
