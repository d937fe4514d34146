// The step between memory and memory: rows of numbers, one row a world.

// Minus gravity on part of the mass of slot k's bodies, about their tree's origin.
FN void compensate_gravity(const Shown &w, int k, F *wrench, float side) {
  BODIES_OF(k, b) {
    F x[3], o[3], force[3], t[3], mass = side * T(gravcomp, b, 0);
    EACH(i, 3) x[i] = T(inertial, b, i), force[i] = ZERO - mass * T(gravity, 0, i);
    place_of(w, k, x, o);
    cross(o, force, t);
    EACH(i, 3) wrench[i] += t[i], wrench[3 + i] += force[i];
  }
}

#if FLUID
#include "fluid.h"
#endif
#if NTHRUSTER
#include "thrust.h"
#endif

// The wrench that xfrc_applied exerts on body `id` of the model, whose centre of mass is at o.
FN void add_applied_at(const Shown &w, const Fields &f, int id, const F *o, F *wrench) {
  F force[3], t[3];
  EACH(i, 3) force[i] = get(w, f.xfrc_applied, 6 * NBODY, 6 * id + i);
  cross(o, force, t);
  EACH(i, 3) {
    wrench[i] += t[i] + get(w, f.xfrc_applied, 6 * NBODY, 6 * id + 3 + i);
    wrench[3 + i] += force[i];
  }
}
// The same on moving body number b, about its tree's origin.
FN void add_applied(const Shown &w, const Fields &f, int k, int b, F *wrench) {
  F x[3], o[3];
  EACH(i, 3) x[i] = T(inertial, b, i);
  place_of(w, k, x, o);
  add_applied_at(w, f, PLACE_BODY_ID[b], o, wrench);
}
#define OUTPUT_UNROLL _Pragma("unroll 1")  // written once a step: small rather than fast
#undef UNROLL
#define UNROLL OUTPUT_UNROLL
#include "outputs.h"
#undef UNROLL
#define UNROLL STAGE_UNROLL

STAGE void load(World &w, const Fields &f) {
  RowIn<NQ> q(w, f.qpos);
  RowIn<NV> v(w, f.qvel), applied(w, f.qfrc_applied);
  SLOTS(k) {
    if (KIND[k] == FREE) {
      int r = POSE_OF[k];
      EACH(i, 3) w.pos[r][i] = q[QPOS[k] + i];
      EACH(i, 4) w.quat[r][i] = q[QPOS[k] + 3 + i];
      EACH(i, 6) w.v6[r][i] = v[DOF[k] + i], w.tau6[r][i] = ZERO;
    } else if (NBASE && KIND[k] == BASE) {
      EACH(i, 3) w.pos[POSE_OF[k]][i] = get(w, f.mocap_pos, 3 * NMOCAP, 3 * MOCAP[k] + i);
      EACH(i, 4) w.quat[POSE_OF[k]][i] = get(w, f.mocap_quat, 4 * NMOCAP, 4 * MOCAP[k] + i);
      w.q[k] = w.v[k] = w.applied[k] = ZERO;
    } else if (QPOS[k] < 0) {
      w.q[k] = w.v[k] = w.applied[k] = ZERO;
    } else {
      w.q[k] = q[QPOS[k]], w.v[k] = v[DOF[k]], w.applied[k] = applied[DOF[k]];
      if (KIND[k] == BALL && BALL_AXIS[k] == 0) EACH(i, 4) w.ball[BALL_OF[k]][i] = q[QPOS[k] + i];
    }
  }
}
STAGE void store(const World &w, const Fields &f) {
  RowOut<NQ> q(w, f.qpos);
  RowOut<NV> v(w, f.qvel);
  SLOTS(k) if (OWN(k)) {
    if (KIND[k] == FREE) {
      int r = POSE_OF[k];
      EACH(i, 3) q.set(QPOS[k] + i, w.pos[r][i]);
      EACH(i, 4) q.set(QPOS[k] + 3 + i, w.quat[r][i]);
      EACH(i, 6) v.set(DOF[k] + i, w.v6[r][i]);
    } else {
      v.set(DOF[k], w.v[k]);
      if (KIND[k] != BALL) q.set(QPOS[k], w.q[k]);
      else if (BALL_AXIS[k] == 0) EACH(i, 4) q.set(QPOS[k] + i, w.ball[BALL_OF[k]][i]);
    }
  }
  q.write(w, f.qpos), v.write(w, f.qvel);
}
// xfrc_applied acts at the bodies' centres of mass, qfrc_applied of a free joint in its frames.
STAGE void apply_forces(World &w, const Fields &f) {
  if (GRAVCOMP || f.xfrc_applied) SLOTS(k) if (BODY[k]) {
    F wrench[6] = {};
    if (GRAVCOMP) compensate_gravity(w, k, w.wrench[k], -1);
    if (f.xfrc_applied) BODIES_OF(k, b) add_applied(w, f, k, b, wrench);
    EACH(i, 6) w.wrench[k][i] -= wrench[i];
  }
#if FLUID
  SLOTS(k) if (BODY[k]) resist(w, k, w.wrench[k], -1);
#endif
#if NTHRUSTER
  thrust(w, -1, w.wrench);
#endif
  if (f.qfrc_applied) SLOTS(k) if (KIND[k] == FREE) {
    F local[3];
    EACH(i, 3) {
      w.tau6[POSE_OF[k]][3 + i] = get(w, f.qfrc_applied, NV, DOF[k] + i);
      local[i] = get(w, f.qfrc_applied, NV, DOF[k] + 3 + i);
    }
    rotate(w.R[k], local, w.tau6[POSE_OF[k]]);
  }
  if (FREE_EXTRAS) SLOTS(k) if (KIND[k] == FREE) {
    if (!f.qfrc_applied) EACH(i, 6) w.tau6[POSE_OF[k]][i] = ZERO;
    free_joint_forces(w, k);
  }
}

// The accelerations of the present state.
FN void evaluate(World &w, Contacts &C, Pairs &X, const Fields &f) {
  actuation(w);
  position_and_velocity(w, C, X);
  apply_forces(w, f);
  solve(w, C, X);
}
#if RUNGE_KUTTA
#include "stages.h"
#endif
STAGE void step_worlds(World &w, Contacts &C, Pairs &X, const Fields &f, int substeps, bool stale) {
  load(w, f);
  if (NU) load_ctrl<NU>(w);
  if (NA) get_rows<NA ? NA : 1>(w, f.act, w.drives->act);
  for (int s = 0; s < substeps; s++) {
    MEET();
#if RUNGE_KUTTA
    runge_kutta(w, C, X, f, s == substeps - 1, stale);
#else
    evaluate(w, C, X, f);
    if (s == substeps - 1) {
      if (NROW && f.forces) add_row_forces(w);
      if (f.forces || stale) write_out(w, C, X, f.forces, stale);
    }
    MEET();
    integrate(w, C, X);
#endif
  }
  store(w, f);
  if (NA) put_rows<NA ? NA : 1>(w, f.act, w.drives->act);
}
STAGE void derive_worlds(World &w, Contacts &C, Pairs &X) {
  SLOTS(k) {
    kinematics(w, k);
    if (BODY[k]) inertia_and_bias(w, k);
  }
  write_out(w, C, X, false, true);
}
// out = (M + diag(added))^-1 force, rows of NV numbers as qvel has them: a free joint's are of its
// position in the world's axes and of its rotation in its own.
STAGE void solve_worlds(World &w, Contacts &C, Pairs &X, const Fields &f, const float *force, const float *added,
                        float *out) {
  RowIn<NV> b(w, force), a(w, added);
  RowOut<NV> x(w, out);
  load(w, f);
  for (int p = 0; p < NDAMPED; p++) w.tendon_weight[p] = ZERO;  // without damping
  SLOTS(k) {
    kinematics(w, k);
    if (BODY[k]) inertia_and_bias(w, k);
    if (NBASE && KIND[k] == BASE) continue;
    if (KIND[k] != FREE) {
      w.rhs[k] = w.added[k] = ZERO;
      if (DOF[k] >= 0) w.rhs[k] = b[DOF[k]], w.added[k] = a[DOF[k]];
      continue;
    }
    int r = POSE_OF[k], n = 0;
    F *R = w.R[k], torque[3], turn[3];
    EACH(i, 3) torque[i] = b[DOF[k] + 3 + i], turn[i] = a[DOF[k] + 3 + i];
    rotate(R, torque, w.rhs6[r]);
    EACH(i, 3) w.rhs6[r][3 + i] = b[DOF[k] + i], w.added9[r][6 + i] = a[DOF[k] + i];
    EACH(i, 3) for (int j = i; j < 3; j++) {
      F sum = ZERO;
      EACH(m, 3) sum += R[3 * i + m] * turn[m] * R[3 * j + m];
      w.added9[r][n++] = sum;
    }
  }
  direction<false>(w, C, X, ONE > 0.0f);
  SLOTS(k) if (OWN(k)) {
    if (KIND[k] != FREE) {
      x.set(DOF[k], w.dir[k]);
      continue;
    }
    F turn[3];
    rotate_back(w.R[k], w.dV[k], turn);
    EACH(i, 3) x.set(DOF[k] + i, w.dV[k][3 + i]), x.set(DOF[k] + 3 + i, turn[i]);
  }
  x.write(w, out);
}
