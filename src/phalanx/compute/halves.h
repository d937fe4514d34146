// bfloat16 in pairs that follow each other along the sum, as processors multiply them: AMX by tiles
// (tiled_products.h), AVX512_BF16 by vectors (products.h). Part of perceptron.h. PARTS:
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
// A of the product in pairs along its rows, in scratch; second parts lie `apart` after the first.
FN const P *paired(const Matrices &m, long rows, long &apart) {
  long row = row_of_a(m.depth);
  apart = tiled(rows) * row;
  P *a = (P *)m.scratch, *across = a + PARTS * apart;
  if (m.a_column == 1) {
    pair_along(a, apart, m.a, m.a_row, rows, m.depth);
    return a;
  }
  pair_across(across, apart, tiled(rows), m.a, m.a_column, m.depth, rows);
  for (int p = 0; p < PARTS; p++)
    transpose((float *)a + p * apart, row, (float *)across + p * apart, tiled(rows), pairs(m.depth), tiled(rows));
  return a;
}
