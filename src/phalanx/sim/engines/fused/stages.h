// Runge and Kutta's method of fourth order; mj_RungeKutta. Part of worlds.h.

struct Stages {  // the state at the start, and the sums of its rates
  F q[NSLOT], v[NSLOT], ball[NBALL + 1][4], pos[NFREE + 1][3], quat[NFREE + 1][4], v6[NFREE + 1][6];
  F speed[NSLOT], acc[NSLOT], speed6[NFREE + 1][6], acc6[NFREE + 1][6];
};
FN void begin_stages(const World &w, Stages &s) {
  SLOTS(k) s.q[k] = w.q[k], s.v[k] = w.v[k], s.speed[k] = s.acc[k] = ZERO;
  EACH(b, NBALL) EACH(i, 4) s.ball[b][i] = w.ball[b][i];
  EACH(f, NFREE) {
    EACH(i, 3) s.pos[f][i] = w.pos[f][i];
    EACH(i, 4) s.quat[f][i] = w.quat[f][i];
    EACH(i, 6) s.v6[f][i] = w.v6[f][i], s.speed6[f][i] = s.acc6[f][i] = ZERO;
  }
}
// The state after the time t at these rates, which may be w's own.
FN void state_after(World &w, const Stages &s, F t, const F *speed, const F (*speed6)[6], const F *acc, const F (*acc6)[6]) {
  SLOTS(k) {
    if (KIND[k] == FREE) {
      int f = POSE_OF[k];
      EACH(i, 3) w.pos[f][i] = s.pos[f][i] + t * speed6[f][i];
      EACH(i, 4) w.quat[f][i] = s.quat[f][i];
      turn_quat(w.quat[f], speed6[f] + 3, t);
    } else if (KIND[k] == BALL) {
      if (BALL_AXIS[k] != 2) continue;
      EACH(i, 4) w.ball[BALL_OF[k]][i] = s.ball[BALL_OF[k]][i];
      turn_quat(w.ball[BALL_OF[k]], speed + k - 2, t);
    } else {
      w.q[k] = s.q[k] + t * speed[k];
    }
  }
  SLOTS(k) w.v[k] = s.v[k] + t * acc[k];
  EACH(f, NFREE) EACH(i, 6) w.v6[f][i] = s.v6[f][i] + t * acc6[f][i];
}
// As MuJoCo leaves them: sensors and the forces that they need are of the first stage, accelerations of all
// together, the rest is of the last one.
STAGE void write_stage(World &w, const Contacts &C, const Pairs &X, const Fields &f, bool first, bool stale) {
  Fields some = f;
  if (first) {
    some.xpos = some.xquat = some.xmat = some.xipos = some.ximat = some.geom_xpos = some.geom_xmat = nullptr;
    some.site_xpos = some.site_xmat = some.cvel = some.cdof = some.subtree_com = nullptr;
    some.qacc = some.actuator_force = some.qfrc_actuator = some.qfrc_constraint = nullptr;
  } else {
    some.sensordata = some.cfrc_ext = some.cfrc_int = nullptr;
  }
  w.fields = &some;
  if (NROW && f.forces) add_row_forces(w);
  write_out(w, C, X, f.forces, stale);
  w.fields = &f;
}
STAGE void runge_kutta(World &w, Contacts &C, Pairs &X, const Fields &f, bool last, bool stale) {
  Stages s;
  F h = T(timestep, 0, 0), acc6[NFREE + 1][6] = {};
  begin_stages(w, s);
  for (int stage = 0; stage < 4; stage++) {
    evaluate(w, C, X, f);
    bool shown = last && (f.forces || stale);
    if (shown && stage == 0) write_stage(w, C, X, f, true, stale);
    float part = stage == 0 || stage == 3 ? 1.0f / 6 : 1.0f / 3;
    SLOTS(k) {
      s.speed[k] += part * w.v[k], s.acc[k] += part * w.acc[k];
      if (KIND[k] != FREE) continue;
      int r = POSE_OF[k];
      rotate_back(w.R[k], w.acc6[r], acc6[r] + 3);
      EACH(i, 3) acc6[r][i] = w.acc6[r][3 + i];
      EACH(i, 6) s.speed6[r][i] += part * w.v6[r][i], s.acc6[r][i] += part * acc6[r][i];
    }
    if (shown && stage == 3) {
      SLOTS(k) {
        w.acc[k] = s.acc[k];
        if (KIND[k] != FREE) continue;
        int r = POSE_OF[k];
        rotate(w.R[k], s.acc6[r] + 3, w.acc6[r]);
        EACH(i, 3) w.acc6[r][3 + i] = s.acc6[r][i];
      }
      write_stage(w, C, X, f, false, stale);
    }
    if (stage < 3) state_after(w, s, stage < 2 ? 0.5f * h : h, w.v, w.v6, w.acc, acc6);
    else state_after(w, s, h, s.speed, s.speed6, s.acc, s.acc6);
  }
}
