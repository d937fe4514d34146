// Products of matrices in blocks of sums that stay in registers. Part of perceptron.h. PARTS 0: of
// floats. 1: of bfloat16, in pairs (halves.h), two products in one instruction, with sums in float.

#define VECTORS 3  // columns of a block
FN long rows_of_sum(long rows) { return rows; }
FN void begin_products() {}
FN void end_products() {}

#if PARTS
struct Factors {
  const P *a, *b;
  long a_row, b_row, steps;
  INSIDE Factors(const Matrices &m, long rows) : b((const P *)m.b.at), a_row(row_of_a(m.depth)), b_row(m.b.row), steps((m.depth + 1) / 2) {
    long apart;
    a = paired(m, rows, apart);
  }
  INSIDE VP left(long row, long k) const { return a[row * a_row + k] + VP{}; }  // in all elements
  INSIDE VP right(long k, long column) const { return *(UP *)(b + k * b_row + column); }
};
FN V multiply_add(VP a, VP b, V c) { return __builtin_ia32_dpbf16ps_512(c, (Halves)a, (Halves)b); }
#else
// B lies where it is, and nothing else needs memory.
FN long laid_size(long depth, long columns) { return 0; }
FN Laid lay(float *to, const float *from, long from_row, long depth, long columns) { return {from, from_row}; }
FN long scratch_size(long rows, long depth) { return 0; }
struct Factors {
  const float *a, *b;
  long a_row, a_column, b_row, steps;
  INSIDE Factors(const Matrices &m, long) : a(m.a), b(m.b.at), a_row(m.a_row), a_column(m.a_column), b_row(m.b.row), steps(m.depth) {}
  INSIDE V left(long row, long k) const { return a[row * a_row + k * a_column] - V{}; }  // in all elements
  INSIDE V right(long k, long column) const { return *(U *)(b + k * b_row + column); }
};
#endif

template <int PRODUCT, int R, int N> static void tile(const Matrices &m, Factors f, long row, long column) {
  const float *c = m.c + row * m.c_row + column;
  V sum[R][N];
#pragma unroll
  for (int r = 0; r < R; r++)
#pragma unroll
    for (int n = 0; n < N; n++) {
      if (PRODUCT == FORWARDS) sum[r][n] = *(U *)(m.bias + column + n * WIDTH);
      if (PRODUCT == BACKWARDS) sum[r][n] = V{};
      if (PRODUCT == SUM) sum[r][n] = *(U *)(c + r * m.c_row + n * WIDTH);
    }
  for (long k = 0; k < f.steps; k++) {
    decltype(f.right(0, 0)) of_b[N];
#pragma unroll
    for (int n = 0; n < N; n++) of_b[n] = f.right(k, column + n * WIDTH);
#pragma unroll
    for (int r = 0; r < R; r++) {
      auto of_a = f.left(row + r, k);
#pragma unroll
      for (int n = 0; n < N; n++) sum[r][n] = multiply_add(of_a, of_b[n], sum[r][n]);
    }
  }
#pragma unroll
  for (int r = 0; r < R; r++)
#pragma unroll
    for (int n = 0; n < N; n++) finish<PRODUCT>(m, row + r, column + n * WIDTH, sum[r][n]);
}
template <int PRODUCT, int N> static void tiles(const Matrices &m, const Factors &f, long rows, long column) {
  long row = 0;
  for (; row + ROWS <= rows; row += ROWS) tile<PRODUCT, ROWS, N>(m, f, row, column);
  for (; row + ROWS / 2 <= rows; row += ROWS / 2) tile<PRODUCT, ROWS / 2, N>(m, f, row, column);
  for (; row < rows; row++) tile<PRODUCT, 1, N>(m, f, row, column);
}
template <int PRODUCT> static void product(const Matrices &m, long rows, long columns) {
  const Factors f(m, rows);
  long vectors = padded(columns) / WIDTH;
  for (long v = 0; v < vectors;) {  // in blocks of nearly the same width
    long blocks = (vectors - v + VECTORS - 1) / VECTORS, n = (vectors - v + blocks - 1) / blocks;
    if (n == 3) tiles<PRODUCT, 3>(m, f, rows, v * WIDTH);
    else if (n == 2) tiles<PRODUCT, 2>(m, f, rows, v * WIDTH);
    else tiles<PRODUCT, 1>(m, f, rows, v * WIDTH);
    v += n;
  }
}
