// Constraint rows that are neither contacts nor of one joint: equalities, limits and friction of
// tendons, limits of ball joints. A row is coefficients of slots or motions of two bodies; the solver
// adds its force to the pass to the roots and its weight by Woodbury's formula. Part of step.h.

// Lengths of tendons, and what their springs, dampers and actuators do to the slots.
FN void tendons(World &w) {
  SLOTS(k) w.pull[k] = w.drive[k] = ZERO;
  for (int t = 0; t < NTENDON; t++) {
    F length = ZERO, speed = ZERO;
    for (int n = TENDON0[t]; n < TENDON0[t + 1]; n++) {
      F coefficient = T(tendon_term, n, 0);
      length += coefficient * w.q[TENDON_SLOT[n]], speed += coefficient * w.v[TENDON_SLOT[n]];
    }
    w.length[t] = length, w.speed[t] = speed;
    F beyond = max_(length - T(tendon, t, 2), ZERO) + min_(length - T(tendon, t, 1), ZERO);
    F passive = ZERO - T(tendon, t, 0) * beyond - T(tendon, t, 3) * speed, active = ZERO, changes;
    w.tendon_damping[t] = T(tendon, t, 3);
    for (int n = TENDON_ACTUATOR0[t]; n < TENDON_ACTUATOR0[t + 1]; n++) {
      F gear = T(actuator, NJOINT_ACTUATOR + n, 0);
      active += gear * actuator_force(w, NJOINT_ACTUATOR + n, length, speed, changes);
      w.tendon_damping[t] -= gear * changes;
    }
    for (int n = TENDON0[t]; n < TENDON0[t + 1]; n++) {
      w.pull[TENDON_SLOT[n]] += T(tendon_term, n, 0) * passive;
      w.drive[TENDON_SLOT[n]] += T(tendon_term, n, 0) * active;
    }
  }
}

// -- rows at zero acceleration -------------------------------------------------------------------

// Row r's weight and J acc - aref, from its distance, the size that counts for impedance, and speed.
FN void set_row(World &w, int r, B on, F distance, F size, F speed) {
  F imp = impedance(size, T(row, r, 2), T(row, r, 3), T(row, r, 4), T(row, r, 5), T(row, r, 6));
  w.row_D[r] = select(on, imp / max_((1 - imp) * T(row, r, 7), ZERO + 1e-15f), ZERO);
  w.row_x[r] = select(on, T(row, r, 1) * speed + T(row, r, 0) * imp * distance, ZERO);
}
// Whether row r's equality is on; one that is not has no weight.
FN B is_on(const World &w, int r) {
  if (!SWITCHED || !w.fields->eq_active) return ONE > 0.0f;
  return get(w, w.fields->eq_active, NEQ, ROW_EQ[r]) != 0.0f;
}
FN F row_speed(const World &w, int r) {
  F speed = ZERO;
  for (int n = ROW0[r]; n < ROW0[r + 1]; n++) speed += w.coefficient[n] * w.v[ROW_SLOT[n]];
  return speed;
}
// Lengths or angles coupled by a polynomial: the first less that of the second.
FN void polynomial_row(World &w, int r) {
  int one = ROW_FIRST[r], two = ROW_SECOND[r], split = ROW_SPLIT[r];
  bool of_tendons = ROW_TYPE[r] == ROW_TENDONS;
  F position = (of_tendons ? w.length[one] : w.q[one]) - T(row, r, 14) - T(row, r, 9), slope = ZERO;
  if (two >= 0) {
    F x = (of_tendons ? w.length[two] : w.q[two]) - T(row, r, 15);
    F a = T(row, r, 10), b = T(row, r, 11), c = T(row, r, 12), d = T(row, r, 13);
    position -= x * (a + x * (b + x * (c + x * d)));
    slope = a + x * (2 * b + x * (3 * c + x * 4 * d));
  }
  for (int n = ROW0[r]; n < ROW0[r + 1]; n++)
    w.coefficient[n] = n < split ? T(row_term, n, 0) : ZERO - slope * T(row_term, n, 0);
  set_row(w, r, is_on(w, r), position, position, row_speed(w, r));
}
FN void tendon_limit_row(World &w, int r) {
  F low = w.length[ROW_FIRST[r]] - T(row, r, 9), high = T(row, r, 10) - w.length[ROW_FIRST[r]];
  F distance = min_(low, high) - T(row, r, 8), side = select(low < high, ONE, ZERO - 1.0f);
  for (int n = ROW0[r]; n < ROW0[r + 1]; n++) w.coefficient[n] = side * T(row_term, n, 0);
  set_row(w, r, distance < 0.0f, distance, distance, row_speed(w, r));
}
#if NBALL
FN void ball_limit_row(World &w, int r) {
  F turn[3];
  normalize_quat(w.ball[ROW_FIRST[r]]);
  rotation_vector(w.ball[ROW_FIRST[r]], turn);
  F inverse = rsqrt_(max_(dot3(turn, turn), ZERO + 1e-20f)), angle = dot3(turn, turn) * inverse;
  F distance = T(row, r, 9) - angle - T(row, r, 8);
  EACH(i, 3) w.coefficient[ROW0[r] + i] = ZERO - turn[i] * inverse;
  set_row(w, r, distance < 0.0f, distance, distance, row_speed(w, r));
}
#endif

// A point fixed to a slot or to the world: x from its tree's origin, which is at `origin`, its velocity,
// and its acceleration if the joints have none.
struct Anchor {
  F x[3], origin[3], turning[3], velocity[3], drift[3], spin[3];
};
FN void anchor_of(const World &w, int k, F x0, F x1, F x2, Anchor &anchor) {
  F pos[3] = {x0, x1, x2};
  if (k < 0) {
    EACH(i, 3) anchor.x[i] = pos[i], anchor.origin[i] = anchor.turning[i] = anchor.velocity[i] = ZERO;
    EACH(i, 3) anchor.drift[i] = anchor.spin[i] = ZERO;
    return;
  }
  F motion[6], turning[3];
  place_of(w, k, pos, anchor.x);
  tree_origin(w, k, anchor.origin);
  cross(w.V[k], anchor.x, turning);
  EACH(i, 3) anchor.turning[i] = w.V[k][i], anchor.velocity[i] = w.V[k][3 + i] + turning[i];
  EACH(i, 6) motion[i] = w.c[k][i] + (i < 3 ? ZERO : T(gravity, 0, i - 3));
  cross(motion, anchor.x, turning);
  EACH(i, 3) anchor.spin[i] = motion[i], anchor.drift[i] = motion[3 + i] + turning[i];
  cross(anchor.turning, anchor.velocity, turning);
  EACH(i, 3) anchor.drift[i] += turning[i];
}
// Connect and weld: rows r, r + 1, r + 2 of position, and of a weld three more of rotation.
FN void fixed_rows(World &w, int r, F quat[][4]) {
  int one = ROW_FIRST[r], two = ROW_SECOND[r], m = ROW_BODY[r];
  bool weld = ROW_TYPE[r] == ROW_WELD;
  Anchor a, b;
  anchor_of(w, one, T(row, r, 9), T(row, r, 10), T(row, r, 11), a);
  anchor_of(w, two, T(row, r, 12), T(row, r, 13), T(row, r, 14), b);
  F error[6], drift[6], turn[3][3], square = ZERO;
  EACH(i, 3) {
    error[i] = a.x[i] - b.x[i] + (a.origin[i] - b.origin[i]), drift[i] = a.drift[i] - b.drift[i];
    error[3 + i] = drift[3 + i] = ZERO;
  }
  if (weld) {  // scale x the vector part of conj(q2) q1, with q1 and q2 as in tables.py
    F q1[4], q2[4], own1[4], own2[4], relative[4], scale = T(row, r, 15), d[3], bend[3], middle[4], part[4], whole[4];
    EACH(i, 4) own1[i] = T(weld, ROW_WELD_OF[r], i), own2[i] = T(weld, ROW_WELD_OF[r], 4 + i);
    if (one < 0) EACH(i, 4) q1[i] = own1[i];
    else multiply_quat(quat[one], own1, q1);
    if (two < 0) EACH(i, 4) q2[i] = own2[i];
    else multiply_quat(quat[two], own2, q2);
    normalize_quat(q1), normalize_quat(q2);
    EACH(i, 3) q2[i + 1] = ZERO - q2[i + 1];
    multiply_quat(q2, q1, relative);
    EACH(j, 4) {  // half of conj(q2) v q1 for each axis v, and for the rotation's drift
      EACH(i, 3) d[i] = a.turning[i] - b.turning[i];
      cross(d, b.turning, bend);
      middle[0] = j == 3 ? ZERO - 0.5f * dot3(d, d) : ZERO;
      EACH(i, 3) middle[1 + i] = j == 3 ? a.spin[i] - b.spin[i] + bend[i] : i == j ? ONE : ZERO;
      multiply_quat(q2, middle, part);
      multiply_quat(part, q1, whole);
      EACH(i, 3) {
        F value = 0.5f * scale * whole[1 + i];
        if (j == 3) drift[3 + i] = value;
        else turn[i][j] = value;
      }
    }
    EACH(i, 3) error[3 + i] = scale * relative[1 + i];
  }
  EACH(i, 6) square += error[i] * error[i];
  F size = square * rsqrt_(max_(square, ZERO + 1e-30f));
  B on = is_on(w, r);
  for (int i = 0; i < (weld ? 6 : 3); i++) {
    F *first = w.row_motion[m + i][0], *second = w.row_motion[m + i][1], force[3], speed = ZERO;
    EACH(j, 3) force[j] = i < 3 && j == i ? ONE : ZERO;
    if (i < 3) {
      cross(a.x, force, first), cross(b.x, force, second);
      EACH(j, 3) first[3 + j] = second[3 + j] = force[j];
      speed = a.velocity[i] - b.velocity[i];
    } else {
      EACH(j, 3) {
        first[j] = second[j] = turn[i - 3][j], first[3 + j] = second[3 + j] = ZERO;
        speed += turn[i - 3][j] * (a.turning[j] - b.turning[j]);
      }
    }
    set_row(w, r + i, on, error[i], size, speed);
    w.row_x[r + i] += drift[i];
  }
}

STAGE void coupled_rows(World &w) {
  F quat[NSLOT][4] = {};
  if (NWELD) slot_quats(w, quat);
  for (int r = 0; r < NROW; r++) switch (ROW_TYPE[r]) {
    case ROW_JOINTS: case ROW_TENDONS: polynomial_row(w, r); break;
    case ROW_TENDON_LIMIT: tendon_limit_row(w, r); break;
    case ROW_TENDON_FRICTION:
      for (int n = ROW0[r]; n < ROW0[r + 1]; n++) w.coefficient[n] = T(row_term, n, 0);
      w.row_D[r] = T(row, r, 10), w.row_x[r] = T(row, r, 1) * row_speed(w, r);
      break;
#if NBALL
    case ROW_BALL_LIMIT: ball_limit_row(w, r); break;
#endif
    case ROW_CONNECT: case ROW_WELD: fixed_rows(w, r, quat); break;
    default: break;  // done with the first row of a connect or weld
  }
}

// -- in the solver -------------------------------------------------------------------------------

FN bool is_limit(int r) { return ROW_TYPE[r] == ROW_TENDON_LIMIT || ROW_TYPE[r] == ROW_BALL_LIMIT; }
FN bool is_friction(int r) { return ROW_TYPE[r] == ROW_TENDON_FRICTION; }
// Minus the force of row r.
FN F row_push(const Shown &w, int r) {
  F D = w.row_D[r], x = w.row_x[r];
  if (is_friction(r)) return friction_force(T(row, r, 9), D, x);
  return is_limit(r) ? select(x < 0.0f, D * x, ZERO) : D * x;
}
FN void add_row_forces(World &w) {
  SLOTS(k) w.row_tau[k] = ZERO;
  for (int r = 0; r < NROW; r++) {
    F push = row_push(w, r);
    for (int n = ROW0[r]; n < ROW0[r + 1]; n++) w.row_tau[ROW_SLOT[n]] -= push * w.coefficient[n];
    int m = ROW_BODY[r], one = ROW_FIRST[r], two = ROW_SECOND[r];
    if (m < 0) continue;
    if (one >= 0) EACH(i, 6) w.P[one][i] += push * w.row_motion[m][0][i];
    if (two >= 0) EACH(i, 6) w.P[two][i] -= push * w.row_motion[m][1][i];
  }
}
FN void couple_rows(World &w, Pairs &X, int &n) {
  for (int r = 0; r < NROW; r++) {
    F D = w.row_D[r], x = w.row_x[r], above[6] = {}, below[6] = {};
    B on = D > 0.0f;
    if (is_limit(r)) on = on & (x < 0.0f);
    if (is_friction(r)) on = on & (abs_(D * x) < T(row, r, 9));
    if (!any_(on)) continue;
    F root = select(on, D * rsqrt_(max_(D, ZERO + 1e-20f)), ZERO);
    X.tree[n][0] = ROW_TREE1[r], X.tree[n][1] = ROW_TREE2[r];
    for (int t = 0; t < trees_of(X, n); t++) TREE_SLOTS(k, tree_of(X, n, t)) X.u[n][k] = ZERO;
    for (int i = ROW0[r]; i < ROW0[r + 1]; i++) X.u[n][ROW_SLOT[i]] += root * w.coefficient[i];
    int m = ROW_BODY[r];
    if (m >= 0) EACH(i, 6) above[i] = root * w.row_motion[m][0][i], below[i] = root * w.row_motion[m][1][i];
    add_row<true>(w, X, n, m < 0 ? -1 : ROW_FIRST[r], above, m < 0 ? -1 : ROW_SECOND[r], below);
  }
}
#if NDAMPED
// implicitfast: the damping of tendons over the time h, in what corrects the acceleration; see integrate.
FN void damp_tendons(World &w, F h) {
  for (int p = 0; p < NDAMPED; p++) {
    F weight = h * w.tendon_damping[DAMPED_TENDON[p]], along = ZERO;
    for (int i = DAMPED0[p]; i < DAMPED0[p + 1]; i++) along += T(tendon_term, DAMPED_TERM[i], 0) * w.acc[TENDON_SLOT[DAMPED_TERM[i]]];
    for (int i = DAMPED0[p]; i < DAMPED0[p + 1]; i++)
      w.rhs[TENDON_SLOT[DAMPED_TERM[i]]] -= T(tendon_term, DAMPED_TERM[i], 0) * weight * along;
    w.tendon_weight[p] = weight;
  }
}
FN void couple_tendons(World &w, Pairs &X, int &n) {
  for (int p = 0; p < NDAMPED; p++) {
    F weight = w.tendon_weight[p], root = weight * rsqrt_(max_(weight, ZERO + 1e-20f)), none[6];
    if (!any_(weight > 0.0f)) continue;
    EACH(i, 6) none[i] = ZERO;
    X.tree[n][0] = X.tree[n][1] = DAMPED_TREE[p];
    TREE_SLOTS(k, tree_of(X, n, 0)) X.u[n][k] = ZERO;
    for (int i = DAMPED0[p]; i < DAMPED0[p + 1]; i++)
      X.u[n][TENDON_SLOT[DAMPED_TERM[i]]] += root * T(tendon_term, DAMPED_TERM[i], 0);
    add_row<true>(w, X, n, -1, none, -1, none);
  }
}
#endif
FN void row_directions(World &w) {
  for (int r = 0; r < NROW; r++) {
    F v = ZERO;
    for (int n = ROW0[r]; n < ROW0[r + 1]; n++) v += w.coefficient[n] * w.dir[ROW_SLOT[n]];
    int m = ROW_BODY[r], one = ROW_FIRST[r], two = ROW_SECOND[r];
    if (m >= 0 && one >= 0) v += dot6(w.row_motion[m][0], w.dV[one]);
    if (m >= 0 && two >= 0) v -= dot6(w.row_motion[m][1], w.dV[two]);
    w.row_v[r] = v;
  }
}
FN F rows_slope(const World &w, F a, F &h) {
  F slope = ZERO;
  for (int r = 0; r < NROW; r++) {
    if (is_limit(r)) slope += row_change(w.row_x[r], w.row_v[r], a, w.row_D[r], h);
    if (is_friction(r)) slope += friction_change(T(row, r, 9), w.row_D[r], w.row_x[r], w.row_v[r], a, h);
  }
  return slope;
}
FN B advance_coupled_rows(World &w, F a) {
  B changed = ONE < 0.0f;
  for (int r = 0; r < NROW; r++) {
    F x = w.row_x[r], next = x + a * w.row_v[r];
    if (is_limit(r)) changed = changed | (changes_side(x, next) & (w.row_D[r] > 0.0f));
    if (is_friction(r)) changed = changed | friction_changes(T(row, r, 9), w.row_D[r], x, next);
    w.row_x[r] = next;
  }
  return changed;
}

// -- for outputs ---------------------------------------------------------------------------------

// The forces of rows between bodies, to those of slots and of bodies.
FN void row_wrenches(const Shown &w, F slots[][6], F bodies[][6]) {
  for (int r = 0; r < NROW; r++) {
    int m = ROW_BODY[r];
    if (m < 0) continue;
    F force = ZERO - row_push(w, r);
    EACH(side, 2) {
      int k = side ? ROW_SECOND[r] : ROW_FIRST[r], body = side ? ROW_BODY2[r] : ROW_BODY1[r];
      F sign = side ? ZERO - force : force;
      EACH(i, 6) {
        F part = sign * w.row_motion[m][side][i];
        bodies[body][i] += part;
        if (k >= 0) slots[k][i] += part;
      }
    }
  }
}
