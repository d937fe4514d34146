// How deep boxes and hulls are in a prism of a height field, from the directions that count. Part of
// convex_ground.h.

// Whether a prism reaches over a box or hull along d, and by how much, if that is less than `least`.
FN bool reaches_over(Shape &prism, Shape &s, const double *d, double &least, double *best) {
  double n[3], square = dot3(d, d), over;
  if (square < 1e-18) return true;  // parallel edges have no direction
  double scale = inverse_(sqrt_(square));
  for (int j = 0; j < 3; j++) n[j] = d[j] * scale;
  over = overlap(prism, s, n);
  if (over < least - 1e-9) {
    least = over;
    for (int j = 0; j < 3; j++) best[j] = n[j];
  }
  return over > 0;
}
#if HAS_HULLS
// The same along the normals of a hull's faces.
FN bool reaches_over_faces(const Shape &prism, const Shape &s, double &least, double *best) {
  for (int k = 0; k < s.many_faces; k++) {
    const float *face = s.faces + FACE * k;
    double local[3] = {face[0], face[1], face[2]}, out[3], corner[3], lowest = 1e300;
    rotate(s.R, local, out), corner_of(s, (int)s.face_corners[(int)face[3]], corner);
    for (int j = 0; j < 3; j++) corner[j] -= prism.centre[j];
    for (int i = 0; i < 6; i++) lowest = min_(lowest, dot3(prism.prism[i], out));
    double over = dot3(corner, out) - lowest;
    if (over < least - 1e-9) {
      least = over;
      for (int j = 0; j < 3; j++) best[j] = -out[j];
    }
    if (over <= 0) return false;
  }
  return true;
}
#endif
// How far a box or hull is in a prism, and the direction of the least motion that parts them: that of a face of
// either, or of two edges; edges of hulls are left to `part`. Zero or less if they do not touch.
APART double depth_in_prism(Shape &prism, Shape &s, double *n) {
  const double (*v)[3] = prism.prism;
  double least = 1e300, edges[7][3] = {}, d[3] = {0, 0, -1};
  edges[6][2] = 1;
  for (int i = 0; i < 3; i++) for (int j = 0; j < 3; j++) {
    edges[i][j] = v[(i + 1) % 3][j] - v[i][j];
    if (j < 2) edges[3 + i][j] = edges[i][j];
  }
  if (!reaches_over(prism, s, d, least, n)) return 0;
  cross(edges[0], edges[1], d);
  if (d[2] < 0) for (int j = 0; j < 3; j++) d[j] = -d[j];
  if (!reaches_over(prism, s, d, least, n)) return 0;
  for (int i = 0; i < 3; i++) {  // its sides
    double x = edges[i][1], y = -edges[i][0], inwards = x * edges[(i + 1) % 3][0] + y * edges[(i + 1) % 3][1];
    d[0] = inwards > 0 ? -x : x, d[1] = inwards > 0 ? -y : y, d[2] = 0;
    if (!reaches_over(prism, s, d, least, n)) return 0;
  }
#if HAS_HULLS
  if (s.kind == HULL_SHAPE) return reaches_over_faces(prism, s, least, n) ? least : 0;
#endif
  for (int axis = 0; axis < 6; axis++) {
    double own[3];
    for (int j = 0; j < 3; j++) own[j] = axis % 2 ? -s.R[3 * j + axis / 2] : s.R[3 * j + axis / 2];
    if (!reaches_over(prism, s, own, least, n)) return 0;
    for (int i = 0; i < 7; i++) {
      cross(edges[i], own, d);
      if (!reaches_over(prism, s, d, least, n)) return 0;
    }
  }
  return least;
}
FN void note_corner(const double *x, const double *n, double &most, int &many, double (*found)[3]) {
  double along = dot3(x, n);
  if (along < most - 1e-7) return;
  if (along > most + 1e-7) many = 0;
  most = many ? most : along;
  if (many < 3) for (int j = 0; j < 3; j++) found[many][j] = x[j];
  many++;
}
// Where a box touches a prism whose overlap along n is the least, if one corner or one edge of each is there;
// `part` finds one of many points.
FN bool touch_with_corners(const Shape &prism, const Shape &s, double depth, Nearest &f) {
  double p[3][3], q[3][3], x[3], back[3], most = -1e300;
  int of_prism = 0, of_box = 0;
  for (int i = 0; i < 6; i++) note_corner(prism.prism[i], f.n, most, of_prism, p);
  for (int j = 0; j < 3; j++) back[j] = -f.n[j];
  most = -1e300;
  for (int i = 0; i < 8; i++) corner_of(s, i, x), note_corner(x, back, most, of_box, q);
  if (of_prism > 1 && of_box > 1 && (of_prism > 2 || of_box > 2)) return false;
  for (int i = 0; i < 3; i++) for (int j = 0; j < 3; j++) p[i][j] += prism.centre[j];
  if (of_prism > 1 && of_box > 1) {  // the edges' nearest points
    double u[3], v[3], apart[3], across[3], t[3];
    for (int j = 0; j < 3; j++) u[j] = p[1][j] - p[0][j], v[j] = q[1][j] - q[0][j], apart[j] = q[0][j] - p[0][j];
    cross(u, v, across), cross(apart, v, t);
    if (dot3(across, across) < 1e-12 * dot3(u, u) * dot3(v, v)) return false;
    double along = dot3(t, across) * inverse_(dot3(across, across));
    for (int j = 0; j < 3; j++) f.on_a[j] = p[0][j] + along * u[j];
  } else {
    for (int j = 0; j < 3; j++) f.on_a[j] = of_box == 1 ? q[0][j] + depth * f.n[j] : p[0][j];
  }
  for (int j = 0; j < 3; j++) f.on_b[j] = f.on_a[j] - depth * f.n[j];
  f.dist = -depth;
  return true;
}
