// One physics step of MuJoCo, for one world (CUDA) or for a vector of WORLDS worlds (CPU).
//
// F is a float or a vector of floats, one element a world; B a comparison of two F. The model's
// structure comes as constants (see `structure.py`): its moving bodies are cut into slots, one for
// each degree of freedom and one for each free joint, parents before children. Numbers of the model
// are read with T(table, row, column), so that each of them may differ between worlds.
//
// Spatial vectors are (angular, linear) in the world's axes about the origin of their tree, which is
// a free body's position or a fixed point. `docs/physics.md` explains the method.

#define EACH(i, n) _Pragma("unroll") for (int i = 0; i < (n); i++)
#define ONE (ZERO + 1.0f)
#define ZERO (F{})
template <int VALUE> struct Same {  // an array of constants that are all the same
  MEMBER int operator[](int) const { return VALUE; }
};
#include "lanes.h"

// -- vectors, of F or of a float ------------------------------------------------------------------

template <class S> FN S dot3(const S *a, const S *b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }
FN F dot6(const F *a, const F *b) { return dot3(a, b) + dot3(a + 3, b + 3); }
template <class S> FN void cross(const S *a, const S *b, S *out) {
  out[0] = a[1] * b[2] - a[2] * b[1];
  out[1] = a[2] * b[0] - a[0] * b[2];
  out[2] = a[0] * b[1] - a[1] * b[0];
}
template <class S> FN void rotate(const S *R, const S *v, S *out) {
  EACH(i, 3) out[i] = R[3 * i] * v[0] + R[3 * i + 1] * v[1] + R[3 * i + 2] * v[2];
}
template <class S> FN void rotate_back(const S *R, const S *v, S *out) {
  EACH(i, 3) out[i] = R[i] * v[0] + R[3 + i] * v[1] + R[6 + i] * v[2];
}
FN void multiply3(const F *A, const F *B_, F *out) {
  EACH(i, 3) EACH(j, 3) out[3 * i + j] = A[3 * i] * B_[j] + A[3 * i + 1] * B_[3 + j] + A[3 * i + 2] * B_[6 + j];
}
FN void multiply_quat(const F *a, const F *b, F *out) {
  out[0] = a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3];
  out[1] = a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2];
  out[2] = a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1];
  out[3] = a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0];
}
// Zeros, which a program may have left in qpos, become no rotation, as in MuJoCo.
FN void normalize_quat(F *q) {
  F square = q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3];
  auto none = square < 1e-30f;  // the square of mjMINVAL
  F scale = rsqrt_(max_(square, ZERO + 1e-30f));
  EACH(i, 4) q[i] = select(none, i == 0 ? ONE : ZERO, q[i] * scale);
}
FN void matrix_of(const F *q, F *R) {
  F w = q[0], x = q[1], y = q[2], z = q[3];
  R[0] = w * w + x * x - y * y - z * z, R[1] = 2 * (x * y - w * z), R[2] = 2 * (x * z + w * y);
  R[3] = 2 * (x * y + w * z), R[4] = w * w - x * x + y * y - z * z, R[5] = 2 * (y * z - w * x);
  R[6] = 2 * (x * z - w * y), R[7] = 2 * (y * z + w * x), R[8] = w * w - x * x - y * y + z * z;
}
// Sine and cosine to about 1e-7: Cody and Waite's reduction, then minimax polynomials.
FN void sincos_(F x, F &sine, F &cosine) {
  F n = round_(x * 0.63661977f), r = (x - n * 1.5707964f) + n * 4.3711388e-8f, r2 = r * r;
  F a = r + r * r2 * (-1.6666667e-1f + r2 * (8.3333310e-3f + r2 * (-1.9840874e-4f + r2 * 2.7525562e-6f)));
  F b = 1 + r2 * (-0.5f + r2 * (4.1666646e-2f + r2 * (-1.3888378e-3f + r2 * 2.4760495e-5f)));
  F quarter = n - 4 * round_(n * 0.25f - 0.125f);
  quarter = select(quarter < -0.5f, quarter + 4, quarter);
  B odd = (quarter == 1.0f) | (quarter == 3.0f);
  sine = select(quarter > 1.5f, ZERO - select(odd, b, a), select(odd, b, a));
  F c = select(odd, a, b);
  cosine = select((quarter == 1.0f) | (quarter == 2.0f), ZERO - c, c);
}
FN void cross_motion(const F *v, const F *m, F *out) {
  F t[3];
  cross(v, m, out), cross(v, m + 3, out + 3), cross(v + 3, m, t);
  EACH(i, 3) out[3 + i] += t[i];
}
FN void cross_force(const F *v, const F *f, F *out) {
  F t[3];
  cross(v, f, out), cross(v + 3, f + 3, t), cross(v, f + 3, out + 3);
  EACH(i, 3) out[i] += t[i];
}
// Symmetric 6x6 matrices are kept as 21 numbers, their upper triangle by rows.
// No recursion here: a compiler that leaves it in place keeps these matrices in memory.
FN constexpr int upper(int i, int j) { return i * 6 - i * (i - 1) / 2 + j - i; }
FN constexpr int at(int i, int j) { return i <= j ? upper(i, j) : upper(j, i); }
FN void multiply_symmetric(const F *A, const F *x, F *out) {
  EACH(i, 6) {
    F sum = A[at(i, 0)] * x[0];
    EACH(j, 5) sum += A[at(i, j + 1)] * x[j + 1];
    out[i] = sum;
  }
}
// A rigid body's inertia about the tree's origin: xx yy zz xy xz yz, mass x centre, mass.
FN void multiply_inertia(const F *I, const F *v, F *out) {
  F t[3];
  const F *w = v, *l = v + 3, *h = I + 6;
  out[0] = I[0] * w[0] + I[3] * w[1] + I[4] * w[2];
  out[1] = I[3] * w[0] + I[1] * w[1] + I[5] * w[2];
  out[2] = I[4] * w[0] + I[5] * w[1] + I[2] * w[2];
  cross(h, l, t);
  EACH(i, 3) out[i] += t[i];
  cross(w, h, t);
  EACH(i, 3) out[3 + i] = I[9] * l[i] + t[i];
}
FN void add_inertia(F *A, const F *I) {
  A[at(0, 0)] += I[0], A[at(1, 1)] += I[1], A[at(2, 2)] += I[2];
  A[at(0, 1)] += I[3], A[at(0, 2)] += I[4], A[at(1, 2)] += I[5];
  EACH(i, 3) A[at(3 + i, 3 + i)] += I[9];
  A[at(0, 4)] -= I[8], A[at(0, 5)] += I[7], A[at(1, 3)] += I[8];
  A[at(1, 5)] -= I[6], A[at(2, 3)] -= I[7], A[at(2, 4)] += I[6];
}
FN void inertia_in_world(const F *R, const F *p, const F *body, F *I) {
  F M[9] = {body[0], body[3], body[4], body[3], body[1], body[5], body[4], body[5], body[2]}, T_[9], c[3];
  multiply3(R, M, T_);
  F m = body[9];
  rotate(R, body + 6, c);
  EACH(i, 3) c[i] += p[i];
  F cc = dot3(c, c);
  EACH(i, 3) I[i] = dot3(T_ + 3 * i, R + 3 * i) + m * (cc - c[i] * c[i]);
  I[3] = dot3(T_, R + 3) - m * c[0] * c[1];
  I[4] = dot3(T_, R + 6) - m * c[0] * c[2];
  I[5] = dot3(T_ + 3, R + 6) - m * c[1] * c[2];
  EACH(i, 3) I[6 + i] = m * c[i];
  I[9] = m;
}

// -- state of a world while it is stepped ---------------------------------------------------------

struct Contacts {  // with the world
  F offset[MAXCON][3], normal[MAXCON][3], tangent[MAXCON][3], D[MAXCON];
  F x[MAXCON][NBASIS], v[MAXCON][NBASIS];  // J acc - aref and J dir, in the contact's frame
  int point[MAXCON];
};
struct Pairs {  // contacts between bodies
#if GEOMS_NEAR
  MEMBER F *centre(int g) const { return near_geoms + threadIdx.x / LANES * GEOM_STRIDE + g * 6; }
  MEMBER F *axis(int g) const { return centre(g) + 3; }
#else
  F geoms[NGEOM_ + 1][6];
  MEMBER F *centre(int g) { return geoms[g]; }
  MEMBER const F *centre(int g) const { return geoms[g]; }
  MEMBER F *axis(int g) { return geoms[g] + 3; }
  MEMBER const F *axis(int g) const { return geoms[g] + 3; }
#endif
  F offset[MAXPAIR][3], normal[MAXPAIR][3], tangent[MAXPAIR][3], D[MAXPAIR];
  F x[MAXPAIR][PBASIS], v[MAXPAIR][PBASIS];
  F rotation[LANES > 1 && NSOLID ? NSOLID : 1][9];
  F shift[ACROSS_TREES ? MAXPAIR : 1][3];  // from the first geom's tree, which has `offset`, to the second's
  int pair[MAXPAIR];
  unsigned ends[MAXPAIR];  // slots and lanes of both bodies, which are needed together: one word of memory
  MEMBER void set_ends(int c, int slot0, int lane0, int slot1, int lane1) {
    ends[c] = slot0 | slot1 << 12 | (unsigned)(lane0 + 1) << 24 | (unsigned)(lane1 + 1) << 28;
  }
  static_assert(NSLOT <= 1 << 12, "a slot has 12 bits");
  MEMBER int slot(int c, int end) const { return ends[c] >> 12 * end & 0xfff; }
  MEMBER int lane(int c, int end) const { return (int)(ends[c] >> (24 + 4 * end) & 0xf) - 1; }
  // Woodbury: rows scaled by sqrt(D), and what a pass to the roots of two trees makes of them
  int tree[MAXROW][2];
  F u[MAXROW][NSLOT], y[MAXROW][NFREE + 1][6], M[MAXROW * (MAXROW + 1) / 2], rhs[MAXROW], gain[MAXROW];
};
struct Drives {  // of actuators
  F ctrl[NU + 1], force[NU + 1], act[NA + 1];
};
struct Shown {  // what is read after the solver
  Drives *drives;
  const float *shared, *varied;  // numbers of the model, for all worlds and for each
  const Fields *fields;          // of all worlds
  long world, worlds;            // the first of this vector, and how many there are
  int valid;                     // worlds of the vector that exist
  F q[NSLOT], v[NSLOT], acc[NSLOT];
  F R[NSLOT][9], p[NSLOT][3], V[NSLOT][6], c[NSLOT][6], S[NSLOT][6];
  F I[NSLOT][10], wrench[NSLOT][6];      // of a body, at its last slot: inertia; I a + v x I v
  F lside[NSLOT], lD[NSLOT], lx[NSLOT];  // joint limit: direction, 1 / R, J acc - aref
  F fx[NSLOT];                           // joint friction: acc - aref
  F pos[NFREE + NBASE + 1][3], quat[NFREE + NBASE + 1][4], v6[NFREE + 1][6], acc6[NFREE + 1][6];
  F free_x[FREE_FRICTION ? NFREE : 1][6];  // friction of free joints: acc - aref
  F ball[NBALL + 1][4];
  // rows.h; drive and pull: forces of tendons' actuators, and of their springs and dampers
  F row_D[NROW + 1], row_x[NROW + 1], row_v[NROW + 1], coefficient[NROW_TERM + 1], row_motion[NROW_BODY + 1][2][6];
  F row_tau[NROW ? NSLOT : 1], length[NTENDON + 1], speed[NTENDON + 1], drive[NTENDON ? NSLOT : 1], pull[NTENDON ? NSLOT : 1];
  int from[NSLOT + 1];  // contacts of slot k: from[k] ... from[k + 1] - 1
  int ncontact, npair;
};
struct World : Shown {
  F tau[NSLOT], implicit[NSLOT];  // implicit: damping of the integrator
  // Of direction<false>; added9: a free joint's, its rotation's upper triangle and its position's diagonal
  F added[NSLOT], rhs[NSLOT], added9[NFREE + 1][9], rhs6[NFREE + 1][6];
  F applied[NSLOT];  // qfrc_applied
  F tendon_damping[NTENDON + 1], tendon_weight[NDAMPED + 1];  // see couple_tendons
  F A[NSLOT][21], P[NSLOT][6], d[NSLOT];
  // On the way to the roots dV holds U = A S, and dir holds u; on the way out they become the direction.
  F dir[NSLOT], dV[NSLOT][6];
  F tau6[NFREE + 1][6], y6[NFREE + 1][6], d6[NFREE + 1][6];
};

// -- mj_fwdPosition, mj_fwdVelocity ---------------------------------------------------------------

// The impedance of a constraint row at distance r; table columns: dmin, dmax, 1 / width, midpoint,
// power.
FN F impedance(F r, F dmin, F dmax, F inverse_width, F midpoint, F power) {
  F x = min_(abs_(r) * inverse_width, ONE), rest = 1 - x;
  if (!POWERS) {
    F y = select(x <= midpoint, x * x / midpoint, 1 - rest * rest / (1 - midpoint));
    return dmin + y * (dmax - dmin);
  }
  B low = x <= midpoint;
  F base = select(low, midpoint, 1 - midpoint), z = select(low, x, rest);
  F part = power_(z, power) * base / power_(base, power);
  return dmin + select(low, part, 1 - part) * (dmax - dmin);
}

#include "joints.h"

// Position and velocity of slot k from its parent's.
STAGE void kinematics(World &w, int k) {
  int up = UP[k];
  if (KIND[k] == FREE) {
    int f = POSE_OF[k];
    normalize_quat(w.quat[f]);
    matrix_of(w.quat[f], w.R[k]);
    F *V = w.V[k], *c = w.c[k];
    rotate(w.R[k], w.v6[f] + 3, V);
    EACH(i, 3) w.p[k][i] = ZERO, V[3 + i] = w.v6[f][i], c[i] = ZERO;
    cross(V + 3, V, c + 3);
    EACH(i, 3) c[3 + i] -= T(gravity, 0, i);
    return;
  }
  if (NBASE && KIND[k] == BASE) {
    normalize_quat(w.quat[POSE_OF[k]]);
    matrix_of(w.quat[POSE_OF[k]], w.R[k]);
    EACH(i, 3) w.p[k][i] = w.c[k][i] = w.V[k][i] = w.V[k][3 + i] = ZERO, w.c[k][3 + i] = ZERO - T(gravity, 0, i);
    return;
  }
  F Q[9], t[3], N[9], *R = w.R[k], *p = w.p[k], *S = w.S[k], *V = w.V[k], *c = w.c[k];
  EACH(i, 9) Q[i] = T(rotation, k, i);
  EACH(i, 3) t[i] = T(offset, k, i);
  if (up < 0) {
    EACH(i, 9) N[i] = Q[i];
    EACH(i, 3) p[i] = t[i], V[i] = V[3 + i] = c[i] = ZERO, c[3 + i] = ZERO - T(gravity, 0, i);
  } else {
    rotate(w.R[up], t, p);
    EACH(i, 3) p[i] += w.p[up][i];
    multiply3(w.R[up], Q, N);
    EACH(i, 6) V[i] = w.V[up][i], c[i] = w.c[up][i];
  }
#if NBALL
  if (KIND[k] == BALL) {
    ball_kinematics(w, k, N);
    return;
  }
#endif
  F angle = w.q[k] - T(qpos0, k, 0);
  if (KIND[k] == HINGE) {
    F sine, cosine;
    sincos_(angle, sine, cosine);
    EACH(i, 3) {
      R[3 * i] = cosine * N[3 * i] + sine * N[3 * i + 1];
      R[3 * i + 1] = cosine * N[3 * i + 1] - sine * N[3 * i];
      R[3 * i + 2] = N[3 * i + 2];
      S[i] = N[3 * i + 2];
    }
    cross(p, S, S + 3);
  } else {  // slide
    EACH(i, 9) R[i] = N[i];
    EACH(i, 3) S[i] = ZERO, S[3 + i] = N[3 * i + 2], p[i] += N[3 * i + 2] * angle;
  }
  F dS[6];
  cross_motion(V, S, dS);
  EACH(i, 6) c[i] += dS[i] * w.v[k], V[i] += S[i] * w.v[k];
}

STAGE void inertia_and_bias(World &w, int k) {
  F body[10], t[6], *I = w.I[k];
  EACH(i, 10) body[i] = T(inertia, k, i);
  inertia_in_world(w.R[k], w.p[k], body, I);
  multiply_inertia(I, w.V[k], t);
  cross_force(w.V[k], t, w.wrench[k]);
  multiply_inertia(I, w.c[k], t);
  EACH(i, 6) w.wrench[k][i] += t[i];
}

// Where the origin of slot k's tree is in the world.
FN void tree_origin(const Shown &w, int k, F *origin) {
  EACH(i, 3) origin[i] = TREE_POSE[k] < 0 ? T(origin, k, i) : w.pos[TREE_POSE[k]][i];
}

// A point of slot k's frame, from the tree's origin.
FN void place_of(const Shown &w, int k, const F *pos, F *out) {
  rotate(w.R[k], pos, out);
  EACH(i, 3) out[i] += w.p[k][i];
}

// A contact's basis vector i as a motion: normal, two tangents, rotations about the three.
FN void contact_basis(const F *o, const F *n, const F *t, int i, F *b) {
  F f[3];
  if (i % 3 == 0) EACH(j, 3) f[j] = n[j];
  else if (i % 3 == 1) EACH(j, 3) f[j] = t[j];
  else cross(n, t, f);
  if (i < 3) {
    cross(o, f, b);
    EACH(j, 3) b[3 + j] = f[j];
  } else {
    EACH(j, 3) b[j] = f[j], b[3 + j] = ZERO;
  }
}

// Contacts did not fit their memory; noticed by `grow`.
FN void note_overflow(const World &w) {
  for (int l = 0; l < w.valid; l++) w.fields->overflow[w.world + l] = 1;
}

// A contact of slot k's body with the world, in worlds that are `on`; i: its row of parameters, r: its
// distance beyond the margin, o: between the surfaces, n: into the body, t: the first tangent.
FN void add_world_contact(World &w, Contacts &C, int k, int i, B on, F r, const F *o, const F *n, const F *t) {
  if ((HAS_HFIELDS || HAS_BOX_FIELDS) && w.ncontact == MAXCON)
    return note_overflow(w);  // deep in a hill a shape touches many prisms
  int c = w.ncontact++;
  F imp = impedance(r, T(point, i, 10), T(point, i, 11), T(point, i, 12), T(point, i, 13), T(point, i, 20));
  C.D[c] = select(on, imp / max_((1 - imp) * T(point, i, 14), ZERO + 1e-15f), ZERO);
  F stiffness = T(point, i, 8), damping = T(point, i, 9);
  C.point[c] = i;
  EACH(j, 3) C.offset[c][j] = o[j], C.normal[c][j] = n[j], C.tangent[c][j] = t[j];
  EACH(j, NBASIS) if (j < POINT_DIM[i]) {
    F b[6];
    contact_basis(o, n, t, j, b);
    C.x[c][j] = damping * dot6(b, w.V[k]);
    if (j) C.x[c][j] *= T(point, i, 14 + j);  // friction
  }
  C.x[c][0] += stiffness * imp * r;
}
// MuJoCo's first tangent where a contact has no direction: near y, or z if the normal is near y.
FN void make_tangent(const F *n, F *t) {
  B flat = abs_(n[1]) < 0.5f;
  t[0] = ZERO, t[1] = select(flat, ONE, ZERO), t[2] = select(flat, ZERO, ONE);
  F along = dot3(n, t);
  EACH(j, 3) t[j] -= n[j] * along;
  F scale = rsqrt_(max_(dot3(t, t), ZERO + 1e-24f));
  EACH(j, 3) t[j] *= scale;
}

// The points of slot k's body that touch a plane.
STAGE void plane_contacts(World &w, Contacts &C, int k) {
  F origin[3];
  for (int i = POINT0[k]; i < POINT1[k]; i++) {
    int plane = POINT_PLANE[i];
    F x[3], n[3], o[3], a[3], e[3];
    EACH(j, 3) x[j] = T(point, i, j), a[j] = T(point, i, 4 + j);
    EACH(j, 3) n[j] = PLANES_LEVEL ? ZERO + (j == 2 ? 1.0f : 0.0f) : T(plane, plane, j);
    rotate(w.R[k], x, o);
    EACH(j, 3) o[j] += w.p[k][j];
    rotate(w.R[k], a, e);
    tree_origin(w, k, origin);
    F height = dot3(n, origin) - T(plane, plane, 3), radius = T(point, i, 3);
    F dist = height + dot3(n, o) - radius, r = dist - T(point, i, 7);  // r: beyond the margin
    B on = r < 0.0f;
    if (POINT_CORNER[i]) on = on & (dot3(n, e) <= 0.0f);  // of a box, below its centre
    if (!any_(on)) continue;
    F depth = radius + 0.5f * dist;
    EACH(j, 3) o[j] -= n[j] * depth;
    // MuJoCo's frame: the first tangent along a capsule, else along a fixed direction
    F t[3], along = dot3(n, e), square = ZERO;
    EACH(j, 3) t[j] = e[j] - n[j] * along, square += t[j] * t[j];
    B has = square > 1e-12f;
    if (POINT_CORNER[i]) has = has & (ONE < 0.0f);
    F scale = rsqrt_(select(has, square, ONE));
    EACH(j, 3) t[j] = select(has, t[j] * scale, T(plane, plane, 4 + j));
    add_world_contact(w, C, k, i, on, r, o, n, t);
  }
}

#define POINT_MU(i) (T(point, i, 15) * INVERSE_SQRT_IMPRATIO)
#define PAIR_MU(i) (T(pair, i, 9) * INVERSE_SQRT_IMPRATIO)
#include "cones.h"
// The force of row i of the table of actuators, at a length and speed of what it acts on; `changes`: its
// derivative by the speed. It is noted, with the activation, if it is `real`.
FN F actuator_force(World &w, int i, F length, F speed, F &changes, bool real = true) {
  F gear = T(actuator, i, 0), ctrl = ctrl_of<NU>(w, ACTUATOR[i]);
  ctrl = min_(max_(ctrl, T(actuator, i, 5)), T(actuator, i, 6));
  if (NA && ACT[i] >= 0) {
    F act = w.drives->act[ACT[i]], next = act + T(actuator, i, 11) * ctrl - T(actuator, i, 12) * act;
    next = min_(max_(next, T(actuator, i, 9)), T(actuator, i, 10));
    if (real) w.drives->act[ACT[i]] = next;  // at the end of this step: nothing else reads it before
    ctrl = ACT_EARLY[i] ? next : act;
  }
  F gain = T(actuator, i, 1), slope = T(actuator, i, 4);
  if (AFFINE_GAINS) {
    gain += gear * (T(actuator, i, 13) * length + T(actuator, i, 14) * speed);
    slope += T(actuator, i, 14) * ctrl;
  }
  F free_ = gain * ctrl + T(actuator, i, 2) + gear * (T(actuator, i, 3) * length + T(actuator, i, 4) * speed);
  F force = min_(max_(free_, T(actuator, i, 7)), T(actuator, i, 8));
  if (real) w.drives->force[ACTUATOR[i]] = force;
  changes = select(force == free_, gear * slope, ZERO);
  return force;
}

#include "pairs.h"
#include "rows.h"

// mj_fwdPosition and mj_fwdVelocity, constraint rows included, at zero acceleration
FN void position_and_velocity(World &w, Contacts &C, Pairs &X) {
  w.ncontact = 0;
  if (NBASE) SLOTS(k) if (KIND[k] == BASE) kinematics(w, k);  // before what touches it
  SLOTS(k) {
    kinematics(w, k);
    w.from[k] = w.ncontact;
    if (BODY[k]) {
      inertia_and_bias(w, k);
      plane_contacts(w, C, k);
      if (NGEOM_) place_geoms(w, X, k);
      if (NSTATIC) static_contacts(w, C, X, k);
    }
    if (LIMITED[k]) {
      F low = w.q[k] - T(limit, k, 0), high = T(limit, k, 1) - w.q[k];
      F r = min_(low, high) - T(limit, k, 2), side = select(low < high, ONE, ZERO - 1.0f);
      F imp = impedance(r, T(limit, k, 5), T(limit, k, 6), T(limit, k, 7), T(limit, k, 8), T(limit, k, 10));
      B on = r < 0.0f;
      w.lside[k] = side;
      w.lD[k] = select(on, imp / max_((1 - imp) * T(limit, k, 9), ZERO + 1e-15f), ZERO);
      w.lx[k] = select(on, T(limit, k, 4) * side * w.v[k] + T(limit, k, 3) * imp * r, ZERO);
    }
    if (FRICTION[k]) w.fx[k] = T(friction, k, 2) * w.v[k];
    w.acc[k] = ZERO;
  }
  w.from[NSLOT] = w.ncontact;
  EACH(f, NFREE) EACH(i, 6) w.acc6[f][i] = ZERO;
  if (LANES > 1 && NPAIR) share_geoms(w, X);
  body_contacts(w, X);
  if (NROW) coupled_rows(w);
}

// -- mj_fwdActuation, mj_passive ------------------------------------------------------------------

STAGE void actuation(World &w) {
  if (NTENDON) tendons(w);
  SLOTS(k) {
    if (KIND[k] == FREE || KIND[k] == BASE) continue;
    w.implicit[k] = T(damping, k, 0);
    w.tau[k] = w.applied[k] - T(damping, k, 0) * w.v[k];
    if (KIND[k] != BALL) w.tau[k] -= T(spring, k, 0) * (w.q[k] - T(spring, k, 1));
    F total = NTENDON ? w.drive[k] : ZERO, derivative = ZERO, changes;
    if (NTENDON) w.tau[k] += w.pull[k];
    for (int n = 0; n < ACTUATED[k]; n++) {
      int i = ACTUATOR0[k] + n;
      bool real = LANES == 1 || i < ACTUATOR1[k];  // not a branch: all slots wait for memory together
      i = real ? i : 0;
      F gear = real ? T(actuator, i, 0) : ZERO;
      total += gear * actuator_force(w, i, w.q[k], w.v[k], changes, real);
      derivative += gear * changes;
    }
    if (FORCE_LIMITED[k]) {
      F clamped = min_(max_(total, T(force_range, k, 0)), T(force_range, k, 1));
      derivative = select(clamped == total, derivative, ZERO);
      total = clamped;
    }
    w.tau[k] += total;
    if (IMPLICIT_FAST) w.implicit[k] -= derivative;
  }
#if NTHRUSTER
  F same;
  for (int n = 0; n < NTHRUSTER; n++) actuator_force(w, FIRST_THRUSTER + n, ZERO, ZERO, same);
#endif
#if NBALL
  SLOTS(k) if (BALL_AXIS[k] == 0 && BALL_SPRINGS) ball_spring(w, k);
#endif
}

// -- mj_fwdConstraint: Newton's method ------------------------------------------------------------
#undef UNROLL
#define UNROLL SOLVER_UNROLL
//
// The direction -H^-1 grad, H = M + J' D J, comes from one articulated-body pass: contacts with the
// world add a 6x6 weight to their body, limits and joint friction a number to their slot, so
// neither J nor M nor H is ever formed. Contacts between bodies are added by Woodbury's formula.

// Adds the weight (to A) and minus the force (to P) of one contact with the world.
STAGE void add_elliptic_contact(const World &w, const Contacts &C, int c, F *A, F *P) {
  int i = C.point[c], dim = POINT_DIM[i];
  F G[NBASIS], H[NBASIS][NBASIS], b[NBASIS][6];
  elliptic_terms<NBASIS>(C.x[c], dim, C.D[c], POINT_MU(i), G, H);
  EACH(j, NBASIS) if (j < dim) {
    contact_basis(C.offset[c], C.normal[c], C.tangent[c], j, b[j]);
    if (j) EACH(m, 6) b[j][m] *= T(point, i, 14 + j);
    EACH(m, 6) P[m] += G[j] * b[j][m];
  }
  EACH(j, NBASIS) if (j < dim) {
    F g[6];
    EACH(m, 6) g[m] = ZERO;
    EACH(k, NBASIS) if (k < dim) EACH(m, 6) g[m] += (j <= k ? H[j][k] : H[k][j]) * b[k][m];
    EACH(m, 6) for (int n = m; n < 6; n++) A[at(m, n)] += b[j][m] * g[n];
  }
}
STAGE void add_contact(const World &w, const Contacts &C, int c, F *A, F *P) {
  int i = C.point[c], dim = POINT_DIM[i];
  F D = C.D[c], force[NBASIS], weight0[NBASIS], weight[NBASIS], b[NBASIS][6];
  const F *x = C.x[c];
  force[0] = weight[0] = ZERO;
  if (dim == 1) {
    weight[0] = select(x[0] < 0.0f, D, ZERO);
    force[0] = ZERO - weight[0] * x[0];
  }
  EACH(j, NBASIS) if (j && j < dim) {
    F mu = T(point, i, 14 + j), x1 = x[0] + x[j], x2 = x[0] - x[j];
    F d1 = select(x1 < 0.0f, D, ZERO), d2 = select(x2 < 0.0f, D, ZERO), f1 = d1 * x1, f2 = d2 * x2;
    weight[0] += d1 + d2;
    weight0[j] = mu * (d1 - d2);
    weight[j] = mu * mu * (d1 + d2);
    force[0] -= f1 + f2;
    force[j] = mu * (f2 - f1);
  }
  EACH(j, NBASIS) if (j < dim) {
    contact_basis(C.offset[c], C.normal[c], C.tangent[c], j, b[j]);
    EACH(m, 6) P[m] -= force[j] * b[j][m];
  }
  // A += b0 g0' + sum bj gj' with g0 = w00 b0 + sum w0j bj, gj = w0j b0 + wjj bj
  F g0[6];
  EACH(m, 6) g0[m] = weight[0] * b[0][m];
  EACH(j, NBASIS) if (j && j < dim) {
    F g[6];
    EACH(m, 6) g0[m] += weight0[j] * b[j][m], g[m] = weight0[j] * b[0][m] + weight[j] * b[j][m];
    EACH(m, 6) for (int n = m; n < 6; n++) A[at(m, n)] += b[j][m] * g[n];
  }
  EACH(m, 6) for (int n = m; n < 6; n++) A[at(m, n)] += b[0][m] * g0[n];
}

FN void add_contacts(const World &w, const Contacts &C, int k, F *A, F *P) {
  for (int c = w.from[k]; c < w.from[k + 1]; c++) ELLIPTIC ? add_elliptic_contact(w, C, c, A, P) : add_contact(w, C, c, A, P);
}

// Whether there are forces on bodies, in w.P, that are not contacts with the world.
FN bool pushed(const World &w) { return NROW || (NPAIR && w.npair > 0); }

// One slot of the pass to the roots. A and P are the articulated inertia and the bias force below it, of
// the slot before in a chain; what else hangs from a slot comes through w.A and w.P.
// SOLVE: Newton's direction; else (M + diag(added))^-1 rhs.
template <bool SOLVE> FN void to_root(World &w, const Contacts &C, int k, F *A, F *P, F &decrement) {
  if (NBASE && KIND[k] == BASE) {  // it does not move
    EACH(i, 21) A[i] = ZERO;
    EACH(i, 6) P[i] = ZERO;
    return;
  }
  if (JOINS[k]) EACH(i, 21) A[i] += w.A[k][i];
  if (JOINS[k] || (SOLVE && pushed(w))) EACH(i, 6) P[i] += w.P[k][i];
  if (BODY[k]) {
    add_inertia(A, w.I[k]);
    if (SOLVE) {
      EACH(i, 6) P[i] += w.wrench[k][i];
      if (k >= NTRUNK) add_contacts(w, C, k, A, P);
    }
  }
  if (KIND[k] == FREE) {  // A = U D U'; y = U^-1 (tau - P)
    int f = POSE_OF[k];
    F *y = w.y6[f], *d = w.d6[f];
    EACH(i, 6) y[i] = (SOLVE ? w.tau6[f][i] : w.rhs6[f][i]) - P[i];
    if (!SOLVE) {
      const F *a = w.added9[f];
      A[at(0, 0)] += a[0], A[at(0, 1)] += a[1], A[at(0, 2)] += a[2], A[at(1, 1)] += a[3], A[at(1, 2)] += a[4];
      A[at(2, 2)] += a[5], A[at(3, 3)] += a[6], A[at(4, 4)] += a[7], A[at(5, 5)] += a[8];
    }
    if (FREE_EXTRAS) free_joint_weights<SOLVE>(w, k, A, y);
    EACH(m, 6) {
      int j = 5 - m;
      d[j] = 1 / A[at(j, j)];
      for (int i = 0; i < j; i++) {
        F t = A[at(i, j)] * d[j];
        for (int n = i; n < j; n++) A[at(i, n)] -= t * A[at(n, j)];
        y[i] -= t * y[j];
      }
    }
    if (SOLVE) EACH(i, 6) decrement += y[i] * y[i] * d[i];
    EACH(i, 21) w.A[k][i] = A[i], A[i] = ZERO;
    EACH(i, 6) P[i] = ZERO;
    return;
  }
  F *S = w.S[k], *U = w.dV[k], armature = T(armature, k, 0), u;
  multiply_symmetric(A, S, U);
  F d = dot6(S, U) + armature;
  if (SOLVE) {
    u = w.tau[k] - armature * w.acc[k];
    if (NROW) u += w.row_tau[k];
    if (LIMITED[k]) {
      F D = select(w.lx[k] < 0.0f, w.lD[k], ZERO);
      d += D;
      u -= w.lside[k] * D * w.lx[k];
    }
    if (FRICTION[k]) {
      F floss = T(friction, k, 0), D = T(friction, k, 1);
      d += select(abs_(D * w.fx[k]) < floss, D, ZERO);
      u -= friction_force(floss, D, w.fx[k]);
    }
  } else {
    d += w.added[k];
    u = w.rhs[k];
  }
  d = 1 / d;
  u -= dot6(S, P);
  w.dir[k] = u, w.d[k] = d;
  if (SOLVE) decrement += u * u * d;
  F ud = u * d;
  EACH(i, 6) {
    F t = U[i] * d;
    for (int j = i; j < 6; j++) A[at(i, j)] -= t * U[j];
    P[i] += U[i] * ud;
  }
  if (CHAINED[k]) return;
  if (UP[k] >= 0) {
    EACH(i, 21) w.A[UP[k]][i] += A[i];
    EACH(i, 6) w.P[UP[k]][i] += P[i];
  }
  EACH(i, 21) A[i] = ZERO;
  EACH(i, 6) P[i] = ZERO;
}

// From the roots out: dir and the motions dV that it gives, with what it does to contact rows. V: the
// motion of the slot before, then of this one.
template <bool SOLVE> FN void from_root(World &w, Contacts &C, int k, F *V) {
  F *dV = w.dV[k];
  if (NBASE && KIND[k] == BASE) {
    EACH(i, 6) dV[i] = V[i] = ZERO;
    w.dir[k] = ZERO;
    return;
  }
  if (KIND[k] == FREE) {
    int f = POSE_OF[k];
    const F *A = w.A[k], *y = w.y6[f], *d = w.d6[f];
    EACH(i, 6) {
      F t = y[i];
      for (int j = 0; j < i; j++) t -= A[at(j, i)] * V[j];
      V[i] = t * d[i];
    }
  } else {
    if (!CHAINED[k]) EACH(i, 6) V[i] = UP[k] < 0 ? ZERO : w.dV[UP[k]][i];
    w.dir[k] = (w.dir[k] - dot6(dV, V)) * w.d[k];
    EACH(i, 6) V[i] += w.S[k][i] * w.dir[k];
  }
  EACH(i, 6) dV[i] = V[i];
  if (!SOLVE || !BODY[k]) return;
  for (int c = w.from[k]; c < w.from[k + 1]; c++) {
    int i = C.point[c];
    EACH(j, NBASIS) if (j < POINT_DIM[i]) {
      F b[6];
      contact_basis(C.offset[c], C.normal[c], C.tangent[c], j, b);
      C.v[c][j] = dot6(b, V);
      if (j) C.v[c][j] *= T(point, i, 14 + j);
    }
  }
}

// Newton's direction into dir and dV, in worlds that are `on`; returns grad' H^-1 grad.
template <bool SOLVE> FN F direction(World &w, Contacts &C, Pairs &X, B on) {
  F decrement = ZERO, A[21], P[6];
  EACH(i, 21) A[i] = ZERO;
  EACH(i, 6) P[i] = ZERO;
  SLOTS(k) {
    if (JOINS[k]) EACH(i, 21) w.A[k][i] = ZERO;
    if (JOINS[k] || (SOLVE && pushed(w))) EACH(i, 6) w.P[k][i] = ZERO;
  }
  if (SOLVE) add_pair_forces(w, X);
  if (SOLVE && NROW) add_row_forces(w);
  LIMBS_UP(k) to_root<SOLVE>(w, C, k, A, P, decrement);
  if (LANES > 1) {
    decrement = sum_lanes(decrement);
    TRUNK(k) {
      if (SOLVE) add_contacts(w, C, k, w.A[k], w.P[k]);
      if (GATHERS[k]) sum_lanes(w.A[k], 21), sum_lanes(w.P[k], 6);
    }
    TRUNK_UP(k) to_root<SOLVE>(w, C, k, A, P, decrement);
  }
  if (SOLVE && (NPAIR || NROW) && any_(on)) {
    int n = 0;
    if (NROW) couple_rows(w, X, n);
    couple_pairs(w, X, n);
    if (n) solve_rows(w, X, n, decrement);
  }
#if NDAMPED
  if (!SOLVE) {
    int n = 0;
    couple_tendons(w, X, n);
    if (n) solve_rows(w, X, n, decrement);
  }
#endif
  SLOTS(k) from_root<SOLVE>(w, C, k, P);
  if (SOLVE) pair_directions(w, X);
  if (SOLVE && NROW) row_directions(w);
  return decrement;
}

// Of slot k's limit and friction: slope along dir at step a, beyond the quadratic.
FN F slot_slope(const World &w, int k, F a, F &h) {
  F slope = ZERO;
  if (LIMITED[k]) slope += row_change(w.lx[k], w.lside[k] * w.dir[k], a, w.lD[k], h);
  if (FRICTION[k]) slope += friction_change(T(friction, k, 0), T(friction, k, 1), w.fx[k], w.dir[k], a, h);
  if (FREE_FRICTION && KIND[k] == FREE) slope += free_friction_slope(w, k, a, h);
  return slope;
}
// What this lane's contacts add to the slope along dir at step a and to its curvature h; see contact_change.
FN F contacts_slope(const World &w, const Contacts &C, const Pairs &X, F a, F &h) {
  F slope = ZERO;
  for (int c = 0; c < w.ncontact; c++)
    slope += contact_change(C.x[c], C.v[c], POINT_DIM[C.point[c]], a, C.D[c], POINT_MU(C.point[c]), h);
  for (int c = LANE; c < w.npair; c += LANES)
    slope += contact_change(X.x[c], X.v[c], PAIR_DIM[X.pair[c]], a, X.D[c], PAIR_MU(X.pair[c]), h);
  return slope;
}
// The part of the cost that is quadratic along dir: its slope and curvature at 0. All of it has -decrement and
// decrement there, and without what elliptic contacts add it stays quadratic, but for rows that change sides.
STAGE void quadratic_part(const World &w, const Contacts &C, const Pairs &X, F decrement, F &slope0, F &curvature) {
  slope0 = ZERO - decrement, curvature = decrement;
  if (!ELLIPTIC) return;
  F h = ZERO, slope = contacts_slope(w, C, X, ZERO, h);
  slope0 -= sum_lanes(slope), curvature -= sum_lanes(h);
}
// Slope of the cost along dir at step a; h: its curvature. slope0, curvature: of the quadratic part.
STAGE F slope_at(const World &w, const Contacts &C, const Pairs &X, F a, F slope0, F curvature, F &h) {
  h = ZERO;
  F slope = contacts_slope(w, C, X, a, h);
  LIMBS(k) slope += slot_slope(w, k, a, h);
  slope = sum_lanes(slope), h = sum_lanes(h);
  TRUNK(k) slope += slot_slope(w, k, a, h);
  if (NROW) slope += rows_slope(w, a, h);
  h += curvature;
  return slope + slope0 + a * curvature;
}

#define UNBOUNDED 1e9f
// Slope at which a line search stops, over the one at its start: an elliptic contact costs much in each
#define LINE_SEARCH_TOLERANCE (ELLIPTIC ? 0.1f : 1e-2f)
// Where the cost is least along dir, in worlds that are not `found` yet.
// Where a contact begins to slide the slope jumps, and steps of Newton go to and fro between the two
// sides: whenever one leaves more than half of the bracket, a secant through its ends follows, and the
// slope at an end that stays counts half (Illinois).
STAGE F least_along(const World &w, const Contacts &C, const Pairs &X, F decrement, B found) {
  F slope0, curvature;
  quadratic_part(w, C, X, decrement, slope0, curvature);
  F a = ONE, low = ZERO, high = ZERO + UNBOUNDED, at_low = ZERO - decrement, at_high = ZERO;
  B was_above = ONE < 0.0f;
  for (int i = 0; i <= LS_ITERATIONS; i++) {
    F h, slope = slope_at(w, C, X, a, slope0, curvature, h);
    // in stiff rows between bodies the slope can be lost in rounding: then not too far, the next direction is better
    found = found | (abs_(slope) <= LINE_SEARCH_TOLERANCE * decrement) | (a >= 8.0f);
    if (!any_here(!found) || i == LS_ITERATIONS) break;
    B above = !(slope < 0.0f), slow = high < UNBOUNDED;
    F width = high - low;
    low = select(above, low, a), high = select(above, a, high);
    at_low = select(above, at_low, slope), at_high = select(above, slope, at_high);
    slow = slow & (high - low > 0.5f * width);
    at_low = select(slow & above & was_above, 0.5f * at_low, at_low);
    at_high = select(slow & !above & !was_above, 0.5f * at_high, at_high);
    was_above = above;
    F next = a - slope / max_(h, 1e-6f * decrement), secant = low - at_low * (high - low) / (at_high - at_low);
    B outside = (next <= low) | (next >= high);
    next = select((outside | slow) & (high < UNBOUNDED), secant, select(outside, 2 * low + 1e-3f, next));
    next = min_(next, ZERO + 8.0f);
    B still = abs_(next - a) <= 2e-3f * a;  // as good as rounding allows
    a = select(found, a, next);
    found = found | still;
  }
  return a;
}
// Pyramids and limits are either on or off, and a full step tells which: nearly all of them are right after two or
// three such steps, which line searches only make smaller. They begin where full steps have not come to an
// end some steps later, if there are iterations left for them.
#define FULL_STEPS (ELLIPTIC ? 0 : ITERATIONS > 6 ? 5 : 3)
// The acceleration that minimises MuJoCo's cost, into acc and acc6; wrench follows.
STAGE void solve(World &w, Contacts &C, Pairs &X) {
  B done = ONE < 0.0f, was_full = done;
  F before = ZERO, first = ZERO;
  for (int iteration = 0; iteration < ITERATIONS; iteration++) {
    F decrement = direction<true>(w, C, X, !done);
    B tiny = decrement * (0.5f * T(scale, 0, 0)) < T(scale, 0, 1);
    F a = iteration < FULL_STEPS ? ONE : least_along(w, C, X, decrement, done | tiny);
    a = select(done, ZERO, a);
    B changed = ONE < 0.0f, slides = changed;
    for (int c = 0; c < w.ncontact; c++) {
      int i = C.point[c];
      changed = changed | advance_rows(C.x[c], C.v[c], POINT_DIM[i], a, C.D[c], POINT_MU(i), slides);
    }
    for (int c = 0; c < w.npair; c++) {
      int i = X.pair[c];
      changed = changed | advance_rows(X.x[c], X.v[c], PAIR_DIM[i], a, X.D[c], PAIR_MU(i), slides);
    }
    if (NROW) changed = changed | advance_coupled_rows(w, a);
    SLOTS(k) {
      F t[6];
      if (KIND[k] == FREE) {
        int f = POSE_OF[k];
        EACH(i, 6) w.acc6[f][i] += a * w.dV[k][i];
        if (FREE_FRICTION) changed = changed | advance_free_friction(w, k, a);
      } else {
        F step = a * w.dir[k];
        w.acc[k] += step;
        if (LIMITED[k]) {
          F next = w.lx[k] + w.lside[k] * step;
          changed = changed | (changes_side(w.lx[k], next) & (w.lD[k] > 0.0f));
          w.lx[k] = next;
        }
        if (FRICTION[k]) {
          F next = w.fx[k] + step;
          changed = changed | friction_changes(T(friction, k, 0), T(friction, k, 1), w.fx[k], next);
          w.fx[k] = next;
        }
      }
      if (BODY[k]) {
        multiply_inertia(w.I[k], w.dV[k], t);
        EACH(i, 6) w.wrench[k][i] += a * t[i];
      }
    }
    changed = any_lane(changed);
    // the full step with every row on its side: the quadratic was the whole truth; rows that are always
    // on take most of a force away again, so that a second step finds the digits that the first one lost
    B full = abs_(a - 1) < 1e-3f, enough = full & !changed;
    if (FULL_STEPS) {  // nor from so far away that the way back has lost digits
      if (!iteration) first = decrement;
      enough = enough & (decrement <= 4 * first);
    }
    if (ELLIPTIC) {  // unless a contact slides: then, near the end, full steps square the decrement
      F gain = 0.5f * T(scale, 0, 0), tolerance = T(scale, 0, 1);
      F next = 3000 * decrement * decrement * decrement;  // times what the last two tell, with much to spare
      B near = was_full & (gain * decrement < 1000 * tolerance);
      B tiny_next = near & (gain * next < tolerance * before * before);
      enough = enough & (tiny_next | !any_lane(slides));
      was_full = full & !changed, before = decrement;
    }
    if (!NROW || iteration) done = done | tiny | enough;
    if (!any_here(!done)) break;
  }
}

#undef UNROLL
#define UNROLL STAGE_UNROLL

// -- mj_Euler, mj_implicit ------------------------------------------------------------------------

STAGE void integrate(World &w, Contacts &C, Pairs &X) {
  F h = T(timestep, 0, 0);
  if (IMPLICIT) {  // (M + h B)^-1 h B acc corrects the acceleration for the damping B
    SLOTS(k) w.added[k] = h * w.implicit[k], w.rhs[k] = ZERO - w.added[k] * w.acc[k];
    EACH(f, NFREE) {
      EACH(i, 6) w.rhs6[f][i] = ZERO;
      EACH(i, 9) w.added9[f][i] = ZERO;
    }
    if (FREE_EXTRAS) SLOTS(k) if (KIND[k] == FREE) free_joint_damping(w, k, h);
#if NDAMPED
    damp_tendons(w, h);
#endif
    direction<false>(w, C, X, ONE > 0.0f);
  }
  SLOTS(k) {
    if (KIND[k] != FREE) {
      F acc = w.acc[k];
      if (IMPLICIT) acc += w.dir[k];
      w.v[k] += h * acc;
      if (KIND[k] != BALL) w.q[k] += h * w.v[k];
      else if (BALL_AXIS[k] == 2) turn_quat(w.ball[BALL_OF[k]], w.v + k - 2, h);
      continue;
    }
    int f = POSE_OF[k];
    F acc[6], local[3], *v = w.v6[f];
    if (LONERS && ALONE[k]) free_body_correction(w, k, h, w.dV[k]);
    EACH(i, 6) {
      acc[i] = w.acc6[f][i];
      if (IMPLICIT || (LONERS && ALONE[k])) acc[i] += w.dV[k][i];
    }
    rotate_back(w.R[k], acc, local);
    EACH(i, 3) {
      v[i] += h * acc[3 + i];
      v[3 + i] += h * local[i];
      w.pos[f][i] += h * v[i];
    }
    turn_quat(w.quat[f], v + 3, h);
  }
}
