// Rows that couple bodies, in the solver: H = H0 + J' D J by Woodbury's formula, in the coordinates of
// H0's factor, where a row is what one pass to the roots makes of it. Part of step.h.

#define TREE_SLOTS(k, tree) for (int k = TREE0[tree]; k < TREE0[(tree) + 1]; k++)
// Its slots that are not trunk; lanes step one tree, and one lane has no trunk.
#define TREE_LIMBS(k, tree) for (int k = LANES > 1 ? NTRUNK : TREE0[tree]; k < TREE0[(tree) + 1]; k++)
#define TREE_LIMBS_UP(k, tree) for (int k = TREE0[(tree) + 1] - 1; k >= (LANES > 1 ? NTRUNK : TREE0[tree]); k--)

// One row's pass to the root of a tree: u and y are L^-1 of its column. The row measures the motion
// `above` of slot a less the motion `below` of slot b, each -1 for none; SLOTS_TOO: and has numbers of
// slots in u. P is minus its force, of the slot before in a chain; what else hangs from a slot is in `joined`.
template <bool SLOTS_TOO>
FN void row_at_slot(World &w, Pairs &X, int r, int k, int a, const F *above, int b, const F *below, F *P, F joined[][6]) {
  if (JOINS[k]) EACH(i, 6) P[i] += joined[k][i];
  if (k == a) EACH(i, 6) P[i] -= above[i];
  if (k == b) EACH(i, 6) P[i] += below[i];
  if (NBASE && KIND[k] == BASE) {
    EACH(i, 6) P[i] = ZERO;
    return;
  }
  if (KIND[k] == FREE) {
    F *y = X.y[r][POSE_OF[k]];
    const F *A = w.A[k], *d = w.d6[POSE_OF[k]];
    EACH(i, 6) y[i] = ZERO - P[i], P[i] = ZERO;
    EACH(m, 6) {
      int j = 5 - m;
      for (int i = 0; i < j; i++) y[i] -= A[at(i, j)] * d[j] * y[j];
    }
    return;
  }
  F u = (SLOTS_TOO ? X.u[r][k] : ZERO) - dot6(w.S[k], P);
  X.u[r][k] = u;
  F ud = u * w.d[k];
  EACH(i, 6) P[i] += w.dV[k][i] * ud;
  if (CHAINED[k]) return;
  if (UP[k] >= 0) EACH(i, 6) joined[UP[k]][i] += P[i];
  EACH(i, 6) P[i] = ZERO;
}
template <bool SLOTS_TOO>
FN void row_to_root(World &w, Pairs &X, int r, int tree, int a, const F *above, int b, const F *below) {
  F P[6] = {}, joined[NSLOT][6];
  TREE_SLOTS(k, tree) if (JOINS[k]) EACH(i, 6) joined[k][i] = ZERO;
  TREE_LIMBS_UP(k, tree) row_at_slot<SLOTS_TOO>(w, X, r, k, a, above, b, below, P, joined);
  if (LANES == 1) return;
  TRUNK(k) {  // each lane's part of what acts there
    if (k == a) EACH(i, 6) joined[k][i] -= above[i];
    if (k == b) EACH(i, 6) joined[k][i] += below[i];
    if (GATHERS[k]) sum_team(joined[k], 6);
  }
  TRUNK_UP(k) row_at_slot<SLOTS_TOO>(w, X, r, k, -1, above, -1, below, P, joined);
}
FN int packed(int i, int j) { return i * (i + 1) / 2 + j; }  // of a lower triangle
FN void add_product(const World &w, const Pairs &X, int r, int k, const F *u, const F (*y)[6], F &sum) {
  if (NBASE && KIND[k] == BASE) return;
  if (KIND[k] == FREE) {
    EACH(i, 6) sum += X.y[r][POSE_OF[k]][i] * w.d6[POSE_OF[k]][i] * y[POSE_OF[k]][i];
  } else {
    sum += X.u[r][k] * w.d[k] * u[k];
  }
}
// The lane's part: its limbs' and, the first lane's, the trunk's.
STAGE F row_product(const World &w, const Pairs &X, int r, int tree, const F *u, const F (*y)[6]) {
  F sum = ZERO, trunk = ZERO;
  TREE_LIMBS(k, tree) add_product(w, X, r, k, u, y, sum);
  TRUNK(k) add_product(w, X, r, k, u, y, trunk);
  return LANE == 0 ? sum + trunk : sum;
}
// Which trees row r moves: t is the first, and if there is another, the second.
FN int trees_of(const Pairs &X, int r) { return ACROSS_TREES && X.tree[r][0] != X.tree[r][1] ? 2 : 1; }
FN int tree_of(const Pairs &X, int r, int t) { return NTREE == 1 ? 0 : X.tree[r][t]; }
FN F rows_product(const World &w, const Pairs &X, int r, int q) {
  F sum = ZERO;
  for (int t = 0; t < trees_of(X, r); t++)
    for (int s = 0; s < trees_of(X, q); s++)
      if (tree_of(X, r, t) == tree_of(X, q, s)) sum += row_product(w, X, q, tree_of(X, r, t), X.u[r], X.y[r]);
  return sum;
}

// One more row, which moves the trees X.tree[n]; counts it in n. See `row_at_slot`.
template <bool SLOTS_TOO>
FN void add_row(World &w, Pairs &X, int &n, int a, const F *above, int b, const F *below) {
  for (int t = 0; t < trees_of(X, n); t++) row_to_root<SLOTS_TOO>(w, X, n, tree_of(X, n, t), a, above, b, below);
  F rhs = ZERO, *M = X.M + packed(n, 0);
  _Pragma("unroll 2") for (int q = 0; q <= n; q++) M[q] = rows_product(w, X, n, q);
  for (int t = 0; t < trees_of(X, n); t++) rhs += row_product(w, X, n, tree_of(X, n, t), w.dir, w.y6);
  sum_team(M, n + 1);  // all wait together
  X.rhs[n] = sum_team(rhs), M[n] += 1.0f;
  n++;
}
FN void add_square(const World &w, int k, F &sum) {
  if (NBASE && KIND[k] == BASE) return;
  if (KIND[k] == FREE) EACH(i, 6) sum += w.y6[POSE_OF[k]][i] * w.y6[POSE_OF[k]][i] * w.d6[POSE_OF[k]][i];
  else sum += w.dir[k] * w.dir[k] * w.d[k];
}
// Changes u, y and the decrement from H0's to H's.
STAGE void solve_rows(World &w, Pairs &X, int n, F &decrement) {
  for (int k = 0; k < n; k++) {  // M = L L', in the lower triangle
    for (int j = 0; j <= k; j++) {
      F sum = X.M[packed(k, j)];
      for (int i = 0; i < j; i++) sum -= X.M[packed(k, i)] * X.M[packed(j, i)];
      // M is the identity and squares, so what is left of its diagonal is 1 or more, but for rounding
      X.M[packed(k, j)] = j < k ? sum * X.M[packed(j, j)] : rsqrt_(max_(sum, ONE));
    }
    F sum = X.rhs[k];
    for (int i = 0; i < k; i++) sum -= X.M[packed(k, i)] * X.gain[i];
    X.gain[k] = sum * X.M[packed(k, k)];
  }
  F gains = ZERO, rest = ZERO;
  for (int k = n - 1; k >= 0; k--) {
    F sum = X.gain[k];
    for (int i = k + 1; i < n; i++) sum -= X.M[packed(i, k)] * X.gain[i];
    X.gain[k] = sum * X.M[packed(k, k)];
    gains += X.gain[k] * X.gain[k];
  }
  for (int r = 0; r < n; r++) {
    for (int t = 0; t < trees_of(X, r); t++) TREE_SLOTS(k, tree_of(X, r, t)) {
      if (KIND[k] == FREE) EACH(i, 6) w.y6[POSE_OF[k]][i] -= X.gain[r] * X.y[r][POSE_OF[k]][i];
      else w.dir[k] -= X.gain[r] * X.u[r][k];
    }
  }
  // A sum of squares: H0's less what rows take away would lose its digits
  LIMBS_UP(k) add_square(w, k, rest);
  rest = sum_team(rest);
  TRUNK_UP(k) add_square(w, k, rest);
  decrement = select(gains > 0.0f, rest + gains, decrement);
}
