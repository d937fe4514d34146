// Products of matrices as in products.h, of bfloat16, with sums in float: by the tiles of Intel's
// AMX, which multiply 16 times as fast as its vectors. A tile has 16 rows of 64 bytes: 16 floats, or
// 16 pairs (halves.h). Part of perceptron.h.

FN long rows_of_sum(long rows) { return tiled(rows); }

struct Tiles {
  unsigned char palette = 1, start = 0, reserved[14] = {};
  unsigned short bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  unsigned char rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
FN void begin_products() {
  Tiles tiles;
  __builtin_ia32_tile_loadconfig(&tiles);
}
FN void end_products() { __builtin_ia32_tilerelease(); }

// R x N tiles of sums are tiles 0 to 3, the first R of them in the first column; 4 and 5 are of A, 6
// and 7 of B.
template <int R> FN void load_a(const P *a, long row) {
  __builtin_ia32_tileloadd64(4, a, 4 * row);
  if (R == 2) __builtin_ia32_tileloadd64(5, a + TILE * row, 4 * row);
}
template <int N> FN void load_b(const P *b, long row) {
  __builtin_ia32_tileloadd64(6, b, 4 * row);
  if (N == 2) __builtin_ia32_tileloadd64(7, b + TILE, 4 * row);
}
template <int R, int N> FN void multiply() {
  __builtin_ia32_tdpbf16ps(0, 4, 6);
  if (R == 2) __builtin_ia32_tdpbf16ps(1, 5, 6);
  if (N == 2) __builtin_ia32_tdpbf16ps(2, 4, 7);
  if (R == 2 && N == 2) __builtin_ia32_tdpbf16ps(3, 5, 7);
}
// Adds A B to them. Second parts of A lie `a_apart` after the first; each part is loaded once.
template <int R, int N> FN void add_products(long depth, const P *a, long a_apart, const P *b, long b_row) {
  long a_row = row_of_a(depth), b_apart = pairs(depth) * b_row;
  for (long k = 0; k < pairs(depth); k += TILE, a += TILE, b += TILE * b_row) {
    load_b<N>(b, b_row);
    if (PARTS == 2) load_a<R>(a + a_apart, a_row), multiply<R, N>();
    load_a<R>(a, a_row);
    multiply<R, N>();
    if (PARTS == 2) load_b<N>(b + b_apart, b_row), multiply<R, N>();
  }
}
template <int R, int N> FN void clear() {
  __builtin_ia32_tilezero(0);
  if (R == 2) __builtin_ia32_tilezero(1);
  if (N == 2) __builtin_ia32_tilezero(2);
  if (R == 2 && N == 2) __builtin_ia32_tilezero(3);
}
template <int R, int N> FN void load(const float *c, long c_row) {
  __builtin_ia32_tileloadd64(0, c, 4 * c_row);
  if (R == 2) __builtin_ia32_tileloadd64(1, c + TILE * c_row, 4 * c_row);
  if (N == 2) __builtin_ia32_tileloadd64(2, c + TILE, 4 * c_row);
  if (R == 2 && N == 2) __builtin_ia32_tileloadd64(3, c + TILE * c_row + TILE, 4 * c_row);
}
template <int R, int N> FN void store(float *c, long c_row) {
  __builtin_ia32_tilestored64(0, c, 4 * c_row);
  if (R == 2) __builtin_ia32_tilestored64(1, c + TILE * c_row, 4 * c_row);
  if (N == 2) __builtin_ia32_tilestored64(2, c + TILE, 4 * c_row);
  if (R == 2 && N == 2) __builtin_ia32_tilestored64(3, c + TILE * c_row + TILE, 4 * c_row);
}
// Rows from `row` on of N tiles' columns: into `sums`, or added to C. Second parts of A lie `apart`
// after the first.
template <int PRODUCT, int R, int N> FN void block(const Matrices &m, const P *a, long apart, long row, long column, V *sums) {
  const P *b = (const P *)m.b.at + column;
  float *c = m.c + row * m.c_row + column;
  a += row * row_of_a(m.depth);
  if (PRODUCT == SUM) load<R, N>(c, m.c_row);
  else clear<R, N>();
  add_products<R, N>(m.depth, a, apart, b, m.b.row);
  if (PRODUCT == SUM) store<R, N>(c, m.c_row);
  else store<R, N>((float *)sums, N * TILE);
}
template <int PRODUCT, int N> FN void finish_block(const Matrices &m, long row, long column, long rows, const V *sums) {
  for (long r = 0; r < least(2 * TILE, rows - row); r++)
#pragma unroll
    for (int n = 0; n < N; n++) {
      V x = sums[r * N + n];
      if (PRODUCT == FORWARDS) x += *(U *)(m.bias + column + n * WIDTH);
      finish<PRODUCT>(m, row + r, column + n * WIDTH, x);
    }
}
template <int PRODUCT, int N> static void blocks(const Matrices &m, const P *a, long apart, long rows, long column) {
  V sums[2][2 * TILE * N];  // of this block, and of the last one: tiles take long to arrive in memory
  for (long row = 0, i = 0; row < rows + 2 * TILE; row += 2 * TILE, i ^= 1) {
    if (row + TILE < rows) block<PRODUCT, 2, N>(m, a, apart, row, column, sums[i]);
    else if (row < rows) block<PRODUCT, 1, N>(m, a, apart, row, column, sums[i]);
    if (PRODUCT != SUM && row) finish_block<PRODUCT, N>(m, row - 2 * TILE, column, rows, sums[i ^ 1]);
  }
}
template <int PRODUCT> static void product(const Matrices &m, long rows, long columns) {
  long apart, column = 0;
  const P *a = paired(m, rows, apart);
  for (; column + TILE < columns; column += 2 * TILE) blocks<PRODUCT, 2>(m, a, apart, rows, column);
  if (column < columns) blocks<PRODUCT, 1>(m, a, apart, rows, column);
}
