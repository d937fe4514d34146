// What a contact costs, by its rows x: x[0] along the normal, x[j] along the other directions times
// their friction. mu: friction over the square root of impratio, which elliptic cones need. Part of
// step.h.
//
// Pyramids: row 2 j - 1 or 2 j is x[0] +- x[j], and a frictionless contact has row x[0] alone. A row
// below 0 costs D row^2 / 2.
FN F row_of(const F *x, int row) { return row == 0 ? x[0] : row % 2 ? x[0] + x[(row + 1) / 2] : x[0] - x[row / 2]; }
FN constexpr int first_row(int dim) { return dim == 1 ? 0 : 1; }
FN constexpr int last_row(int dim) { return dim == 1 ? 0 : 2 * (dim - 1); }

// Elliptic cones, as MuJoCo's mj_constraintUpdate: with N = mu x[0] and T = |x[1], x[2], ...|, nothing
// acts where N >= mu T, every row is quadratic where mu N + T <= 0, and between them, where the contact
// slides, the cost is D (N - mu T)^2 / (2 mu^2 (1 + mu^2)).
struct Zone {
  B sticks, slides;
  F T, gap, scale;  // gap: N - mu T
};
FN Zone zone_of(const F *x, int dim, F D, F mu) {
  Zone z;
  F square = ZERO, N = mu * x[0];
  for (int j = 1; j < dim; j++) square += x[j] * x[j];
  z.T = square * rsqrt_(max_(square, ZERO + 1e-30f));
  z.gap = N - mu * z.T;
  z.sticks = (mu * N + z.T <= 0.0f) & (z.gap < 0.0f);
  z.slides = (mu * N + z.T > 0.0f) & (z.gap < 0.0f);
  z.scale = D / (mu * mu * (1 + mu * mu));
  return z;
}
// Slope and curvature of the cost where x moves along v.
FN void elliptic_slope(const F *x, const F *v, int dim, F D, F mu, F &slope, F &curvature) {
  Zone z = zone_of(x, dim, D, mu);
  F along = ZERO, square = ZERO, inverse = 1 / max_(z.T, ZERO + 1e-15f), other = D / (mu * mu);
  for (int j = 1; j < dim; j++) along += x[j] * v[j], square += v[j] * v[j];
  F speed = along * inverse, toward = mu * (v[0] - speed);  // how T and gap change
  slope = select(z.slides, z.scale * z.gap * toward, select(z.sticks, D * x[0] * v[0] + other * along, ZERO));
  F bends = toward * toward - z.gap * mu * inverse * (square - speed * speed);
  curvature = select(z.slides, z.scale * bends, select(z.sticks, D * v[0] * v[0] + other * square, ZERO));
}
// Its gradient G and Hessian H (the upper triangle) in x.
template <int N> FN void elliptic_terms(const F *x, int dim, F D, F mu, F *G, F (*H)[N]) {
  Zone z = zone_of(x, dim, D, mu);
  F inverse = 1 / max_(z.T, ZERO + 1e-15f), other = D / (mu * mu), push = z.scale * z.gap * mu, e[N];
  G[0] = select(z.slides, push, select(z.sticks, D * x[0], ZERO));
  H[0][0] = select(z.slides, z.scale * mu * mu, select(z.sticks, D, ZERO));
  EACH(j, N) if (j && j < dim) {
    e[j] = x[j] * inverse;
    G[j] = select(z.slides, ZERO - push * e[j], select(z.sticks, other * x[j], ZERO));
    H[0][j] = select(z.slides, ZERO - z.scale * mu * mu * e[j], ZERO);
    H[j][j] = select(z.slides, ZERO - push * inverse, select(z.sticks, other, ZERO));
  }
  F both = z.scale * mu * mu + push * inverse;
  EACH(j, N) EACH(i, N) if (i && i <= j && j < dim) {
    F term = select(z.slides, both * e[i] * e[j], ZERO);
    if (i == j) H[j][j] += term;
    else H[i][j] = term;
  }
}
// The same of a pyramid.
template <int N> FN void pyramid_terms(const F *x, int dim, F D, F *G, F (*H)[N]) {
  H[0][0] = dim == 1 ? select(x[0] < 0.0f, D, ZERO) : ZERO;
  G[0] = H[0][0] * x[0];
  EACH(j, N) if (j && j < dim) {
    F x1 = x[0] + x[j], x2 = x[0] - x[j], d1 = select(x1 < 0.0f, D, ZERO), d2 = select(x2 < 0.0f, D, ZERO);
    G[0] += d1 * x1 + d2 * x2, G[j] = d1 * x1 - d2 * x2;
    H[0][0] += d1 + d2, H[0][j] = d1 - d2, H[j][j] = d1 + d2;
    EACH(i, N) if (i && i < j) H[i][j] = ZERO;
  }
}
template <int N> FN void cone_terms(const F *x, int dim, F D, F mu, F *G, F (*H)[N]) {
  if (ELLIPTIC) elliptic_terms<N>(x, dim, D, mu, G, H);
  else pyramid_terms<N>(x, dim, D, G, H);
}
// A lower triangle L with H = L L'.
template <int N> FN void cone_factor(const F *x, int dim, F D, F mu, F (*L)[N]) {
  F G[N], H[N][N];
  cone_terms<N>(x, dim, D, mu, G, H);
  for (int k = 0; k < dim; k++) for (int j = k; j < dim; j++) {
    F sum = H[k][j];
    for (int i = 0; i < k; i++) sum -= L[k][i] * L[j][i];
    if (j == k) {  // 0 where it is lost in rounding: where an elliptic contact slides, there is no curvature
      B rest = sum > 1e-6f * H[k][k];
      L[k][k] = select(rest, sum * rsqrt_(max_(sum, ZERO + 1e-20f)), ZERO);
    } else {
      L[j][k] = select(L[k][k] > 0.0f, sum / max_(L[k][k], ZERO + 1e-20f), ZERO);
    }
  }
}

// Forces along the contact's directions.
FN void contact_force(const F *x, F D, int dim, F mu, const F *friction, F *force) {
  F H[6][6];
  cone_terms<6>(x, dim, D, mu, force, H);
  for (int j = 0; j < dim; j++) force[j] *= j ? ZERO - friction[j] : ZERO - 1.0f;
}

// A row that changes sides between 0 and a corrects the slope (returned) and curvature h of the cost.
FN F row_change(F x0, F v, F a, F D, F &h) {
  F x = x0 + a * v, change = select(x < 0.0f, D, ZERO) - select(x0 < 0.0f, D, ZERO);
  h += change * v * v;
  return change * x * v;
}
// The same for a contact; of an elliptic one it is the whole slope and curvature at a.
FN F contact_change(const F *x, const F *v, int dim, F a, F D, F mu, F &h) {
  F slope = ZERO, curvature;
  if (ELLIPTIC) {
    F there[6];
    for (int j = 0; j < dim; j++) there[j] = x[j] + a * v[j];
    elliptic_slope(there, v, dim, D, mu, slope, curvature);
    h += curvature;
    return slope;
  }
  for (int row = first_row(dim); row <= last_row(dim); row++)
    slope += row_change(row_of(x, row), row_of(v, row), a, D, h);
  return slope;
}

FN B changes_side(F x, F y) { return (x < 0.0f) != (y < 0.0f); }
// Moves a contact's rows on; whether the cost has another form there. slides: also true if it is one that is not
// quadratic.
FN B advance_rows(F *x, const F *v, int dim, F a, F D, F mu, B &slides) {
  B changed = ONE < 0.0f;
  if (ELLIPTIC) {
    Zone before = zone_of(x, dim, D, mu);
    for (int j = 0; j < dim; j++) x[j] += a * v[j];
    Zone after = zone_of(x, dim, D, mu);
    slides = slides | (after.slides & (D > 0.0f));
    return ((before.slides != after.slides) | (before.sticks != after.sticks)) & (D > 0.0f);
  }
  for (int row = first_row(dim); row <= last_row(dim); row++)
    changed = changed | changes_side(row_of(x, row), row_of(x, row) + a * row_of(v, row));
  for (int j = 0; j < dim; j++) x[j] += a * v[j];
  return changed & (D > 0.0f);
}
