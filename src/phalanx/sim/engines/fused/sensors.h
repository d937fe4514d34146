// Sensors as MuJoCo defines them. Sensors of the state come first, then those of forces and
// accelerations. Part of outputs.h.

FN void sense(const Shown &w, int s, int i, F value) {
  if (CUTOFFS) value = min_(max_(value, T(cutoff, s, 0)), T(cutoff, s, 1));
  put(w, OUT(sensordata), NSENSORDATA, SENSOR_ADR[s] + i, value);
}

struct Frame {  // of a body, geom, site or camera: x from `origin`, motion of the point x
  F x[3], origin[3], R[9], v[6];
};
FN void place_frame(const Shown &w, int f, F *x, F *R) {  // in the axes of its slot's tree
  int k = FRAME_SLOT[f];
  F pos[3], M[9];
  EACH(i, 3) pos[i] = T(frame, f, i);
  EACH(i, 9) M[i] = T(frame, f, 3 + i);
  if (k < 0) {
    EACH(i, 3) x[i] = pos[i];
    EACH(i, 9) R[i] = M[i];
  } else {
    place_of(w, k, pos, x);
    multiply3(w.R[k], M, R);
  }
}
FN void frame_of(const Shown &w, int f, Frame &frame) {
  int k = FRAME_SLOT[f];
  place_frame(w, f, frame.x, frame.R);
  if (k < 0) {
    EACH(i, 3) frame.origin[i] = ZERO;
    EACH(i, 6) frame.v[i] = ZERO;
  } else {
    tree_origin(w, k, frame.origin);
    move_motion(w.V[k], frame.x, frame.v);
  }
}
FN void frame_quat(const Shown &w, F quat[][4], int f, F *out) {
  F own[4];
  EACH(i, 4) own[i] = T(frame, f, 12 + i);
  if (FRAME_SLOT[f] < 0) EACH(i, 4) out[i] = own[i];
  else multiply_quat(quat[FRAME_SLOT[f]], own, out);
}
// A vector in the world's axes in those of frame `to`, or as it is if `to` is -1.
FN void sense_vector(const Shown &w, int s, const F *R, bool turned, const F *v) {
  F local[3];
  if (turned) rotate_back(R, v, local);
  EACH(i, 3) sense(w, s, i, turned ? local[i] : v[i]);
}

WRITER void sense_frame(const Shown &w, int s, F quat[][4]) {
  int kind = SENSOR_KIND[s], f = SENSOR_ROW[s], ref = SENSOR_REF[s];
  Frame frame, other;
  frame_of(w, f, frame);
  if (ref >= 0) frame_of(w, ref, other);
  F d[3], out[3];
  EACH(i, 3) d[i] = ref < 0 ? frame.x[i] + frame.origin[i] : frame.x[i] - other.x[i] + (frame.origin[i] - other.origin[i]);
  if (kind == SENS_FRAMEQUAT) {
    F q[4], back[4], turn[4];
    frame_quat(w, quat, f, q);
    if (ref >= 0) {
      frame_quat(w, quat, ref, back);
      EACH(i, 3) back[i + 1] = ZERO - back[i + 1];
      multiply_quat(back, q, turn);
      EACH(i, 4) q[i] = turn[i];
    }
    normalize_quat(q);
    EACH(i, 4) sense(w, s, i, q[i]);
    return;
  }
  bool own = kind == SENS_GYRO || kind == SENS_VELOCIMETER || kind == SENS_MAGNETOMETER;  // in their own axes
  if (kind == SENS_FRAMEPOS) EACH(i, 3) out[i] = d[i];
  if (kind == SENS_FRAMEXAXIS || kind == SENS_FRAMEYAXIS || kind == SENS_FRAMEZAXIS) {
    EACH(i, 3) out[i] = frame.R[3 * i + (kind == SENS_FRAMEXAXIS ? 0 : kind == SENS_FRAMEYAXIS ? 1 : 2)];
  }
  if (kind == SENS_GYRO || kind == SENS_FRAMEANGVEL) EACH(i, 3) out[i] = frame.v[i] - (ref < 0 ? ZERO : other.v[i]);
  if (kind == SENS_VELOCIMETER || kind == SENS_FRAMELINVEL) {
    F turning[3] = {};
    if (ref >= 0) cross(other.v, d, turning);
    EACH(i, 3) out[i] = frame.v[3 + i] - (ref < 0 ? ZERO : other.v[3 + i] + turning[i]);
  }
  if (kind == SENS_MAGNETOMETER) EACH(i, 3) out[i] = T(magnetic, 0, i);
  sense_vector(w, s, own ? frame.R : other.R, own || ref >= 0, out);
}

// Centre of mass, its velocity and the angular momentum about it, of a body with all below it. All lanes
// come by.
WRITER void sense_subtree(const Shown &w, int s) {
  int kind = SENSOR_KIND[s], row = SENSOR_ROW[s];
  F com[3] = {}, velocity[3] = {}, momentum[3] = {}, mass = ZERO;
  for (int n = SUBTREE0[row]; n < SUBTREE0[row + 1]; n++) {
    int b = SUBTREE_BODY[n], k = PLACE_BODY_SLOT[b];
    if (!ADDS_BODY(b)) continue;
    F x[3], o[3], v[6], origin[3], m = T(body_mass, b, 0);
    EACH(i, 3) x[i] = T(inertial, b, i);
    place_of(w, k, x, o);
    move_motion(w.V[k], o, v);
    tree_origin(w, k, origin);
    mass += m;
    EACH(i, 3) com[i] += m * (o[i] + origin[i]), velocity[i] += m * v[3 + i];
  }
  sum_lanes(com, 3), sum_lanes(velocity, 3);
  mass = sum_lanes(mass) + T(subtree, row, 3);
  EACH(i, 3) com[i] = (com[i] + T(subtree, row, i)) / mass;
  if (kind == SENS_SUBTREECOM && LANE == 0) EACH(i, 3) sense(w, s, i, com[i]);
  if (kind == SENS_SUBTREELINVEL && LANE == 0) EACH(i, 3) sense(w, s, i, velocity[i] / mass);
  if (kind != SENS_SUBTREEANGMOM) return;
  for (int n = SUBTREE0[row]; n < SUBTREE0[row + 1]; n++) {
    int b = SUBTREE_BODY[n], k = PLACE_BODY_SLOT[b];
    if (!ADDS_BODY(b)) continue;
    F x[3], o[3], v[6], origin[3], M[9], R[9], spin[3], local[3], orbit[3], m = T(body_mass, b, 0);
    EACH(i, 3) x[i] = T(inertial, b, i);
    EACH(i, 9) M[i] = T(inertial, b, 3 + i);
    place_of(w, k, x, o);
    move_motion(w.V[k], o, v);
    tree_origin(w, k, origin);
    multiply3(w.R[k], M, R);
    rotate_back(R, v, local);
    EACH(i, 3) local[i] *= T(body_inertia, b, i), o[i] += origin[i] - com[i];
    rotate(R, local, spin);
    cross(o, v + 3, orbit);
    EACH(i, 3) momentum[i] += spin[i] + m * orbit[i];
  }
  sum_lanes(momentum, 3);
  if (LANE == 0) EACH(i, 3) sense(w, s, i, momentum[i]);
}

// Distance beyond a joint's limit, below zero, or zero; side: -1 at the upper limit.
FN F beyond_limit(const Shown &w, int k, F &side) {
  F low = w.q[k] - T(limit, k, 0), high = T(limit, k, 1) - w.q[k];
  side = select(low < high, ONE, ZERO - 1.0f);
  return LIMITED[k] ? min_(min_(low, high) - T(limit, k, 2), ZERO) : ZERO;
}

FN F tendon_sum(const Shown &w, int t, const F *of_slots) {
  F sum = ZERO;
  for (int n = TENDON0[t]; n < TENDON0[t + 1]; n++) sum += T(tendon_term, n, 0) * of_slots[TENDON_SLOT[n]];
  return sum;
}

// mj_sensorPos, mj_sensorVel
WRITER void sense_state(const Shown &w) {
  F quat[NSLOT][4] = {};
  if (QUAT_SENSORS) slot_quats(w, quat);
  ONE_OF(s, SENSORS_OF_STATE, NSENSOR_STATE) {
    int kind = SENSOR_KIND[s], k = SENSOR_SLOT[s];
    F side;
    switch (kind) {
      case SENS_JOINTPOS: sense(w, s, 0, w.q[k]); break;
      case SENS_JOINTVEL: sense(w, s, 0, w.v[k]); break;
      case SENS_BALLANGVEL: EACH(i, 3) sense(w, s, i, w.v[k + i]); break;
      case SENS_BALLQUAT: {
        F q[4];
        EACH(i, 4) q[i] = w.ball[BALL_OF[k]][i];
        normalize_quat(q);
        EACH(i, 4) sense(w, s, i, q[i]);
        break;
      }
      case SENS_ACTUATORPOS: sense(w, s, 0, T(actuator, SENSOR_ROW[s], 0) * (k < 0 ? tendon_sum(w, SENSOR_TENDON[s], w.q) : w.q[k])); break;
      case SENS_ACTUATORVEL: sense(w, s, 0, T(actuator, SENSOR_ROW[s], 0) * (k < 0 ? tendon_sum(w, SENSOR_TENDON[s], w.v) : w.v[k])); break;
      case SENS_TENDONPOS: sense(w, s, 0, tendon_sum(w, SENSOR_TENDON[s], w.q)); break;
      case SENS_TENDONVEL: sense(w, s, 0, tendon_sum(w, SENSOR_TENDON[s], w.v)); break;
      case SENS_JOINTLIMITPOS: sense(w, s, 0, beyond_limit(w, k, side)); break;
      case SENS_JOINTLIMITVEL: {
        B beyond = beyond_limit(w, k, side) < 0.0f;
        sense(w, s, 0, select(beyond, side * w.v[k], ZERO));
        break;
      }
      case SENS_SUBTREECOM: case SENS_SUBTREELINVEL: case SENS_SUBTREEANGMOM: break;  // below
      default: sense_frame(w, s, quat);
    }
  }
  for (int n = 0; n < NSUBTREE_SENSOR; n++) sense_subtree(w, SUBTREE_SENSOR[n]);
}

// Whether a ray from x along e, in a site's frame, meets the site or starts inside it.
FN void ball_span(const F *x, const F *e, F radius, F &from, F &to) {
  F b = dot3(x, e), a = dot3(e, e), c = dot3(x, x) - radius * radius, disc = b * b - a * c;
  F root = max_(disc, ZERO), s = root * rsqrt_(max_(root, ZERO + 1e-30f));
  from = select(disc < 0.0f, ZERO + 1.0f, (ZERO - b - s) / a);
  to = select(disc < 0.0f, ZERO - 1.0f, (s - b) / a);
}
FN void slab_span(F x, F e, F half, F &from, F &to) {
  F speed = select(abs_(e) < 1e-12f, ZERO + 1e-12f, e), one = (half - x) / speed, two = (ZERO - half - x) / speed;
  from = min_(one, two), to = max_(one, two);
}
FN B ahead(F from, F to) { return (to >= from) & (to >= 0.0f); }
WRITER B ray_meets(const Shown &w, int shape, int row, const F *x, const F *e) {
  F from, to, from2, to2, size[3];
  EACH(i, 3) size[i] = T(touch, row, i);
  if (shape == SITE_ELLIPSOID || shape == SITE_SPHERE) {
    F scaled[3], turn[3];
    EACH(i, 3) scaled[i] = x[i] / size[shape == SITE_SPHERE ? 0 : i], turn[i] = e[i] / size[shape == SITE_SPHERE ? 0 : i];
    ball_span(scaled, turn, ONE, from, to);
    return ahead(from, to);
  }
  slab_span(x[2], e[2], size[shape == SITE_BOX ? 2 : 1], from, to);
  if (shape == SITE_BOX) {
    EACH(i, 2) {
      slab_span(x[i], e[i], size[i], from2, to2);
      from = max_(from, from2), to = min_(to, to2);
    }
    return ahead(from, to);
  }
  F flat[3] = {x[0], x[1], ZERO}, across[3] = {e[0], e[1], ZERO};
  F tiny = select(dot3(across, across) < 1e-12f, ZERO + 1e-6f, ZERO);
  across[0] += tiny;  // along the axis of the cylinder
  ball_span(flat, across, size[0], from2, to2);
  B meets = ahead(max_(from, from2), min_(to, to2));
  if (shape == SITE_CAPSULE) EACH(i, 2) {
    F end[3] = {x[0], x[1], i ? x[2] + size[1] : x[2] - size[1]};
    ball_span(end, e, size[0], from, to);
    meets = meets | ahead(from, to);
  }
  return meets;
}
FN F normal_force(const F *x, F D, int dim, F mu) {
  F force[6], friction[6] = {};
  contact_force(x, D, dim, mu, friction, force);
  return force[0];
}
// The force of one contact if the ray from o along side * n, away from the body, meets the site.
FN F touched(const Shown &w, int s, const Frame &site, F force, const F *o, const F *origin, const F *n, float side) {
  int row = SENSOR_TOUCH[s];
  F d[3], x[3], e[3], away[3];
  EACH(i, 3) d[i] = o[i] - site.x[i] + (origin[i] - site.origin[i]), away[i] = side * n[i];
  rotate_back(site.R, d, x), rotate_back(site.R, away, e);
  return select((force > 0.0f) & ray_meets(w, TOUCH_SHAPE[row], row, x, e), force, ZERO);
}
WRITER void sense_touch(const Shown &w, const Contacts &C, const Pairs &X, int s) {
  int body = TOUCH_BODY[SENSOR_TOUCH[s]];
  F sum = ZERO, origin[3];
  Frame site;
  frame_of(w, SENSOR_ROW[s], site);
  SLOTS(k) for (int c = w.from[k]; c < w.from[k + 1]; c++) {
    int i = C.point[c];
    if (POINT_BODY[i] != body && POINT_OTHER[i] != body) continue;
    tree_origin(w, k, origin);
    F force = normal_force(C.x[c], C.D[c], POINT_DIM[i], POINT_MU(i));
    sum += touched(w, s, site, force, C.offset[c], origin, C.normal[c], POINT_BODY[i] == body ? -1.0f : 1.0f);
  }
  for (int c = 0; c < w.npair; c++) {
    int i = X.pair[c], a = PAIR_GEOM1[i], b = PAIR_GEOM2[i];
    if (GEOM_BODY[a] != body && GEOM_BODY[b] != body) continue;
    tree_origin(w, GEOM_SLOT[a], origin);
    F force = normal_force(X.x[c], X.D[c], PAIR_DIM[i], PAIR_MU(i));
    sum += touched(w, s, site, force, X.offset[c], origin, X.normal[c], GEOM_BODY[b] == body ? -1.0f : 1.0f);
  }
  sense(w, s, 0, sum);
}

// Accelerations of all slots, with gravity as MuJoCo has it: a body at rest accelerates upwards.
FN void accelerations(const Shown &w, F acc[][6]) {
  SLOTS(k) {
    F *own = acc[k];
    if (KIND[k] == FREE) EACH(i, 6) own[i] = w.acc6[POSE_OF[k]][i];
    else if (NBASE && KIND[k] == BASE) EACH(i, 6) own[i] = ZERO;
    else EACH(i, 6) own[i] = w.S[k][i] * w.acc[k] + (UP[k] < 0 ? ZERO : acc[UP[k]][i] - w.c[UP[k]][i]);
    EACH(i, 6) own[i] += w.c[k][i];
  }
}
FN void sense_acceleration(const Shown &w, int s, F acc[][6]) {
  int kind = SENSOR_KIND[s], k = FRAME_SLOT[SENSOR_ROW[s]];
  Frame frame;
  F a[6], turning[3] = {};
  frame_of(w, SENSOR_ROW[s], frame);
  if (k < 0) {
    EACH(i, 3) a[i] = ZERO, a[3 + i] = ZERO - T(gravity, 0, i);
  } else {
    move_motion(acc[k], frame.x, a);
    cross(frame.v, frame.v + 3, turning);
  }
  EACH(i, 3) a[3 + i] += turning[i];
  sense_vector(w, s, frame.R, kind == SENS_ACCELEROMETER, kind == SENS_FRAMEANGACC ? a : a + 3);
}

#if NPART
// What a body without joints passes on to the one that it is welded to: the wrench of itself and of what is
// welded to it further out, about their tree's origin; then that of what hangs from them. touch: contacts and
// equalities by body. inner: what each slot's parent passes on to it.
WRITER void welded_forces(const Shown &w, const F touch[][6], F parts[][6]) {
  F acc[NSLOT][6];
  accelerations(w, acc);
  for (int p = 0; p < NPART; p++) {
    int k = PART_SLOT[p];
    F still[12] = {ONE, ZERO, ZERO, ZERO, ONE, ZERO, ZERO, ZERO, ONE, ZERO, ZERO, ZERO}, at_rest[6] = {};
    EACH(i, 3) at_rest[3 + i] = ZERO - T(gravity, 0, i);
    EACH(i, 6) parts[p][i] = ZERO;
    for (int n = PART0[p]; n < PART0[p + 1]; n++) {
      F body[10], I[10], inertial[6], moving[6], gyroscopic[6], outside[6] = {}, o[3];
      EACH(i, 10) body[i] = T(part, n, i);
      inertia_in_world(k < 0 ? still : w.R[k], k < 0 ? still + 9 : w.p[k], body, I);
      multiply_inertia(I, k < 0 ? at_rest : acc[k], inertial);
      EACH(i, 6) moving[i] = k < 0 ? ZERO : w.V[k][i];
      F spin[6];
      multiply_inertia(I, moving, spin), cross_force(moving, spin, gyroscopic);
      if (k < 0) EACH(i, 3) o[i] = body[6 + i];
      else place_of(w, k, body + 6, o);
      if (w.fields->xfrc_applied) add_applied_at(w, *w.fields, PART_BODY[n], o, outside);
      EACH(i, 6) parts[p][i] += inertial[i] + gyroscopic[i] - touch[PART_BODY[n]][i] - outside[i];
    }
  }
}
WRITER void add_limbs(const Shown &w, const F inner[][6], F parts[][6]) {
  for (int p = 0; p < NPART; p++) for (int n = PART_LIMB0[p]; n < PART_LIMB0[p + 1]; n++) {
    F from[3], moved[6];
    tree_origin(w, PART_LIMB[n], from);
    EACH(i, 3) from[i] = PART_SLOT[p] < 0 ? ZERO - from[i] : ZERO;  // to the world's origin
    move_force(inner[PART_LIMB[n]], from, moved);
    EACH(i, 6) parts[p][i] += moved[i];
  }
}
#endif
#if SHOWS_WELDS
// cfrc_int of bodies without joints; world: the world's, to which the outermost ones add theirs.
WRITER void show_parts(const Shown &w, const F parts[][6], F *world) {
  for (int p = 0; p < NPART; p++) {
    int k = PART_SLOT[p], near = k < 0 ? PART_NEAR[p] : k;
    F com[3], from[3], f[6];
    if (near < 0) EACH(i, 3) com[i] = T(part_tree, p, i);
    else tree_com(w, near, com), tree_origin(w, near, from);
    if (k < 0 && near >= 0) EACH(i, 3) com[i] += from[i];  // from the world's origin
    move_force(parts[p], com, f);
    EACH(i, 6) put(w, OUT(cfrc_int), 6 * NBODY, 6 * PART_ID[p] + i, f[i]);
    if (PARENT_BODY[PART_ID[p]] == 0) EACH(i, 6) world[i] += f[i];
  }
}
#endif

FN F joint_actuation(const Shown &w, int k) {
  F sum = NTENDON ? w.drive[k] : ZERO;
  for (int i = ACTUATOR0[k]; i < ACTUATOR1[k]; i++) sum += T(actuator, i, 0) * w.drives->force[ACTUATOR[i]];
  return FORCE_LIMITED[k] ? min_(max_(sum, T(force_range, k, 0)), T(force_range, k, 1)) : sum;
}

// mj_sensorAcc; inner: what each slot's parent passes on to it.
// MuJoCo has the force that the body exerts; touch: those on the bodies.
FN void sense_contacts(const Shown &w, const F touch[][6], bool own) {
  ONE_OF(n, SENSORS_OF_FORCES, NSENSOR - NSENSOR_STATE) {
    int s = NSENSOR_STATE + n;
    if (SENSOR_KIND[s] == SENS_CONTACT && (SENSOR_REF[s] >= 0) == own) EACH(i, 3) sense(w, s, i, ZERO - touch[SENSOR_ROW[s]][3 + i]);
  }
}
WRITER void sense_forces(const Shown &w, const Contacts &C, const Pairs &X, F inner[][6], F parts[][6]) {
  F acc[NSLOT][6];
  if (ACCELERATION_SENSORS) accelerations(w, acc);
  ONE_OF(n, SENSORS_OF_FORCES, NSENSOR - NSENSOR_STATE) {
    int s = NSENSOR_STATE + n, kind = SENSOR_KIND[s], k = SENSOR_SLOT[s];
    switch (kind) {
      case SENS_ACTUATORFRC: sense(w, s, 0, w.drives->force[SENSOR_ROW[s]]); break;
      case SENS_JOINTACTFRC: sense(w, s, 0, joint_actuation(w, k)); break;
      case SENS_JOINTLIMITFRC: sense(w, s, 0, LIMITED[k] ? ZERO - select(w.lx[k] < 0.0f, w.lD[k] * w.lx[k], ZERO) : ZERO); break;
      case SENS_CONTACT: break;  // sense_contacts
      case SENS_TOUCH: sense_touch(w, C, X, s); break;
      case SENS_FORCE: case SENS_TORQUE: {
        F x[3], R[9], f[6];
        place_frame(w, SENSOR_ROW[s], x, R);
        move_force(NPART && SENSOR_PART[s] >= 0 ? parts[SENSOR_PART[s]] : inner[FRAME_SLOT[SENSOR_ROW[s]]], x, f);
        sense_vector(w, s, R, true, kind == SENS_TORQUE ? f : f + 3);
        break;
      }
      default: sense_acceleration(w, s, acc);
    }
  }
}
