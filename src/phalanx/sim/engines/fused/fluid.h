// What a fluid exerts on slot k's bodies, times `side`, about their tree's origin; mj_inertiaBoxFluidModel. Part
// of worlds.h.
FN void resist(const Shown &w, int k, F *wrench, float side) {
  BODIES_OF(k, b) {
    F x[3], own[9], R[9], o[3], line[3], turn[3], speed[3], torque[3], force[3], t[3];
    EACH(i, 3) x[i] = T(inertial, b, i);
    EACH(i, 9) own[i] = T(inertial, b, 3 + i);
    place_of(w, k, x, o);
    multiply3(w.R[k], own, R);
    cross(w.V[k], o, line);
    EACH(i, 3) line[i] += w.V[k][3 + i] - T(wind, 0, i);
    rotate_back(R, w.V[k], turn), rotate_back(R, line, speed);
    EACH(i, 3) {
      turn[i] *= ZERO - side * (T(drag, b, 0) + T(drag, b, 2 + i) * abs_(turn[i]));
      speed[i] *= ZERO - side * (T(drag, b, 1) + T(drag, b, 5 + i) * abs_(speed[i]));
    }
    rotate(R, turn, torque), rotate(R, speed, force);
    cross(o, force, t);
    EACH(i, 3) wrench[i] += torque[i] + t[i], wrench[3 + i] += force[i];
  }
}
