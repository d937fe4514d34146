// What tasks read besides the state: forces of the last substep, positions and velocities of the
// new state. Only fields that have been read are computed (`OUT(name)` is their memory, or null).

// What waits for memory at every slot waits once where the compiler sees all of them.
#undef UNROLL
#define UNROLL SOLVER_UNROLL
// Adds what acts on slots to their parents, to the roots.
FN void add_to_parents(F (*x)[6]) {
  F trunk[NTRUNK + 1][6], sum[6] = {};
  if (LANES > 1) TRUNK(k) EACH(i, 6) trunk[k][i] = ZERO;
  LIMBS_UP(k) {
    EACH(i, 6) x[k][i] = sum[i] += x[k][i];
    if (CHAINED[k]) continue;  // to the slot before
    if (UP[k] >= 0) {
      F *up = UP[k] < NTRUNK ? trunk[UP[k]] : x[UP[k]];
      EACH(i, 6) up[i] += sum[i];
    }
    EACH(i, 6) sum[i] = ZERO;
  }
  if (LANES == 1) return;
  TRUNK(k) {
    sum_lanes(trunk[k], 6);
    EACH(i, 6) x[k][i] += trunk[k][i];
  }
  TRUNK_UP(k) if (UP[k] >= 0) EACH(i, 6) x[UP[k]][i] += x[k][i];
}
// Wrenches of the slots' own motion less those from outside.
FN void own_wrenches(const Shown &w, const F (*from_outside)[6], F (*out)[6]) {
  SLOTS(k) EACH(i, 6) out[k][i] = (BODY[k] ? w.wrench[k][i] : ZERO) - from_outside[k][i];
}
#undef UNROLL
#define UNROLL OUTPUT_UNROLL

// A wrench or motion about the tree's origin, about `point`.
FN void move_force(const F *f, const F *point, F *out) {
  F t[3];
  cross(point, f + 3, t);
  EACH(i, 3) out[i] = f[i] - t[i], out[3 + i] = f[3 + i];
}
FN void move_motion(const F *v, const F *point, F *out) {
  F t[3];
  cross(v, point, t);
  EACH(i, 3) out[i] = v[i], out[3 + i] = v[3 + i] + t[i];
}

// A body's net force without contacts and applied forces is what its parent passes on to it.
FN void add_contact_force(const F *x, F D, int dim, F mu, const F *friction, const F *o, const F *n, const F *t,
                          F *wrench) {
  F force[6];
  contact_force(x, D, dim, mu, friction, force);
  for (int j = 0; j < dim; j++) {
    F b[6];
    contact_basis(o, n, t, j, b);
    EACH(m, 6) wrench[m] += force[j] * b[m];
  }
}
// Of contact c with the world, about its tree's origin.
FN void contact_wrench(const Shown &w, const Contacts &C, int c, F *wrench) {
  int i = C.point[c];
  F friction[6];
  EACH(j, NBASIS) friction[j] = T(point, i, 14 + j);
  add_contact_force(C.x[c], C.D[c], POINT_DIM[i], POINT_MU(i), friction, C.offset[c], C.normal[c], C.tangent[c], wrench);
}
// The contacts' forces on each body of the model, or on each slot that moves, about its tree's origin;
// `own`: those between bodies of one tree only.
WRITER void contact_wrenches(const Shown &w, const Contacts &C, const Pairs &X, bool by_body, bool own, F ext[][6]) {
  for (int b = 0; b < (by_body ? NBODY : NSLOT); b++) EACH(i, 6) ext[b][i] = ZERO;
  if (!own) SLOTS(k) {
    for (int c = w.from[k]; c < w.from[k + 1]; c++) {
      int i = C.point[c];
      F wrench[6] = {}, shift[3], moved[6];
      contact_wrench(w, C, c, wrench);
      EACH(j, 6) ext[by_body ? POINT_BODY[i] : k][j] += wrench[j];
      if (!by_body || !FIXED_FORCES) continue;
      tree_shift(w, k, POINT_OTHER_SLOT[i], shift);
      move_force(wrench, shift, moved);
      EACH(j, 6) ext[POINT_OTHER[i]][j] -= moved[j];
    }
  }
  for (int c = 0; c < w.npair; c++) {
    int i = X.pair[c];
    if (own && !PAIR_OWN[i]) continue;
    F friction[6], wrench[6], moved[6];
    EACH(j, PBASIS) friction[j] = T(pair, i, 8 + j);
    EACH(m, 6) wrench[m] = ZERO;
    add_contact_force(X.x[c], X.D[c], PAIR_DIM[i], PAIR_MU(i), friction, X.offset[c], X.normal[c], X.tangent[c],
                      wrench);
    int a = PAIR_GEOM1[i], b = PAIR_GEOM2[i];
    if (ADDS(a)) EACH(m, 6) ext[by_body ? GEOM_BODY[a] : GEOM_SLOT[a]][m] -= wrench[m];
    if (ACROSS_TREES) move_force(wrench, X.shift[c], moved);
    if (ADDS(b)) EACH(m, 6) ext[by_body ? GEOM_BODY[b] : GEOM_SLOT[b]][m] += ACROSS_TREES ? moved[m] : wrench[m];
  }
  if (LANES == 1) return;
  if (!by_body) TRUNK(k) sum_lanes(ext[k], 6);
  else for (int b = 0; b < NPLACE_BODY; b++)
    if (PLACE_BODY_SLOT[b] < NTRUNK) sum_lanes(ext[PLACE_BODY_ID[b]], 6);
}

FN void add_mass(const Shown &w, int k, const F *from, F &mass, F *com) {
  F origin[3];
  tree_origin(w, k, origin);
  mass += w.I[k][9];
  EACH(i, 3) com[i] += w.I[k][6 + i] + w.I[k][9] * (origin[i] - from[i]);
}
// The centre of mass of everything below slot k's outermost body, from the tree's origin.
WRITER void tree_com(const Shown &w, int k, F *com) {
  F mass = ZERO, origin[3];
  tree_origin(w, k, origin);
  EACH(i, 3) com[i] = ZERO;
  if (LANE == 0) {
    mass = T(group, GROUP[k], 3);
    EACH(i, 3) com[i] = T(group, GROUP[k], i) - mass * origin[i];
  }
  LIMBS(j) if (BODY[j] && GROUP[j] == GROUP[k]) add_mass(w, j, origin, mass, com);
  mass = sum_lanes(mass), sum_lanes(com, 3);
  TRUNK(j) if (BODY[j]) add_mass(w, j, origin, mass, com);
  EACH(i, 3) com[i] = NBASE ? select(mass > 0.0f, com[i] / mass, ZERO) : com[i] / mass;  // a base may have none
}
#include "sensors.h"

#if NTHRUSTER
// qfrc_actuator, of actuators at sites and at joints.
WRITER void write_with_thrust(const Shown &w) {
  F pushed[NSLOT][6], local[3];
  SLOTS(k) EACH(i, 6) pushed[k][i] = ZERO;
  thrust(w, 1, pushed);
  add_to_parents(pushed);
  SLOTS(k) if (KIND[k] == FREE) {
    rotate_back(w.R[k], pushed[k], local);
    EACH(i, 3) put(w, OUT(qfrc_actuator), NV, DOF[k] + i, pushed[k][3 + i]), put(w, OUT(qfrc_actuator), NV, DOF[k] + 3 + i, local[i]);
  } else if (DOF[k] >= 0) {
    put(w, OUT(qfrc_actuator), NV, DOF[k], joint_actuation(w, k) + dot6(w.S[k], pushed[k]));
  }
}
#endif

#if SHOWS_WELDS
#define WANTS_PARTS (sensors || OUT(cfrc_int))
#define ON_WORLD(k) PARENT_BODY[BODY_ID[k]] == 0 && KIND[k] != BASE
#else
#define WANTS_PARTS sensors
#define ON_WORLD(k) UP[k] < 0
#endif
// mj_sensorAcc, mj_rnePostConstraint: after `solve`, before `integrate`
WRITER void write_forces(const Shown &w, const Contacts &C, const Pairs &X) {
  if (OUT(actuator_force)) ONE_OF(i, ACTUATORS, NU) put(w, OUT(actuator_force), NU, i, w.drives->force[i]);
  if (OUT(qacc)) SLOTS(k) if (OWN(k)) {
    if (KIND[k] == FREE) {
      F local[3];
      rotate_back(w.R[k], w.acc6[POSE_OF[k]], local);
      EACH(i, 3) put(w, OUT(qacc), NV, DOF[k] + i, w.acc6[POSE_OF[k]][3 + i]), put(w, OUT(qacc), NV, DOF[k] + 3 + i, local[i]);
    } else {
      put(w, OUT(qacc), NV, DOF[k], w.acc[k]);
    }
  }
  if (OUT(qfrc_actuator)) SLOTS(k) if (OWN(k)) {
    if (KIND[k] == FREE) EACH(i, 5) put(w, OUT(qfrc_actuator), NV, DOF[k] + 1 + i, ZERO);
    put(w, OUT(qfrc_actuator), NV, DOF[k], joint_actuation(w, k));
  }
#if NTHRUSTER
  if (OUT(qfrc_actuator)) write_with_thrust(w);
#endif
  bool sensors = OUT(sensordata) && NSENSOR > NSENSOR_STATE;
  bool forces = OUT(qfrc_constraint) || OUT(cfrc_ext) || OUT(cfrc_int) || (sensors && FORCE_SENSORS);
  F inner[NSLOT][6], parts[NPART + 1][6];
  if (sensors && !forces) sense_forces(w, C, X, inner, parts);
  if (!forces) return;
  F touch[NBODY][6], ext[NSLOT][6];
  if (NROW || OUT(cfrc_ext) || (WANTS_PARTS && (CONTACT_SENSORS || NPART))) {
    if (sensors && OWN_CONTACT_SENSORS) {
      contact_wrenches(w, C, X, true, true, touch);
      sense_contacts(w, touch, true);
    }
    contact_wrenches(w, C, X, true, false, touch);
    if (sensors && CONTACT_SENSORS) sense_contacts(w, touch, false);
    SLOTS(k) {
      EACH(i, 6) ext[k][i] = ZERO;
      BODIES_OF(k, b) EACH(i, 6) ext[k][i] += touch[PLACE_BODY_ID[b]][i];
    }
  } else {
    contact_wrenches(w, C, X, false, false, ext);
  }
  own_wrenches(w, ext, inner);
  if (GRAVCOMP) SLOTS(k) compensate_gravity(w, k, inner[k], 1);  // a joint's force, not one from outside
#if FLUID
  SLOTS(k) if (BODY[k]) resist(w, k, inner[k], 1);
#endif
#if NTHRUSTER
  thrust(w, 1, inner);
#endif
  if (NROW) {
    F pulled[NBODY][6];
    for (int b = 0; b < NBODY; b++) EACH(i, 6) pulled[b][i] = ZERO;
    row_wrenches(w, ext, pulled);
    for (int b = 0; b < NBODY; b++) EACH(i, 6) touch[b][i] += pulled[b][i];
    for (int b = 0; b < NPLACE_BODY; b++) EACH(i, 6) inner[PLACE_BODY_SLOT[b]][i] -= pulled[PLACE_BODY_ID[b]][i];
  }
#if NPART
  if (WANTS_PARTS) welded_forces(w, touch, parts);
#endif
  F com[3];
  if (LANES > 1 && (OUT(cfrc_ext) || OUT(cfrc_int))) tree_com(w, 0, com);  // lanes step one tree
  if (OUT(cfrc_ext)) ONE_OF(b, PLACE_BODY, NPLACE_BODY) {
    int k = PLACE_BODY_SLOT[b], id = PLACE_BODY_ID[b];
    F f[6];
    if (w.fields->xfrc_applied) add_applied(w, *w.fields, k, b, touch[id]);
    if (LANES == 1) tree_com(w, k, com);
    move_force(touch[id], com, f);
    EACH(i, 6) put(w, OUT(cfrc_ext), 6 * NBODY, 6 * id + i, f[i]);
  }
  add_to_parents(ext), add_to_parents(inner);
#if NPART
  if (WANTS_PARTS) add_limbs(w, inner, parts);
#endif
  if (OUT(cfrc_int)) {
    F world[6] = {};
    SLOTS(k) if (LAST[k] && OWN(k)) {
      F f[6];
      if (LANES == 1) tree_com(w, k, com);
      int base = k;
      while (UP[base] >= 0 && BODY_ID[UP[base]] == BODY_ID[k]) base = UP[base];
      move_force(inner[base], com, f);
      EACH(i, 6) put(w, OUT(cfrc_int), 6 * NBODY, 6 * BODY_ID[k] + i, f[i]);
      if (ON_WORLD(base)) EACH(i, 6) world[i] += f[i];
    }
#if SHOWS_WELDS
    show_parts(w, parts, world);
#endif
    sum_lanes(world, 6);
    if (LANE == 0) EACH(i, 6) put(w, OUT(cfrc_int), 6 * NBODY, i, world[i]);
  }
  if (OUT(qfrc_constraint)) SLOTS(k) if (OWN(k)) {
    if (KIND[k] == FREE) {
      F local[3];
      rotate_back(w.R[k], ext[k], local);
      EACH(i, 6) {
        F force = i < 3 ? ext[k][3 + i] : local[i - 3];
        if (FREE_FRICTION) force -= friction_force(FREE_FLOSS(POSE_OF[k], i), FREE_D(POSE_OF[k], i), w.free_x[POSE_OF[k]][i]);
        put(w, OUT(qfrc_constraint), NV, DOF[k] + i, force);
      }
      continue;
    }
    F f = dot6(w.S[k], ext[k]);
    if (LIMITED[k]) f -= w.lside[k] * select(w.lx[k] < 0.0f, w.lD[k] * w.lx[k], ZERO);
    if (FRICTION[k]) f -= friction_force(T(friction, k, 0), T(friction, k, 1), w.fx[k]);
    if (NROW) f += w.row_tau[k];
    put(w, OUT(qfrc_constraint), NV, DOF[k], f);
  }
  if (sensors) sense_forces(w, C, X, inner, parts);
}

// mj_kinematics, mj_comPos, mj_comVel of the present state
WRITER void write_positions(const Shown &w) {
  F origin[3];
  if (OUT(sensordata) && NSENSOR_STATE) sense_state(w);
  if (OUT(xquat)) {
    F quat[NSLOT][4] = {};
    slot_quats(w, quat);
    ONE_OF(b, PLACE_BODY, NPLACE_BODY) {
      F own[4], q[4];
      EACH(i, 4) own[i] = T(body_quat, b, i);
      multiply_quat(quat[PLACE_BODY_SLOT[b]], own, q);
      normalize_quat(q);
      EACH(i, 4) put(w, OUT(xquat), 4 * NBODY, 4 * PLACE_BODY_ID[b] + i, q[i]);
    }
  }
#define PLACES(items, table, total, pos_out, mat_out) \
  if (OUT(pos_out) || OUT(mat_out)) ONE_OF(b, items, N##items) { \
    int k = items##_SLOT[b], id = items##_ID[b]; \
    F x[3], o[3], M[9], R[9]; \
    EACH(i, 3) x[i] = T(table, b, i); \
    place_of(w, k, x, o); \
    tree_origin(w, k, origin); \
    if (OUT(pos_out)) EACH(i, 3) put(w, OUT(pos_out), 3 * total, 3 * id + i, o[i] + origin[i]); \
    if (!OUT(mat_out)) continue; \
    EACH(i, 9) M[i] = T(table, b, 3 + i); \
    multiply3(w.R[k], M, R); \
    EACH(i, 9) put(w, OUT(mat_out), 9 * total, 9 * id + i, R[i]); \
  }
  PLACES(PLACE_BODY, body, NBODY, xpos, xmat)
  PLACES(PLACE_BODY, inertial, NBODY, xipos, ximat)
  PLACES(PLACE_GEOM, geom_place, NGEOM, geom_xpos, geom_xmat)
  PLACES(PLACE_SITE, site_place, NSITE, site_xpos, site_xmat)
  F com[3];
  if (LANES > 1 && (OUT(cvel) || OUT(cdof))) tree_com(w, 0, com);
  if (OUT(cvel)) ONE_OF(b, PLACE_BODY, NPLACE_BODY) {
    int k = PLACE_BODY_SLOT[b];
    F v[6];
    if (LANES == 1) tree_com(w, k, com);
    move_motion(w.V[k], com, v);
    EACH(i, 6) put(w, OUT(cvel), 6 * NBODY, 6 * PLACE_BODY_ID[b] + i, v[i]);
  }
  if (OUT(cdof)) SLOTS(k) if (OWN(k)) {
    if (LANES == 1) tree_com(w, k, com);
    EACH(j, KIND[k] == FREE ? 6 : 1) {
      F motion[6];
      if (KIND[k] != FREE) {
        move_motion(w.S[k], com, motion);
      } else {  // along the world's axes, and about the body's
        F axis[6];
        free_axis(w, k, j, axis);
        move_motion(axis, com, motion);
      }
      EACH(i, 6) put(w, OUT(cdof), 6 * NV, 6 * (DOF[k] + j) + i, motion[i]);
    }
  }
  if (OUT(subtree_com)) {
    F sum[NBODY][4];
    for (int b = 0; b < NBODY; b++) EACH(i, 4) sum[b][i] = LANE == 0 ? T(static_mass, b, i) : ZERO;
    ONE_OF(b, PLACE_BODY, NPLACE_BODY) {
      int k = PLACE_BODY_SLOT[b];
      F x[3], o[3], m = T(body_mass, b, 0);
      EACH(i, 3) x[i] = T(inertial, b, i);
      place_of(w, k, x, o);
      tree_origin(w, k, origin);
      EACH(i, 3) sum[PLACE_BODY_ID[b]][i] = m * (o[i] + origin[i]);
      if (!HAS_MASS[PLACE_BODY_ID[b]]) EACH(i, 3) put(w, OUT(subtree_com), 3 * NBODY, 3 * PLACE_BODY_ID[b] + i, o[i] + origin[i]);
      sum[PLACE_BODY_ID[b]][3] = m;
    }
    for (int b = NBODY - 1; b >= 0; b--) {
      if (b) EACH(i, 4) sum[PARENT_BODY[b]][i] += sum[b][i];
      sum_lanes(sum[b], 4);  // after its part went to the parent
      if (LANE == 0 && HAS_MASS[b]) EACH(i, 3) put(w, OUT(subtree_com), 3 * NBODY, 3 * b + i, sum[b][i] / sum[b][3]);
    }
  }
}

FN void write_out(const World &w, const Contacts &C, const Pairs &X, bool forces, bool positions) {
  WRITTEN(w, written);
  if (forces) write_forces(written, C, X);
  if (positions) write_positions(written);
}
