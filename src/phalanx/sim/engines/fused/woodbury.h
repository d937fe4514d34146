// Rows that couple bodies, in the solver: H = H0 + J' D J by Woodbury's formula, in the coordinates of
// H0's factor, where a row is what one pass to the roots makes of it. Part of step.h.

#define TREE_SLOTS(k, tree) for (int k = TREE0[tree]; k < TREE0[(tree) + 1]; k++)
// Its slots that are not trunk; lanes step one tree, and one lane has no trunk.
#define TREE_LIMBS(k, tree) for (int k = LANES > 1 ? NTRUNK : TREE0[tree]; k < TREE0[(tree) + 1]; k++)
#define TREE_LIMBS_UP(k, tree) for (int k = TREE0[(tree) + 1] - 1; k >= (LANES > 1 ? NTRUNK : TREE0[tree]); k--)

// The pass of a group of R rows to the root of a tree: u and y are L^-1 of their columns. Rows of a group
// measure the motions `above` of slot a less the motions `below` of slot b, each -1 for none; SLOTS_TOO: and
// have numbers of slots in u. P is minus their forces, of the slot before in a chain; what else hangs from a
// slot is in `joined`.
template <int R, bool SLOTS_TOO>
FN void rows_at_slot(World &w, Pairs &X, const int *row, int k, int a, const F (*above)[6], int b, const F (*below)[6],
                     F (*P)[6], F (*joined)[R][6]) {
  if (JOINS[k]) EACH(r, R) EACH(i, 6) P[r][i] += joined[k][r][i];
  if (k == a) EACH(r, R) EACH(i, 6) P[r][i] -= above[r][i];
  if (k == b) EACH(r, R) EACH(i, 6) P[r][i] += below[r][i];
  if (NBASE && KIND[k] == BASE) {
    EACH(r, R) EACH(i, 6) P[r][i] = ZERO;
    return;
  }
  if (KIND[k] == FREE) {
    const F *A = w.A[k], *d = w.d6[POSE_OF[k]];
    EACH(r, R) {
      F *y = X.y[row[r]][POSE_OF[k]];
      EACH(i, 6) y[i] = ZERO - P[r][i], P[r][i] = ZERO;
      EACH(m, 6) {
        int j = 5 - m;
        for (int i = 0; i < j; i++) y[i] -= A[at(i, j)] * d[j] * y[j];
      }
    }
    return;
  }
  EACH(r, R) {
    F *u = X.u[row[r]] + k;
    F change = (SLOTS_TOO ? *u : ZERO) - dot6(w.S[k], P[r]), ud = change * w.d[k];
    *u = change;
    EACH(i, 6) P[r][i] += w.dV[k][i] * ud;
  }
  if (CHAINED[k]) return;
  if (UP[k] >= 0) EACH(r, R) EACH(i, 6) joined[UP[k]][r][i] += P[r][i];
  EACH(r, R) EACH(i, 6) P[r][i] = ZERO;
}
template <int R, bool SLOTS_TOO>
FN void rows_to_root(World &w, Pairs &X, const int *row, int tree, int a, const F (*above)[6], int b, const F (*below)[6]) {
  F P[R][6] = {}, joined[NSLOT][R][6];
  TREE_SLOTS(k, tree) if (JOINS[k]) EACH(r, R) EACH(i, 6) joined[k][r][i] = ZERO;
  TREE_LIMBS_UP(k, tree) rows_at_slot<R, SLOTS_TOO>(w, X, row, k, a, above, b, below, P, joined);
  if (LANES == 1) return;
  TRUNK(k) {  // each lane's part of what acts there
    if (k == a) EACH(r, R) EACH(i, 6) joined[k][r][i] -= above[r][i];
    if (k == b) EACH(r, R) EACH(i, 6) joined[k][r][i] += below[r][i];
    if (GATHERS[k]) EACH(r, R) sum_team(joined[k][r], 6);
  }
  TRUNK_UP(k) rows_at_slot<R, SLOTS_TOO>(w, X, row, k, -1, above, -1, below, P, joined);
}
FN int packed(int i, int j) { return i * (i + 1) / 2 + j; }  // of a lower triangle
template <int R> FN void add_products(const World &w, const Pairs &X, const int *row, int k, const F *u, const F (*y)[6], F *sum) {
  if (NBASE && KIND[k] == BASE) return;
  if (KIND[k] == FREE) {
    EACH(i, 6) {
      F other = w.d6[POSE_OF[k]][i] * y[POSE_OF[k]][i];
      EACH(r, R) sum[r] += X.y[row[r]][POSE_OF[k]][i] * other;
    }
  } else {
    F other = w.d[k] * u[k];
    EACH(r, R) sum[r] += X.u[row[r]][k] * other;
  }
}
// Adds the lane's part of a group's products with u and y: its limbs' and, the first lane's, the trunk's.
template <int R>
STAGE void rows_product(const World &w, const Pairs &X, const int *row, int tree, const F *u, const F (*y)[6], F *sum) {
  F limbs[R] = {}, trunk[R] = {};
  TREE_LIMBS(k, tree) add_products<R>(w, X, row, k, u, y, limbs);
  TRUNK(k) add_products<R>(w, X, row, k, u, y, trunk);
  EACH(r, R) sum[r] += LANE == 0 ? limbs[r] + trunk[r] : limbs[r];
}
// Which trees row r moves: t is the first, and if there is another, the second.
FN int trees_of(const Pairs &X, int r) { return ACROSS_TREES && X.tree[r][0] != X.tree[r][1] ? 2 : 1; }
FN int tree_of(const Pairs &X, int r, int t) { return NTREE == 1 ? 0 : X.tree[r][t]; }

// More rows, from n on, of which those that are `used` are counted in n; all move the trees X.tree[n]. See
// `rows_at_slot`. A row that is not used lies where the next one will.
template <int R, bool SLOTS_TOO>
FN void add_rows(World &w, Pairs &X, int &n, const bool *used, int a, const F (*above)[6], int b, const F (*below)[6]) {
  int row[R], end = n, trees = trees_of(X, n);
  EACH(r, R) row[r] = end, end += used[r];
  if (end > MAXROW) return note_overflow(w);
  for (int t = 0; t < trees; t++) rows_to_root<R, SLOTS_TOO>(w, X, row, tree_of(X, n, t), a, above, b, below);
  F rhs[R] = {};
  for (int t = 0; t < trees; t++) rows_product<R>(w, X, row, tree_of(X, n, t), w.dir, w.y6, rhs);
  EACH(r, R) if (used[r]) X.tree[row[r]][0] = X.tree[n][0], X.tree[row[r]][1] = X.tree[n][1];
  _Pragma("unroll 2") for (int q = 0; q < end; q++) {
    F sum[R] = {};
    for (int t = 0; t < trees; t++)
      for (int s = 0; s < trees_of(X, q); s++)
        if (tree_of(X, n, t) == tree_of(X, q, s)) rows_product<R>(w, X, row, tree_of(X, q, s), X.u[q], X.y[q], sum);
    sum_team(sum, R);
    EACH(r, R) if (used[r] && q <= row[r]) X.M[packed(row[r], q)] = q < row[r] ? sum[r] : sum[r] + 1;
  }
  sum_team(rhs, R);
  EACH(r, R) if (used[r]) X.rhs[row[r]] = rhs[r];
  n = end;
}
template <bool SLOTS_TOO>
FN void add_row(World &w, Pairs &X, int &n, int a, const F *above, int b, const F *below) {
  bool used = true;
  add_rows<1, SLOTS_TOO>(w, X, n, &used, a, (const F(*)[6])above, b, (const F(*)[6])below);
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
