// The vector build for CPUs: WORLDS worlds a vector, compiled by the clang inside Warp, which has
// no headers and links no library: compiler built-ins alone.

// Sums keep their order, so that a row that only a neighbour has, which adds zero, changes no bit.
#pragma clang fp reassociate(off)

#define FN static inline __attribute__((always_inline))
#define STAGE static __attribute__((noinline))  // inlined, they take ten times as long to compile
#define WORLDS 8
typedef float F __attribute__((vector_size(4 * WORLDS)));
typedef int B __attribute__((vector_size(4 * WORLDS)));

FN F select(B b, F x, F y) { return b ? x : y; }
FN bool any_(B b) { return __builtin_reduce_or(b) != 0; }
FN F rsqrt_(F a) { return 1.0f / __builtin_elementwise_sqrt(a); }
FN F round_(F a) { return __builtin_elementwise_rint(a); }
FN F max_(F a, F b) { return a > b ? a : b; }
FN F min_(F a, F b) { return a < b ? a : b; }
FN F abs_(F a) { return __builtin_elementwise_abs(a); }
// One world of the vector, for what branches too much
FN float lane(F a, int l) { return a[l]; }
FN bool lane_on(B a, int l) { return a[l] != 0; }
FN void set_lane(F &a, int l, float value) { a[l] = value; }
FN float sqrt_(float a) { return __builtin_sqrtf(a); }
FN float abs_(float a) { return __builtin_fabsf(a); }
FN float max_(float a, float b) { return a > b ? a : b; }
FN float min_(float a, float b) { return a < b ? a : b; }

template <bool VARIES, class W> FN F number(const W &w, int i) {
  typedef float Unaligned __attribute__((vector_size(4 * WORLDS), aligned(4)));
  if (VARIES) return *(const Unaligned *)(w.varied + (long)i * w.worlds + w.world);
  return F{} + w.shared[i];
}
#define T(table, row, column) number<VARIES_##table>(w, ROW_##table + (row) * COLUMNS_##table + (column))
// Element `i` of rows of `width` floats, in each world of the vector; a short last chunk repeats its
// last world.
template <class W> STAGE F get(const W &w, const float *rows, int width, int i) {
  F out;
  for (int l = 0; l < WORLDS; l++) out[l] = rows[(w.world + (l < w.valid ? l : w.valid - 1)) * width + i];
  return out;
}
template <class W> STAGE void put(const W &w, float *rows, int width, int i, F value) {
  if (w.valid == WORLDS) for (int l = 0; l < WORLDS; l++) rows[(w.world + l) * width + i] = value[l];
  else for (int l = 0; l < w.valid; l++) rows[(w.world + l) * width + i] = value[l];
}

#define OUT(name) w.fields->name
