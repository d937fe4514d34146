// Products of matrices as in products.h, of bfloat16, with sums in float: by the tiles of Intel's
// AMX, which multiply 16 times as fast as its vectors. A tile has 16 rows of 64 bytes: 16 floats, or
// 16 pairs of bfloat16 that follow each other along the sum. Part of perceptron.h. PARTS:
// 1 rounds each number to bfloat16. 2 takes it as the sum of two, x = high + low to 2^-17 of it, and
// x y as low high + high low + high high: another 2^-17 is left out. Infinity becomes NaN there.

#define TILE 16
typedef unsigned P;  // a pair
typedef P VP __attribute__((vector_size(64)));
typedef P UP __attribute__((vector_size(64), aligned(4)));
typedef __bf16 Halves __attribute__((vector_size(64)));
typedef short Shorts __attribute__((vector_size(64)));

FN long tiled(long n) { return (n + TILE - 1) / TILE * TILE; }
FN long pairs(long depth) { return (depth + 2 * TILE - 1) / (2 * TILE) * TILE; }
// From one row to the next: of A, and of B
FN long row_of_a(long depth) { return odd(pairs(depth) / TILE) * TILE; }
FN long row_of_b(long columns) { return odd(tiled(columns) / TILE) * TILE; }
FN Halves rounded(V first, V second) { return (Halves)__builtin_ia32_cvtne2ps2bf16_512(second, first); }
typedef unsigned short Half __attribute__((vector_size(32)));
FN V as_floats(Half x) { return (V)(__builtin_convertvector(x, VP) << 16); }
// The parts of 32 numbers
FN void split(V first, V second, Halves *parts) {
  parts[0] = rounded(first, second);
  if (PARTS == 1) return;
  struct { Half first, second; } high;
  __builtin_memcpy(&high, parts, sizeof high);
  parts[1] = rounded(first - as_floats(high.first), second - as_floats(high.second));
}
FN V loaded(const float *from, long n) {  // the first n, then zeros
  return __builtin_ia32_loadups512_mask(from, V{}, (1 << largest(0, least(n, WIDTH))) - 1);
}
// Pairs along each row: (rows, row_of_a(depth)), the second parts `apart` after the first.
static void pair_along(P *to, long apart, const float *from, long from_row, long rows, long depth) {
  long whole = depth / (2 * TILE) * TILE;
  Halves parts[PARTS];
  for (long i = 0; i < rows; i++, from += from_row, to += row_of_a(depth)) {
    for (long k = 0; k < whole; k += TILE) {
      split(*(U *)(from + 2 * k), *(U *)(from + 2 * k + TILE), parts);
#pragma unroll
      for (int p = 0; p < PARTS; p++) *(UP *)(to + p * apart + k) = (VP)parts[p];
    }
    const float *rest = from + 2 * whole;
    long n = depth - 2 * whole;
    if (!n) continue;
    split(loaded(rest, n), loaded(rest + TILE, n - TILE), parts);
#pragma unroll
    for (int p = 0; p < PARTS; p++) *(UP *)(to + p * apart + whole) = (VP)parts[p];
  }
}
// Pairs of each row with the next one: (pairs(depth), to_row) of (depth, columns).
static void pair_across(P *to, long apart, long to_row, const float *from, long from_row, long depth, long columns) {
  const Shorts order = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  long whole = columns / TILE * TILE;
  for (long k = 0; k < pairs(depth); k++, from += 2 * from_row, to += to_row) {
    auto put = [&](long j, V first, V second) {
      Halves parts[PARTS];
      split(first, second, parts);
#pragma unroll
      for (int p = 0; p < PARTS; p++)
        *(UP *)(to + p * apart + j) = (VP)__builtin_ia32_permvarhi512((Shorts)parts[p], order);
    };
    long j = 0, n = depth - 2 * k;
    if (n >= 2) for (; j < whole; j += TILE) put(j, *(U *)(from + j), *(U *)(from + from_row + j));
    for (; j < columns; j += TILE)
      put(j, loaded(from + j, n > 0 ? columns - j : 0), loaded(from + from_row + j, n > 1 ? columns - j : 0));
  }
}
FN long laid_part(long depth, long columns) { return pairs(depth) * row_of_b(columns); }
FN long laid_size(long depth, long columns) { return PARTS * laid_part(depth, columns); }
FN Laid lay(float *to, const float *from, long from_row, long depth, long columns) {
  pair_across((P *)to, laid_part(depth, columns), row_of_b(columns), from, from_row, depth, columns);
  return {to, row_of_b(columns)};
}
FN long scratch_size(long rows, long depth) { return 2 * PARTS * tiled(rows) * row_of_a(depth); }
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
  long row = row_of_a(m.depth), apart = tiled(rows) * row;
  P *a = (P *)m.scratch, *across = a + PARTS * apart;
  if (m.a_column == 1) pair_along(a, apart, m.a, m.a_row, rows, m.depth);
  else {
    pair_across(across, apart, tiled(rows), m.a, m.a_column, m.depth, rows);
    for (int p = 0; p < PARTS; p++)
      transpose((float *)a + p * apart, row, (float *)across + p * apart, tiled(rows), pairs(m.depth), tiled(rows));
  }
  long column = 0;
  for (; column + TILE < columns; column += 2 * TILE) blocks<PRODUCT, 2>(m, a, apart, rows, column);
  if (column < columns) blocks<PRODUCT, 1>(m, a, apart, rows, column);
}
