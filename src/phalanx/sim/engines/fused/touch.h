// Where two geoms touch, as MuJoCo finds it. Geoms are placed from the origin of the first one's tree;
// `dif` is from the second's centre to the first's. Part of step.h.

// The world's positions of all geoms of body k that may touch others.
FN void place_geoms(World &w, Pairs &X, int k) {
  for (int g = GEOM0[k]; g < GEOM1[k]; g++) {
    F x[3], half[3], centre[3], axis[3];
    EACH(i, 3) x[i] = T(geom, g, i), half[i] = T(geom, g, 3 + i);
    rotate(w.R[k], x, centre), rotate(w.R[k], half, axis);
    EACH(i, 3) X.centre(g)[i] = centre[i] + w.p[k][i], X.axis(g)[i] = axis[i];  // lanes may write it at once
  }
}

// Nearest points of two capsules' axes, as MuJoCo finds them: parts x1, x2 in [-1, 1] of the axes.
FN void nearest_on_axes(const F *axis1, const F *axis2, const F *dif, int kind, F &x1, F &x2) {
  F ma = dot3(axis1, axis1), mb = ZERO - dot3(axis1, axis2), mc = dot3(axis2, axis2);
  F u = ZERO - dot3(axis1, dif), v = dot3(axis2, dif);
  x1 = x2 = ZERO;
  if (kind == SPHERE_SPHERE) return;
  if (kind == SPHERE_CAPSULE) {
    x2 = min_(max_(v / mc, ZERO - 1.0f), ONE);
    return;
  }
  // Vector products keep the digits of axes that are nearly parallel
  F across[3], one[3], two[3];
  cross(axis1, axis2, across), cross(axis1, dif, one), cross(axis2, dif, two);
  F det = dot3(across, across), least = ma * mc * 1e-10f;
  x1 = dot3(two, across) / max_(det, least);
  x2 = dot3(one, across) / max_(det, least);
  // Parallel: the middle of where they lie side by side, or the nearest ends
  B parallel = det < least;
  F at = u / ma, reach = abs_(mb) / ma;
  F middle = 0.5f * (max_(ZERO - 1.0f, at - reach) + min_(ONE, at + reach));
  x1 = select(parallel, min_(max_(middle, ZERO - 1.0f), ONE), x1);
  x2 = select(parallel, (v - x1 * mb) / mc, x2);
  B over = x1 > 1.0f, under = x1 < -1.0f;
  x2 = select(over, (v - mb) / mc, select(under, (v + mb) / mc, x2));
  x1 = min_(max_(x1, ZERO - 1.0f), ONE);
  over = x2 > 1.0f, under = x2 < -1.0f;
  x1 = select(over, (u - mb) / ma, select(under, (u + mb) / ma, x1));
  x1 = min_(max_(x1, ZERO - 1.0f), ONE);
  x2 = min_(max_(x2, ZERO - 1.0f), ONE);
}

struct Touches {  // of two geoms; dist is large in worlds that have fewer
  F dist[MAXTOUCH], o[MAXTOUCH][3], n[MAXTOUCH][3];
};
FN void no_touches(Touches &t) {
  EACH(m, MAXTOUCH) {
    t.dist[m] = ZERO + 1e9f;
    EACH(j, 3) t.o[m][j] = ZERO, t.n[m][j] = j == 2 ? ONE : ZERO;
  }
}
FN int grid_index(float x, int most) { return !(x > 0) ? 0 : x > (float)most ? most : (int)x; }  // 0 for NaN
// From the axes R of a geom, about the centre of geom g2, to the world's axes.
FN void turn_touches(const Pairs &X, int g2, const F *R, int count, Touches &t) {
  for (int m = 0; m < count; m++) {
    F n[3], rel[3];
    rotate(R, t.n[m], n), rotate(R, t.o[m], rel);
    EACH(j, 3) t.n[m][j] = n[j], t.o[m][j] = X.centre(g2)[j] + rel[j];
  }
}

FN void touch_capsules(const Pairs &X, int kind, int g1, int g2, const F *dif, F r1, F r2, Touches &t) {
  F x1, x2, *n = t.n[0], *o = t.o[0], distance = ZERO;
  nearest_on_axes(X.axis(g1), X.axis(g2), dif, kind, x1, x2);
  EACH(j, 3) {
    F arm = x1 * X.axis(g1)[j];
    o[j] = X.centre(g1)[j] + arm;
    n[j] = x2 * X.axis(g2)[j] - arm - dif[j];
    distance += n[j] * n[j];
  }
  B cross_ = distance < 1e-12f;  // axes that meet: along their common normal
  if (kind == CAPSULE_CAPSULE && any_(cross_)) {
    F across[3];
    cross(X.axis(g1), X.axis(g2), across);
    EACH(j, 3) n[j] = select(cross_, across[j], n[j]);
  }
  n[0] = select(dot3(n, n) < 1e-24f, ONE, n[0]);  // one centre, or one line
  F inverse = rsqrt_(max_(dot3(n, n), ZERO + 1e-24f));
  t.dist[0] = select(cross_, ZERO, distance * inverse) - r1 - r2;
  F depth = r1 + 0.5f * t.dist[0];
  EACH(j, 3) n[j] *= inverse, o[j] += n[j] * depth;
}

FN void geom_rotation(const World &w, const Pairs &X, int g, F *R) {  // of a box or cylinder
  F own[9];
  if (LANES > 1 && GEOM_LANE[g] >= 0 && GEOM_LANE[g] != LANE) {  // another lane's, see share_geoms
    EACH(i, 9) R[i] = X.rotation[SOLID_OF[g]][i];
    return;
  }
  EACH(i, 9) own[i] = T(solid, SOLID_OF[g], i);
  if (GEOM_SLOT[g] < 0) EACH(i, 9) R[i] = own[i];
  else multiply3(w.R[GEOM_SLOT[g]], own, R);
}

// A cylinder on a plane, whose normal is in X.axis(g1): the lowest points of its lower and upper rim,
// and two more that make a triangle of the lower rim.
FN int touch_plane(const World &w, const Pairs &X, int g1, int g2, const F *dif, F margin, Touches &t) {
  F R[9], rim[3], sideways[3], down[3], half[3], radius = T(geom, g2, 6);
  const F *n = X.axis(g1);
  geom_rotation(w, X, g2, R);
  F dist = ZERO - dot3(dif, n), up[3];
  rotate_back(R, n, up);
  // Where the rim is lowest, from the axes across: keeps its digits if the cylinder is upright
  F flat2 = up[0] * up[0] + up[1] * up[1], scale = radius * rsqrt_(max_(flat2, ZERO + 1e-30f));
  B upright = flat2 < 1e-30f;
  F x = select(upright, radius, ZERO - up[0] * scale), y = select(upright, ZERO, ZERO - up[1] * scale);
  F side = select(up[2] > 0.0f, ZERO - 1.0f, ONE), drop = up[0] * x + up[1] * y;
  EACH(j, 3) {
    rim[j] = R[3 * j] * x + R[3 * j + 1] * y;
    sideways[j] = (R[3 * j] * y - R[3 * j + 1] * x) * 0.8660254f;
    half[j] = X.axis(g2)[j], down[j] = side * half[j];
  }
  F end = side * dot3(half, n);
  t.dist[0] = dist + end + drop, t.dist[1] = dist - end + drop;
  t.dist[2] = t.dist[3] = dist + end - 0.5f * drop;
  EACH(m, 4) {
    F off = select(t.dist[0] > margin, ZERO + 1e9f, ZERO), middle = 0.5f * t.dist[m];
    EACH(j, 3) {
      F at = m == 0 ? rim[j] + down[j] : m == 1 ? rim[j] - down[j] : down[j] - 0.5f * rim[j] + (m == 2 ? sideways[j] : ZERO - sideways[j]);
      t.o[m][j] = X.centre(g1)[j] - dif[j] + at - n[j] * middle, t.n[m][j] = n[j];
    }
    t.dist[m] += off;
  }
  return 4;
}

#if HAS_SOLIDS
#include "boxes.h"
FN void set_spot(Touches &t, int m, int l, const Spot &spot) {
  set_element(t.dist[m], l, spot.dist);
  EACH(j, 3) set_element(t.o[m][j], l, spot.o[j]), set_element(t.n[m][j], l, spot.n[j]);
}
// Whether a sphere, or a capsule's whole length, is beyond a face of box g2.
FN B beyond_a_face(const World &w, const Pairs &X, int g1, int g2, const F *R, const F *dif, F reach) {
  F c[3], h[3];
  B beyond = ONE < 0.0f;
  rotate_back(R, dif, c), rotate_back(R, X.axis(g1), h);
  EACH(j, 3) beyond = beyond | (abs_(c[j]) - abs_(h[j]) > T(solid, SOLID_OF[g2], 9 + j) + reach);
  return beyond;
}
FN void box_of_world(const World &w, int g, const F *centre, const F *R, int l, Box &box) {
  EACH(j, 9) box.R[j] = element(R[j], l);
  EACH(j, 3) box.centre[j] = element(centre[j], l), box.size[j] = element(T(solid, SOLID_OF[g], 9 + j), l);
}
// Contacts of a geom with a box or cylinder, in worlds `near`; returns the most of a world.
STAGE int touch_solids(const World &w, const Pairs &X, int kind, int g1, int g2, const F *dif, F margin, B near, Touches &t) {
  F R1[9], R2[9], centre2[3], radius = kind == BOX_BOX ? ZERO : T(geom, g1, 6);
  int most = 0;
  EACH(j, 3) centre2[j] = X.centre(g1)[j] - dif[j];
  EACH(j, 9) R1[j] = ZERO;
  geom_rotation(w, X, g2, R2);
  if (kind == BOX_BOX) geom_rotation(w, X, g1, R1);
  else if (kind != SPHERE_CYLINDER) near = near & !beyond_a_face(w, X, g1, g2, R2, dif, radius + margin);
  if (!any_(near)) return 0;
  no_touches(t);
  for (int l = 0; l < WORLDS; l++) {
    if (!element_on(near, l)) continue;
    Spot spots[MAXTOUCH] = {};
    Box box, other;
    int n;
    box_of_world(w, g2, centre2, R2, l, box);
    if (kind == BOX_BOX) {
      box_of_world(w, g1, X.centre(g1), R1, l, other);
      n = box_box(other, box, element(margin, l), spots);
    } else {
      float centre[3], half[3];
      EACH(j, 3) centre[j] = element(X.centre(g1)[j], l), half[j] = element(X.axis(g1)[j], l);
      if (kind == SPHERE_CYLINDER) n = sphere_cylinder(centre, element(radius, l), box, element(margin, l), spots);
      else n = capsule_box(centre, half, element(radius, l), box, element(margin, l), spots);
    }
    if (kind == SPHERE_CYLINDER && n && dot3(spots->n, spots->n) == 0) {  // on its axis: any way out
      float to = element(radius, l) + 0.5f * spots->dist;
      EACH(j, 3) spots->n[j] = box.R[3 * j], spots->o[j] += box.R[3 * j] * to;
    }
    for (int m = 0; m < n; m++) set_spot(t, m, l, spots[m]);
    most = n > most ? n : most;
  }
  return most;
}
#else
FN int touch_solids(const World &, const Pairs &, int, int, int, const F *, F, B, Touches &) { return 0; }
#endif

#if HAS_HFIELDS
#include "ground.h"
#else
FN int touch_ground(const World &, const Pairs &, int, int, const F *, B, Touches &) { return 0; }
#endif

#if HAS_CONVEX || HAS_LOWEST || HAS_PRISMS
#include "convex_pairs.h"
#else
FN int touch_convex(const World &, const Pairs &, int, int, const F *, F, B, Touches &) { return 0; }
FN int touch_plane_lowest(const World &, const Pairs &, int, int, const F *, F, B, Touches &) { return 0; }
#endif

#if HAS_PRISMS
#include "convex_ground.h"
#else
template <bool> FN int touch_ground_with_shape(const World &, const Pairs &, int, int, const F *, B, Touches &) { return 0; }
#endif

#if HAS_BOX_FIELDS
#include "box_ground.h"
#else
template <bool> FN int touch_boxes(const World &, const Pairs &, int, int, int, F, B, Touches &) { return 0; }
#endif

// For shapes of convex.h, which take long, only worlds of `near` where the boxes around both overlap, too.
FN B overlapping(const World &w, const Pairs &X, int kind, int g1, int g2, const F *dif, F margin, B near) {
#if HAS_CONVEX
  if (kind >= SPHERE_ELLIPSOID && kind < HFIELD_BOX && any_(near)) return near & !boxes_apart(w, X, g1, g2, dif, margin);
#endif
  return near;
}
// Contacts of geoms g1 and g2 in worlds that are `near`, which may be none; returns the most of a world. Each kind
// has a branch of its own, as the call in the last of nested ones would lie deep in them, see convex.h.
FN int find_touches(const World &w, const Pairs &X, int kind, int g1, int g2, const F *dif, F margin, B near, Touches &t) {
  bool on = any_(near);
  int count = on && kind <= CAPSULE_CAPSULE;
  if (count) touch_capsules(X, kind, g1, g2, dif, T(geom, g1, 6), T(geom, g2, 6), t);
  // In the order of KINDS in touches.py
  if (HAS_SOLID_PAIRS && on && kind > CAPSULE_CAPSULE && kind < PLANE_CYLINDER)
    count = touch_solids(w, X, kind, g1, g2, dif, margin, near, t);
  if (HAS_CYLINDERS && on && kind == PLANE_CYLINDER) count = touch_plane(w, X, g1, g2, dif, margin, t);
  if (HAS_HFIELDS && on && kind > PLANE_CYLINDER && kind < PLANE_ELLIPSOID) count = touch_ground(w, X, g1, g2, dif, near, t);
  if (HAS_LOWEST && on && kind >= PLANE_ELLIPSOID && kind < HFIELD_ELLIPSOID)
    count = touch_plane_lowest(w, X, g1, g2, dif, margin, near, t);
  if (HAS_PRISMS && on && kind >= HFIELD_ELLIPSOID && kind < SPHERE_ELLIPSOID)
    count = touch_ground_with_shape<false>(w, X, g1, g2, dif, near, t);
  if (HAS_CONVEX && on && kind >= SPHERE_ELLIPSOID && kind < HFIELD_BOX)
    count = touch_convex(w, X, g1, g2, dif, margin, near, t);
  if (HAS_GROUND_SOLIDS && on && kind >= HFIELD_BOX && kind < BOXES_SPHERE)
    count = touch_ground_with_shape<true>(w, X, g1, g2, dif, near, t);
  if (HAS_BOX_FIELDS && on && kind >= BOXES_SPHERE && kind <= BOXES_BOX)
    count = touch_boxes<false>(w, X, kind, g1, g2, margin, near, t);
  if (HAS_CONVEX_ON_BOXES && on && kind > BOXES_BOX) count = touch_boxes<true>(w, X, kind, g1, g2, margin, near, t);
  return count;
}
