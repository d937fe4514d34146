// What actuators at sites exert, times `side`, on their slots' bodies, about the trees' origins; mj_transmission.
// Part of worlds.h.
FN void thrust(const Shown &w, float side, F (*wrench)[6]) {
  for (int n = 0; n < NTHRUSTER; n++) {
    int k = THRUST_SLOT[n];
    F x[3], o[3], own[3], turn[3], force[3], torque[3], t[3];
    F size = side * w.drives->force[ACTUATOR[FIRST_THRUSTER + n]];
    EACH(i, 3) x[i] = T(thrust, n, i), own[i] = size * T(thrust, n, 3 + i), turn[i] = size * T(thrust, n, 6 + i);
    place_of(w, k, x, o);
    rotate(w.R[k], own, force), rotate(w.R[k], turn, torque);
    cross(o, force, t);
    EACH(i, 3) wrench[k][i] += torque[i] + t[i], wrench[k][3 + i] += force[i];
  }
}
