// Where spheres, capsules and boxes touch a box, and spheres a cylinder, as MuJoCo finds it. Part of
// step.h. The cases branch too much for vectors of worlds, so these are of one world at a time.

struct Spot {  // one contact: distance [m], the middle between the surfaces, normal to the second geom
  float dist, o[3], n[3];
};
struct Box {  // or a cylinder
  float centre[3], R[9], size[3];
};

// A sphere against a box, in the box's frame.
FN bool sphere_box(const float *centre, float radius, const float *size, float margin, Spot &spot) {
  float to[3], square = 0;
  EACH(j, 3) to[j] = min_(max_(centre[j], -size[j]), size[j]) - centre[j], square += to[j] * to[j];
  float reach = radius + margin;
  if (square > 1e-30f) {
    if (reach < 0 || square > reach * reach) return false;
    float dist = sqrt_(square);
    EACH(j, 3) spot.n[j] = to[j] / dist, spot.o[j] = centre[j] + 0.5f * (to[j] + spot.n[j] * radius);
    spot.dist = dist - radius;
    return true;
  }
  // its centre is inside: out through the nearest face
  int face = 0;
  float depth = 1e30f;
  for (int j = 0; j < 3; j++) {
    if (size[j] + centre[j] < depth) depth = size[j] + centre[j], face = 2 * j;
    if (size[j] - centre[j] < depth) depth = size[j] - centre[j], face = 2 * j + 1;
  }
  EACH(j, 3) spot.n[j] = j == face / 2 ? (face % 2 ? -1.0f : 1.0f) : 0.0f;
  EACH(j, 3) spot.o[j] = centre[j] + spot.n[j] * 0.5f * (radius - depth);
  spot.dist = -depth - radius;
  return true;
}

FN float room(float length, float speed) { return length / max_(abs_(speed), 1e-12f); }

// The axis of a capsule, centre + t half for t in [-1, 1], in the box's frame: t[0] where it is
// nearest to the box, and t[1] a second place that keeps the capsule from turning about the first:
// the farthest one above the same face or edge. Returns how many there are.
FN int nearest_to_box(const float *centre, const float *half, const float *size, float *t) {
  float best = 1e30f, along = 0, length2 = dot3(half, half);
  int face = -2, edge = -1, corner = 0;  // face -1: an end is inside
  bool at_corner = false;
  for (int end = -1; end <= 1; end += 2) {
    int outside = 0, axis = -1;
    float square = 0;
    EACH(j, 3) {
      float x = centre[j] + end * half[j], over = max_(abs_(x) - size[j], 0.0f);
      if (over > 0) outside++, axis = j;
      square += over * over;
    }
    if (outside > 1 || square >= best) continue;
    best = square, t[0] = end, face = axis;
  }
  for (int j = 0; j < 3; j++) {
    for (int i = 0; i < 8; i++) {
      if (i >> j & 1) continue;
      // the edge along axis j with the other coordinates at corner i: y in [-1, 1] along it
      float d[3], across = length2 - half[j] * half[j], dot = 0, square = 0;
      if (across < 1e-10f * length2) continue;  // parallel: its ends are near faces or corners
      EACH(m, 3) d[m] = (m == j ? 0.0f : i >> m & 1 ? size[m] : -size[m]) - centre[m];
      EACH(m, 3) if (m != j) dot += half[m] * d[m];
      float x = dot / across, y = (x * half[j] - d[j]) / size[j];
      int clamped = y > 1 ? 1 : y < -1 ? -1 : 0;
      if (clamped) y = clamped, x = (dot + half[j] * (d[j] + y * size[j])) / length2;
      if (abs_(x) > 1) {
        x = x > 0 ? 1.0f : -1.0f, y = (x * half[j] - d[j]) / size[j];
        if (abs_(y) > 1) y = clamped = y > 0 ? 1 : -1;
      }
      d[j] += size[j] * y;
      EACH(m, 3) square += (d[m] - x * half[m]) * (d[m] - x * half[m]);
      if (square >= best) continue;
      best = square, t[0] = x, along = y, face = -2, edge = j;
      at_corner = clamped != 0, corner = i + (clamped > 0 ? 1 << j : 0);
    }
  }
  float second, side;
  if (face == -1) return 1;
  if (face >= 0) {
    side = -t[0], second = 2;
    for (int j = 0; j < 3; j++) {
      float speed = side * half[j], x = centre[j] + t[0] * half[j];
      if (j == face || abs_(speed) < 1e-12f) continue;
      float leave = ((speed > 0 ? size[j] : -size[j]) - x) / speed;
      if (leave > 0) second = min_(second, leave);
      float enter = ((speed > 0 ? -size[j] : size[j]) - x) / speed;
      if (enter > 0) second = min_(second, enter);
    }
    t[1] = t[0] + side * second;
    return 2;
  }
  if (edge < 0) return 0;
  int inward = 0;  // axes along which +half leads from the corner into the box
  for (int j = 0; j < 3; j++) inward |= ((half[j] > 0) != (corner >> j & 1)) << j;
  if (at_corner) {
    if (inward == 0 || inward == 7) return 1;
    side = 1;
    if (inward == 3 || inward == 5 || inward == 6) side = -1, inward = 7 - inward;
    int j = inward == 4 ? 2 : inward - 1, j1 = (j + 1) % 3, j2 = (j + 2) % 3;
    if (2 * half[j] * half[j] > length2) {  // along the edge
      second = min_(1 - side * t[0], room(2 * size[j], half[j]));
    } else {  // over the face
      second = min_(1 + side * t[0], min_(room(2 * size[j1], half[j1]), room(2 * size[j2], half[j2])));
      side = -side;
    }
  } else {
    inward &= 7 - (1 << edge);
    if (inward != 1 && inward != 2 && inward != 4) return 1;  // the edge is across the axis
    int j1 = (edge + 1) % 3, j2 = (edge + 2) % 3;
    int j = abs_(half[j1]) > abs_(half[j2]) ? j1 : j2;
    side = inward >> j & 1 ? 1.0f : -1.0f;
    float left = side * half[edge] > 0 ? 1 - along : 1 + along;
    second = min_(1 - side * t[0], min_(room(2 * size[j], half[j]), room(size[edge] * left, half[edge])));
  }
  t[1] = t[0] + side * second;
  return 2;
}

// A sphere or capsule, `half` its half axis, against a box; all in the world's axes.
FN int capsule_box(const float *centre, const float *half, float radius, const Box &box, float margin, Spot *spots) {
  float dif[3], c[3], h[3], t[2] = {0, 0};
  EACH(j, 3) dif[j] = centre[j] - box.centre[j];
  rotate_back(box.R, dif, c), rotate_back(box.R, half, h);
  int places = dot3(h, h) > 0 ? nearest_to_box(c, h, box.size, t) : 1, n = 0;
  for (int i = 0; i < places; i++) {
    float at[3];
    Spot local = {};
    EACH(j, 3) at[j] = c[j] + t[i] * h[j];
    if (!sphere_box(at, radius, box.size, margin, local)) continue;
    Spot &spot = spots[n++];
    spot.dist = local.dist;
    rotate(box.R, local.n, spot.n), rotate(box.R, local.o, spot.o);
    EACH(j, 3) spot.o[j] += box.centre[j];
  }
  return n;
}

// Cuts a polygon at side * v[axis] <= limit; z goes along.
FN int clip(int count, float (*in)[3], float (*out)[3], int axis, float side, float limit) {
  int n = 0;
  for (int k = 0; k < count; k++) {
    const float *p = in[k], *q = in[k + 1 == count ? 0 : k + 1];
    float dp = side * p[axis] - limit, dq = side * q[axis] - limit;
    if (dp <= 0) {
      EACH(j, 3) out[n][j] = p[j];
      n++;
    }
    if ((dp < 0 && dq > 0) || (dp > 0 && dq < 0)) {
      EACH(j, 3) out[n][j] = p[j] + dp / (dp - dq) * (q[j] - p[j]);
      n++;
    }
  }
  return n;
}

// Box b's face against face `f` of box a, which owns the separating axis: b's face is cut to a's.
// M: b's axes in a's frame, at: b's centre there. `flip`: a is the second geom.
FN int face_contacts(const Box &a, const Box &b, const float *M, const float *at, int f, bool flip, float margin, Spot *spots) {
  float side = at[f] >= 0 ? 1.0f : -1.0f, corners[2][12][3];
  int x = (f + 1) % 3, y = (f + 2) % 3, g = 0, n = 0;
  for (int k = 1; k < 3; k++) if (abs_(M[3 * f + k]) > abs_(M[3 * f + g])) g = k;
  int u = (g + 1) % 3, v = (g + 2) % 3, rows[3] = {x, y, f};
  float facing = side * M[3 * f + g] > 0 ? -1.0f : 1.0f;
  for (int k = 0; k < 4; k++) {  // around the face: x, y and the height above a's face
    float su = k == 0 || k == 3 ? b.size[u] : -b.size[u], sv = k < 2 ? b.size[v] : -b.size[v], *p = corners[0][k];
    EACH(r, 3) {
      const float *row = M + 3 * rows[r];
      p[r] = at[rows[r]] + facing * b.size[g] * row[g] + su * row[u] + sv * row[v];
    }
    p[2] = side * p[2] - a.size[f];
  }
  int count = clip(4, corners[0], corners[1], 0, 1, a.size[x]);
  count = clip(count, corners[1], corners[0], 0, -1, a.size[x]);
  count = clip(count, corners[0], corners[1], 1, 1, a.size[y]);
  count = clip(count, corners[1], corners[0], 1, -1, a.size[y]);
  float near = 1e-10f * (a.size[x] * a.size[x] + a.size[y] * a.size[y]), kept[8][2];
  for (int k = 0; k < count && n < 8; k++) {
    const float *p = corners[0][k];
    bool again = p[2] > margin;
    for (int q = 0; q < n; q++) {
      float dx = kept[q][0] - p[0], dy = kept[q][1] - p[1];
      again |= dx * dx + dy * dy < near;
    }
    if (again) continue;
    float local[3];
    local[x] = kept[n][0] = p[0], local[y] = kept[n][1] = p[1];
    local[f] = side * (a.size[f] + 0.5f * p[2]);
    Spot &spot = spots[n++];
    spot.dist = p[2];
    rotate(a.R, local, spot.o);
    EACH(j, 3) spot.o[j] += a.centre[j], spot.n[j] = (flip ? -side : side) * a.R[3 * j + f];
  }
  return n;
}

// Edge i of box a against edge j of box b; `axis`: their common normal in a's frame, from a to b.
// An axis that is square to a box's face has two edges there; the nearer counts.
FN int edge_contact(const Box &a, const Box &b, const float *M, const float *at, int i, int j, const float *axis, float margin, Spot *spots) {
  int i1 = (i + 1) % 3, i2 = (i + 2) % 3, j1 = (j + 1) % 3, j2 = (j + 2) % 3;
  float in_b[3], d[3] = {M[j], M[3 + j], M[6 + j]}, cosine = d[i], gap2 = 1e30f, gap[3] = {}, middle[3] = {};
  rotate_back(M, axis, in_b);
  int twice_a = abs_(axis[i1]) < 1e-5f ? i1 : abs_(axis[i2]) < 1e-5f ? i2 : -1;
  int twice_b = abs_(in_b[j1]) < 1e-5f ? j1 : abs_(in_b[j2]) < 1e-5f ? j2 : -1;
  for (int k = 0; k < 4; k++) {
    if ((k & 1 && twice_a < 0) || (k & 2 && twice_b < 0)) continue;
    float p[3], q[3], corner[3], e[3];
    EACH(m, 3) {
      p[m] = m == i ? 0.0f : axis[m] >= 0 ? a.size[m] : -a.size[m];
      corner[m] = m == j ? 0.0f : in_b[m] >= 0 ? -b.size[m] : b.size[m];
      if (k & 1 && m == twice_a) p[m] = -p[m];
      if (k & 2 && m == twice_b) corner[m] = -corner[m];
    }
    rotate(M, corner, q);
    EACH(m, 3) q[m] += at[m], e[m] = q[m] - p[m];
    float de = e[i], je = dot3(d, e), sine2 = 1 - cosine * cosine;
    float s = sine2 < 1e-12f ? 0.0f : (de - cosine * je) / sine2;
    s = min_(max_(s, -a.size[i]), a.size[i]);
    float r = min_(max_(cosine * s - je, -b.size[j]), b.size[j]);
    s = min_(max_(de + cosine * r, -a.size[i]), a.size[i]);
    p[i] += s;
    EACH(m, 3) q[m] += r * d[m], e[m] = q[m] - p[m];
    if (dot3(e, e) >= gap2) continue;
    gap2 = dot3(e, e);
    EACH(m, 3) gap[m] = e[m], middle[m] = 0.5f * (p[m] + q[m]);
  }
  spots->dist = dot3(gap, axis);
  if (spots->dist > margin) return 0;
  rotate(a.R, middle, spots->o), rotate(a.R, axis, spots->n);
  EACH(m, 3) spots->o[m] += a.centre[m];
  return 1;
}

// Two boxes: the axis of least overlap among 6 normals of faces and 9 of pairs of edges, then
// contacts of that face or those edges. Faces are preferred where it hardly matters.
FN int box_box(const Box &a, const Box &b, float margin, Spot *spots) {
  float d[3], back[3], at_b[3], at_a[3], M[9], Mt[9], scale = 0, best = -1e30f;
  EACH(j, 3) d[j] = b.centre[j] - a.centre[j], back[j] = -d[j], scale += a.size[j] + b.size[j];
  rotate_back(a.R, d, at_b), rotate_back(b.R, back, at_a);
  EACH(i, 3) EACH(j, 3) {
    M[3 * i + j] = a.R[i] * b.R[j] + a.R[3 + i] * b.R[3 + j] + a.R[6 + i] * b.R[6 + j];
    Mt[3 * j + i] = M[3 * i + j];
  }
  int face = 0;
  float slack = margin + 1e-6f * scale;
  for (int f = 0; f < 6; f++) {
    int i = f % 3;
    const float *row = (f < 3 ? M : Mt) + 3 * i, *own = f < 3 ? a.size : b.size, *other = f < 3 ? b.size : a.size;
    float reach = own[i] + abs_(row[0]) * other[0] + abs_(row[1]) * other[1] + abs_(row[2]) * other[2];
    float apart = abs_((f < 3 ? at_b : at_a)[i]) - reach;
    if (apart > slack) return 0;
    if (apart > best) best = apart, face = f;
  }
  float of_face = best, axis[3] = {}, normal[3] = {};
  int edge = -1;
  for (int e = 0; e < 9; e++) {
    int i = e / 3, j = e % 3, i1 = (i + 1) % 3, i2 = (i + 2) % 3;
    axis[i] = 0, axis[i1] = -M[3 * i2 + j], axis[i2] = M[3 * i1 + j];
    float square = dot3(axis, axis), in_b[3];
    if (square < 1e-7f) continue;  // parallel: the faces tell
    float inverse = 1 / sqrt_(square);
    EACH(m, 3) axis[m] *= inverse;
    rotate_back(M, axis, in_b);
    float reach = 0;
    EACH(m, 3) reach += abs_(axis[m]) * a.size[m] + (m == j ? 0.0f : abs_(in_b[m]) * b.size[m]);
    float apart = abs_(dot3(axis, at_b)) - reach;
    if (apart > slack) return 0;
    if (apart - 1e-6f * (abs_(apart) + scale) <= best || apart <= of_face) continue;
    best = apart, edge = e;
    float side = dot3(axis, at_b) < 0 ? -1.0f : 1.0f;
    EACH(m, 3) normal[m] = side * axis[m];
  }
  if (edge >= 0) {
    float cosine = normal[face % 3];
    if (face >= 3) cosine = normal[0] * M[face - 3] + normal[1] * M[face] + normal[2] * M[face + 3];
    if (abs_(cosine) > 0.99f && best < of_face + 0.05f * abs_(of_face)) edge = -1;
  }
  if (edge >= 0) return edge_contact(a, b, M, at_b, edge / 3, edge % 3, normal, slack, spots);
  if (face < 3) return face_contacts(a, b, M, at_b, face, false, margin, spots);
  return face_contacts(b, a, Mt, at_a, face - 3, true, margin, spots);
}

// A sphere against a cylinder, whose half length is size[1].
FN int sphere_cylinder(const float *centre, float radius, const Box &cylinder, float margin, Spot *spots) {
  float dif[3], c[3], n[3];
  EACH(j, 3) dif[j] = centre[j] - cylinder.centre[j];
  rotate_back(cylinder.R, dif, c);
  float across = sqrt_(c[0] * c[0] + c[1] * c[1]), width = cylinder.size[0], half = cylinder.size[1];
  float above = c[2] > 0 ? 1.0f : -1.0f, inverse = 1 / max_(across, 1e-12f), over = abs_(c[2]) - half, dist;
  bool side = over < 0, cap = across < width;
  if (side && cap) side = over < across - width, cap = !side;  // its centre is inside
  if (side) {
    n[0] = -c[0] * inverse, n[1] = -c[1] * inverse, n[2] = 0, dist = across - width;
  } else if (cap) {
    n[0] = n[1] = 0, n[2] = -above, dist = over;
  } else {
    EACH(j, 2) n[j] = c[j] * (width * inverse - 1);
    n[2] = -above * over;
    dist = sqrt_(dot3(n, n));
    EACH(j, 3) n[j] /= max_(dist, 1e-12f);
  }
  spots->dist = dist - radius;
  if (spots->dist > margin) return 0;
  rotate(cylinder.R, n, spots->n);
  EACH(j, 3) spots->o[j] = centre[j] + spots->n[j] * (radius + 0.5f * spots->dist);
  return 1;
}
