// Products of matrices as in products.h, of numbers rounded to bfloat16, with sums in float: by the
// tiles of Intel's AMX, which multiply 16 times as fast as its vectors. A tile has 16 rows of 64
// bytes: 16 floats, or 16 pairs of bfloat16 that follow each other along the sum. Part of perceptron.h.

#define TILE 16
typedef unsigned P;  // a pair
typedef P VP __attribute__((vector_size(64)));
typedef P UP __attribute__((vector_size(64), aligned(4)));
typedef __bf16 Halves __attribute__((vector_size(64)));
typedef short Shorts __attribute__((vector_size(64)));

FN long tiled(long n) { return (n + TILE - 1) / TILE * TILE; }
FN long pairs(long depth) { return (depth + 2 * TILE - 1) / (2 * TILE) * TILE; }
FN Halves rounded(V first, V second) { return (Halves)__builtin_ia32_cvtne2ps2bf16_512(second, first); }
FN V loaded(const float *from, long n) {  // the first n, then zeros
  return __builtin_ia32_loadups512_mask(from, V{}, (1 << largest(0, least(n, WIDTH))) - 1);
}
// Pairs along each row: (rows, pairs(depth)).
static void pair_along(P *to, const float *from, long from_row, long rows, long depth) {
  long whole = depth / (2 * TILE) * TILE;
  for (long i = 0; i < rows; i++, from += from_row, to += pairs(depth)) {
    for (long k = 0; k < whole; k += TILE) *(UP *)(to + k) = (VP)rounded(*(U *)(from + 2 * k), *(U *)(from + 2 * k + TILE));
    const float *rest = from + 2 * whole;
    long n = depth - 2 * whole;
    if (n) *(UP *)(to + whole) = (VP)rounded(loaded(rest, n), loaded(rest + TILE, n - TILE));
  }
}
// Pairs of each row with the next one: (pairs(depth), to_row) of (depth, columns).
static void pair_across(P *to, long to_row, const float *from, long from_row, long depth, long columns) {
  const Shorts order = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  for (long k = 0; k < pairs(depth); k++)
    for (long j = 0; j < columns; j += TILE) {
      const float *x = from + 2 * k * from_row + j;
      long n = columns - j;
      Shorts both = (Shorts)rounded(loaded(x, 2 * k < depth ? n : 0), loaded(x + from_row, 2 * k + 1 < depth ? n : 0));
      *(UP *)(to + k * to_row + j) = (VP)__builtin_ia32_permvarhi512(both, order);
    }
}
FN long laid_size(long depth, long columns) { return pairs(depth) * tiled(columns); }
FN Laid lay(float *to, const float *from, long from_row, long depth, long columns) {
  pair_across((P *)to, tiled(columns), from, from_row, depth, columns);
  return {to, tiled(columns)};
}
FN long scratch_size(long rows, long depth) { return 2 * tiled(rows) * pairs(depth); }
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

// R x N tiles of sums in tiles 0 to 3: the first R are in the first column.
template <int R, int N> FN void multiply(const P *a, long a_row, const P *b, long b_row) {
  for (long k = 0; k < a_row; k += TILE) {
    __builtin_ia32_tileloadd64(4, a + k, 4 * a_row);
    if (R == 2) __builtin_ia32_tileloadd64(5, a + TILE * a_row + k, 4 * a_row);
    __builtin_ia32_tileloadd64(6, b + k * b_row, 4 * b_row);
    __builtin_ia32_tdpbf16ps(0, 4, 6);
    if (R == 2) __builtin_ia32_tdpbf16ps(1, 5, 6);
    if (N == 1) continue;
    __builtin_ia32_tileloadd64(7, b + k * b_row + TILE, 4 * b_row);
    __builtin_ia32_tdpbf16ps(2, 4, 7);
    if (R == 2) __builtin_ia32_tdpbf16ps(3, 5, 7);
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
// Rows from `row` on of N tiles' columns: into `sums`, or added to C.
template <int PRODUCT, int R, int N> FN void block(const Matrices &m, const P *a, long row, long column, V *sums) {
  const P *b = (const P *)m.b.at + column;
  float *c = m.c + row * m.c_row + column;
  a += row * pairs(m.depth);
  if (PRODUCT == SUM) load<R, N>(c, m.c_row);
  else clear<R, N>();
  multiply<R, N>(a, pairs(m.depth), b, m.b.row);
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
template <int PRODUCT, int N> static void blocks(const Matrices &m, const P *a, long rows, long column) {
  V sums[2][2 * TILE * N];  // of this block, and of the last one: tiles take long to arrive in memory
  for (long row = 0, i = 0; row < rows + 2 * TILE; row += 2 * TILE, i ^= 1) {
    if (row + TILE < rows) block<PRODUCT, 2, N>(m, a, row, column, sums[i]);
    else if (row < rows) block<PRODUCT, 1, N>(m, a, row, column, sums[i]);
    if (PRODUCT != SUM && row) finish_block<PRODUCT, N>(m, row - 2 * TILE, column, rows, sums[i ^ 1]);
  }
}
template <int PRODUCT> static void product(const Matrices &m, long rows, long columns) {
  P *a = (P *)m.scratch, *across = a + tiled(rows) * pairs(m.depth);
  if (m.a_column == 1) pair_along(a, m.a, m.a_row, rows, m.depth);
  else {
    pair_across(across, tiled(rows), m.a, m.a_column, m.depth, rows);
    transpose((float *)a, pairs(m.depth), (float *)across, tiled(rows), pairs(m.depth), tiled(rows));
  }
  long column = 0;
  for (; column + TILE < columns; column += 2 * TILE) blocks<PRODUCT, 2>(m, a, rows, column);
  if (column < columns) blocks<PRODUCT, 1>(m, a, rows, column);
}
