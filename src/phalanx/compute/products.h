// Products of matrices in float, in blocks of sums that stay in registers. Part of perceptron.h.

#define VECTORS 3  // columns of a block

// B lies where it is, and nothing else needs memory.
FN long laid_size(long depth, long columns) { return 0; }
FN Laid lay(float *to, const float *from, long from_row, long depth, long columns) { return {from, from_row}; }
FN long scratch_size(long rows, long depth) { return 0; }
FN long rows_of_sum(long rows) { return rows; }
FN void begin_products() {}
FN void end_products() {}

template <int PRODUCT, int R, int N> static void tile(const Matrices &m, long row, long column) {
  const float *a = m.a + row * m.a_row, *b = m.b.at + column, *c = m.c + row * m.c_row + column;
  V sum[R][N];
#pragma unroll
  for (int r = 0; r < R; r++)
#pragma unroll
    for (int n = 0; n < N; n++) {
      if (PRODUCT == FORWARDS) sum[r][n] = *(U *)(m.bias + column + n * WIDTH);
      if (PRODUCT == BACKWARDS) sum[r][n] = V{};
      if (PRODUCT == SUM) sum[r][n] = *(U *)(c + r * m.c_row + n * WIDTH);
    }
  for (long k = 0; k < m.depth; k++) {
    V of_b[N];
#pragma unroll
    for (int n = 0; n < N; n++) of_b[n] = *(U *)(b + k * m.b.row + n * WIDTH);
#pragma unroll
    for (int r = 0; r < R; r++) {
      V of_a = a[r * m.a_row + k * m.a_column] - V{};  // in all elements
#pragma unroll
      for (int n = 0; n < N; n++) sum[r][n] = multiply_add(of_a, of_b[n], sum[r][n]);
    }
  }
#pragma unroll
  for (int r = 0; r < R; r++)
#pragma unroll
    for (int n = 0; n < N; n++) finish<PRODUCT>(m, row + r, column + n * WIDTH, sum[r][n]);
}
template <int PRODUCT, int N> static void tiles(const Matrices &m, long rows, long column) {
  long row = 0;
  for (; row + ROWS <= rows; row += ROWS) tile<PRODUCT, ROWS, N>(m, row, column);
  for (; row + ROWS / 2 <= rows; row += ROWS / 2) tile<PRODUCT, ROWS / 2, N>(m, row, column);
  for (; row < rows; row++) tile<PRODUCT, 1, N>(m, row, column);
}
template <int PRODUCT> static void product(const Matrices &m, long rows, long columns) {
  long vectors = padded(columns) / WIDTH;
  for (long v = 0; v < vectors;) {  // in blocks of nearly the same width
    long blocks = (vectors - v + VECTORS - 1) / VECTORS, n = (vectors - v + blocks - 1) / blocks;
    if (n == 3) tiles<PRODUCT, 3>(m, rows, v * WIDTH);
    else if (n == 2) tiles<PRODUCT, 2>(m, rows, v * WIDTH);
    else tiles<PRODUCT, 1>(m, rows, v * WIDTH);
    v += n;
  }
}
