// Ball joints, and what few free joints have: armature, damping and friction. Part of step.h.

// -- ball joints: three slots that turn about the axes of the body -----------------------------------

// The arc tangent of x in [0, 1], to about 1e-7.
FN F arc_tangent(F x) {
  B far = x > 0.41421356f;
  F y = select(far, (x - 1) / (x + 1), x), z = y * y;
  F series = 1 + z * (-0.33332798f + z * (0.19974405f + z * (-0.13851479f + z * 0.07984963f)));
  return y * series + select(far, ZERO + 0.78539816f, ZERO);
}
// The rotation vector of a unit quaternion, at most half a turn.
FN void rotation_vector(const F *q, F *out) {
  F sine2 = dot3(q + 1, q + 1), inverse = rsqrt_(max_(sine2, ZERO + 1e-30f)), s = sine2 * inverse, c = abs_(q[0]);
  F half = arc_tangent(min_(s, c) / max_(s, c));
  half = select(s > c, 1.57079633f - half, half);
  F scale = 2 * select(s < 1e-10f, ONE, half * inverse);
  EACH(i, 3) out[i] = select(q[0] < 0.0f, ZERO - scale, scale) * q[1 + i];
}
// The quaternion q after a rotation at velocity v, in its own axes, for the time h.
FN void turn_quat(F *q, const F *v, F h) {
  F speed2 = dot3(v, v), inverse = rsqrt_(max_(speed2, ZERO + 1e-20f)), turned[4], sine, cosine;
  sincos_(0.5f * h * speed2 * inverse, sine, cosine);
  F turn[4] = {cosine, sine * inverse * v[0], sine * inverse * v[1], sine * inverse * v[2]};
  multiply_quat(q, turn, turned);
  normalize_quat(turned);
  EACH(i, 4) q[i] = turned[i];
}

#if NBALL
// Slot k's frame, axis, motion and bias; N: the frame that it turns in, V and c: its parent's.
FN void ball_kinematics(World &w, int k, const F *N) {
  int axis = BALL_AXIS[k], before = UP[k - axis];
  F *R = w.R[k], *S = w.S[k], *V = w.V[k], *c = w.c[k], dS[6], base[6];
  if (axis == 0) {
    F own[9];
    normalize_quat(w.ball[BALL_OF[k]]);
    matrix_of(w.ball[BALL_OF[k]], own);
    multiply3(N, own, R);
  } else {
    EACH(i, 9) R[i] = N[i];
  }
  EACH(i, 3) S[i] = R[3 * i + axis];
  cross(w.p[k], S, S + 3);
  EACH(i, 6) base[i] = before < 0 ? ZERO : w.V[before][i];  // the axes turn with the body itself
  cross_motion(base, S, dS);
  EACH(i, 6) c[i] += dS[i] * w.v[k], V[i] += S[i] * w.v[k];
}
FN void ball_spring(World &w, int k) {  // k: the first of three slots
  int b = BALL_OF[k];
  F back[4], turn[4], dif[3];
  EACH(i, 4) back[i] = i ? ZERO - T(ball, b, i) : T(ball, b, 0);
  normalize_quat(w.ball[b]);
  multiply_quat(back, w.ball[b], turn);
  rotation_vector(turn, dif);
  EACH(i, 3) w.tau[k + i] -= T(spring, k, 0) * dif[i];
}
#endif

// -- armature, damping and friction of a free joint: along the world's axes, then about the body's ---

FN void free_axis(const Shown &w, int k, int i, F *axis) {
  EACH(j, 3) axis[j] = i < 3 ? ZERO : w.R[k][3 * j + i - 3], axis[3 + j] = i == j ? ONE : ZERO;
}
#define FREE_FLOSS(f, i) T(free_joint, f, 12 + i)
#define FREE_D(f, i) T(free_joint, f, 18 + i)
FN F friction_force(F floss, F D, F x) { return min_(max_(D * x, ZERO - floss), floss); }

FN void free_joint_forces(World &w, int k) {
  int f = POSE_OF[k];
  EACH(i, 6) {
    F axis[6], force = T(free_joint, f, 6 + i) * w.v6[f][i];
    free_axis(w, k, i, axis);
    EACH(j, 6) w.tau6[f][j] -= force * axis[j];
    if (FREE_FRICTION) w.free_x[f][i] = T(free_joint, f, 24 + i) * w.v6[f][i];
  }
}
// What integrators need of its damping, over the time h; see direction<false>.
FN void free_joint_damping(World &w, int k, F h) {
  int f = POSE_OF[k];
  EACH(i, 6) {
    F axis[6], weight = h * T(free_joint, f, 6 + i);
    free_axis(w, k, i, axis);
    F force = weight * dot6(axis, w.acc6[f]), *a = w.added9[f];
    EACH(j, 6) w.rhs6[f][j] -= force * axis[j];
    if (i < 3) a[6 + i] += weight;
    else EACH(j, 3) for (int m = j; m < 3; m++) a[j == 0 ? m : j + m + 1] += weight * axis[j] * axis[m];
  }
}
// Its weights in the pass to the roots, to A, and forces, to y.
template <bool SOLVE> FN void free_joint_weights(const World &w, int k, F *A, F *y) {
  int f = POSE_OF[k];
  EACH(i, 6) {
    F axis[6], weight = T(free_joint, f, i);
    free_axis(w, k, i, axis);
    if (SOLVE) {
      F force = ZERO - weight * dot6(axis, w.acc6[f]);
      if (FREE_FRICTION) {
        F floss = FREE_FLOSS(f, i), D = FREE_D(f, i), x = w.free_x[f][i];
        weight += select(abs_(D * x) < floss, D, ZERO);
        force -= friction_force(floss, D, x);
      }
      EACH(m, 6) y[m] += force * axis[m];
    }
    EACH(m, 6) for (int n = m; n < 6; n++) A[at(m, n)] += weight * axis[m] * axis[n];
  }
}
// What implicitfast adds to the acceleration of a free body that nothing hangs from: it solves
// (M + h D) x = M acc with the derivative D of its bias by its velocity, gyroscopic terms included,
// and of its damping; here for x - acc, along and about the world's axes. mjd_freeMhat
FN void derivative_of_bias(const F *I, const F *w, const F *spin, const F *turn, F *torque, F *force) {
  F t[3], out[6], v[6] = {turn[0], turn[1], turn[2], ZERO, ZERO, ZERO};
  multiply_inertia(I, v, out);  // turn: a change of the angular velocity w; spin: I w about the origin
  cross(turn, spin, torque), cross(w, out, t);
  EACH(i, 3) torque[i] += t[i];
  F arm[3], arm_turn[3];
  cross(w, I + 6, arm), cross(turn, I + 6, arm_turn);
  cross(turn, arm, force), cross(w, arm_turn, t);
  EACH(i, 3) force[i] += t[i];
}
FN void free_body_correction(const World &w, int k, F h, F *change) {
  int f = POSE_OF[k];
  const F *I = w.I[k], *R = w.R[k], *acc = w.acc6[f], *omega = w.V[k];
  F v[6] = {omega[0], omega[1], omega[2], ZERO, ZERO, ZERO}, spin[6], A[3][3], b[3], weight[3], line[3], turn[3], t[3];
  multiply_inertia(I, v, spin);
  // Rows of position have a diagonal, weight, and L alpha; b and line: right sides of rotation and position
  derivative_of_bias(I, omega, spin, acc, b, line);
  EACH(i, 3) {
    F damping = FREE_EXTRAS ? T(free_joint, f, 6 + i) : ZERO, armature = FREE_EXTRAS ? T(free_joint, f, i) : ZERO;
    weight[i] = 1 / (I[9] + armature + h * damping);
    line[i] = ZERO - h * (line[i] + damping * acc[3 + i]), b[i] = ZERO - h * b[i];
  }
  EACH(j, 3) {  // column j of rotation's rows, without those of position
    F e[3], inertial[6], unit[6], torque[3], force[3], L[3];
    EACH(i, 3) e[i] = i == j ? ONE : ZERO;
    EACH(i, 6) unit[i] = i == j ? ONE : ZERO;
    multiply_inertia(I, unit, inertial);
    derivative_of_bias(I, omega, spin, e, torque, force);
    EACH(i, 3) L[i] = weight[i] * (inertial[3 + i] + h * force[i]);
    cross(I + 6, L, t);
    EACH(i, 3) A[i][j] = inertial[i] + h * torque[i] - t[i];
  }
  if (FREE_EXTRAS) EACH(m, 3) {
    F damping = T(free_joint, f, 9 + m), added = T(free_joint, f, 3 + m) + h * damping;
    F axis[3] = {R[m], R[3 + m], R[6 + m]}, along = h * damping * dot3(axis, acc);
    EACH(i, 3) {
      b[i] -= along * axis[i];
      EACH(j, 3) A[i][j] += added * axis[i] * axis[j];
    }
  }
  EACH(i, 3) turn[i] = weight[i] * line[i];
  cross(I + 6, turn, t);
  EACH(i, 3) b[i] -= t[i];
  F x12[3], x20[3], x01[3];  // A^-1 b
  cross(A[1], A[2], x12), cross(A[2], A[0], x20), cross(A[0], A[1], x01);
  F inverse = 1 / dot3(A[0], x12);
  EACH(i, 3) change[i] = (b[0] * x12[i] + b[1] * x20[i] + b[2] * x01[i]) * inverse;
  F unit[6] = {change[0], change[1], change[2], ZERO, ZERO, ZERO}, inertial[6], torque[3], force[3];
  multiply_inertia(I, unit, inertial);
  derivative_of_bias(I, omega, spin, change, torque, force);
  EACH(i, 3) change[3 + i] = weight[i] * (line[i] - inertial[3 + i] - h * force[i]);
}
// A row of friction between 0 and a: the slope beyond the quadratic; h: the change of curvature.
FN F friction_change(F floss, F D, F x0, F v, F a, F &h) {
  F y0 = D * x0, y = y0 + a * D * v;
  F d0 = select(abs_(y0) < floss, D, ZERO), d1 = select(abs_(y) < floss, D, ZERO);
  // D (d1 on - d0 on) a v is in the quadratic already; what remains is the force beyond it
  F slope = (friction_force(floss, D, x0 + a * v) - friction_force(floss, D, x0) - d0 * a * v) * v;
  h += (d1 - d0) * v * v;
  return slope;
}
FN B friction_changes(F floss, F D, F x, F next) {
  B slips = abs_(D * x) >= floss, will = abs_(D * next) >= floss;
  return (floss > 0.0f) & ((slips != will) | (slips & ((x < 0.0f) != (next < 0.0f))));
}
FN F free_friction_slope(const World &w, int k, F a, F &h) {
  int f = POSE_OF[k];
  F slope = ZERO, axis[6];
  EACH(i, 6) {
    free_axis(w, k, i, axis);
    slope += friction_change(FREE_FLOSS(f, i), FREE_D(f, i), w.free_x[f][i], dot6(axis, w.dV[k]), a, h);
  }
  return slope;
}
FN B advance_free_friction(World &w, int k, F a) {
  int f = POSE_OF[k];
  B changed = ONE < 0.0f;
  EACH(i, 6) {
    F axis[6], x = w.free_x[f][i];
    free_axis(w, k, i, axis);
    w.free_x[f][i] = x + a * dot6(axis, w.dV[k]);
    changed = changed | friction_changes(FREE_FLOSS(f, i), FREE_D(f, i), x, w.free_x[f][i]);
  }
  return changed;
}

// Frames of all slots as quaternions: their sign is MuJoCo's.
FN void slot_quats(const Shown &w, F quat[][4]) {
  SLOTS(k) {
    if (POSE_OF[k] >= 0) {
      EACH(i, 4) quat[k][i] = w.quat[POSE_OF[k]][i];
      continue;
    }
    F own[4], base[4], turn[4], sine, cosine;
    EACH(i, 4) own[i] = T(quat, k, i);
    if (UP[k] < 0) EACH(i, 4) base[i] = own[i];
    else multiply_quat(quat[UP[k]], own, base);
    if (KIND[k] == BALL && BALL_AXIS[k] == 0) {
      multiply_quat(base, w.ball[BALL_OF[k]], quat[k]);
    } else if (KIND[k] == HINGE) {
      sincos_(0.5f * (w.q[k] - T(qpos0, k, 0)), sine, cosine);
      turn[0] = cosine, turn[1] = turn[2] = ZERO, turn[3] = sine;
      multiply_quat(base, turn, quat[k]);
    } else {
      EACH(i, 4) quat[k][i] = base[i];
    }
  }
}
