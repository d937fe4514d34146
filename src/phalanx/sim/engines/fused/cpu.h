// The vector build for CPUs: WORLDS worlds a vector, compiled by the clang inside Warp, which has
// no headers and links no library: compiler built-ins alone.

// Sums keep their order, so that a row that only a neighbour has, which adds zero, changes no bit.
#pragma clang fp reassociate(off) contract(fast)

#define MEET()
#define FN static inline __attribute__((always_inline))
#define MEMBER inline __attribute__((always_inline))
#define STAGE static __attribute__((noinline))  // inlined, they take ten times as long to compile
#define WORLDS 8
typedef float F __attribute__((vector_size(4 * WORLDS)));
typedef int B __attribute__((vector_size(4 * WORLDS)));
typedef float Unaligned __attribute__((vector_size(4 * WORLDS), aligned(4)));

FN F select(B b, F x, F y) { return b ? x : y; }
FN bool any_(B b) { return __builtin_reduce_or(b) != 0; }
FN F rsqrt_(F a) { return 1.0f / __builtin_elementwise_sqrt(a); }
FN F round_(F a) { return __builtin_elementwise_rint(a); }
FN F max_(F a, F b) { return a > b ? a : b; }
FN F min_(F a, F b) { return a < b ? a : b; }
FN F abs_(F a) { return __builtin_elementwise_abs(a); }
// x to the power p for x in [0, 1], to about 1e-6: exponent and mantissa, then series of log2 and exp2
FN F power_(F x, F p) {
  B bits = (B)x, exponent = (bits >> 23) - 127;
  F m = (F)((bits & 0x7fffff) | 0x3f800000), e = __builtin_convertvector(exponent, F);
  B high = m > 1.41421356f;
  m = high ? 0.5f * m : m, e = high ? e + 1.0f : e;
  F s = (m - 1) / (m + 1), s2 = s * s;
  F y = p * (e + s * (2.88539008f + s2 * (0.961796694f + s2 * (0.577078016f + s2 * (0.412198583f + s2 * 0.320598898f)))));
  y = max_(y, F{} - 126.0f);
  F n = round_(y), f = (y - n) * 0.693147181f;
  F series = 1 + f * (1 + f * (0.5f + f * (0.166666667f + f * (0.0416666667f + f * (0.00833333333f + f * 0.00138888889f)))));
  return series * (F)((__builtin_convertvector(n, B) + 127) << 23);
}
// One world of the vector, for what branches too much
FN float element(F a, int l) { return a[l]; }
FN bool element_on(B a, int l) { return a[l] != 0; }
FN void set_element(F &a, int l, float value) { a[l] = value; }
FN float sqrt_(float a) { return __builtin_sqrtf(a); }
FN double sqrt_(double a) { return __builtin_elementwise_sqrt(a); }
FN double inverse_(double a) { return 1 / a; }
FN float abs_(float a) { return __builtin_fabsf(a); }
FN float max_(float a, float b) { return a > b ? a : b; }
FN float min_(float a, float b) { return a < b ? a : b; }

template <bool VARIES, class W> FN F number(const W &w, int i, long rows) {
  // A vector's numbers lie together: rows of all worlds would be 4 KB apart, in the same cache sets.
  if (VARIES) return *(const F *)(w.varied + w.world * rows + i * WORLDS);
  return F{} + w.shared[i];
}
#define T(table, row, column) number<VARIES_##table>(w, AT_##table(row, column), VARIED_ROWS)
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

// Eight rows of eight floats become eight columns.
FN void transpose(F *r) {
#define SHUFFLE __builtin_shufflevector
  F t[8], u[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = SHUFFLE(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    t[i + 1] = SHUFFLE(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4) for (int j = 0; j < 2; j++) {
    u[i + 2 * j] = SHUFFLE(t[i + j], t[i + 2 + j], 0, 1, 8, 9, 4, 5, 12, 13);
    u[i + 2 * j + 1] = SHUFFLE(t[i + j], t[i + 2 + j], 2, 3, 10, 11, 6, 7, 14, 15);
  }
  for (int i = 0; i < 4; i++) {
    r[i] = SHUFFLE(u[i], u[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    r[i + 4] = SHUFFLE(u[i], u[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
#undef SHUFFLE
}
// All `width` elements of the rows, as `get` and `put` do it for one: eight at a time.
template <int width, class W> STAGE void get_rows(const W &w, const float *rows, F *out) {
  const float *first = rows + w.world * width;
  int i = 0;
  if (w.valid == WORLDS) for (; i + 8 <= width; i += 8) {
    for (int l = 0; l < WORLDS; l++) out[i + l] = *(const Unaligned *)(first + l * width + i);
    transpose(out + i);
  }
  for (; i < width; i++) out[i] = get(w, rows, width, i);
}
template <int width, class W> STAGE void put_rows(const W &w, float *rows, const F *values) {
  float *first = rows + w.world * width;
  int i = 0;
  if (w.valid == WORLDS) for (; i + 8 <= width; i += 8) {
    F block[8];
    for (int l = 0; l < 8; l++) block[l] = values[i + l];
    transpose(block);
    for (int l = 0; l < WORLDS; l++) *(Unaligned *)(first + l * width + i) = block[l];
  }
  for (; i < width; i++) put(w, rows, width, i, values[i]);
}

// A world's row of `width` numbers, read as a whole, and written so.
template <int width> struct RowIn {
  F values[width];
  template <class W> MEMBER RowIn(const W &w, const float *rows) {
    if (rows) get_rows<width>(w, rows, values);
    else for (int i = 0; i < width; i++) values[i] = F{};
  }
  MEMBER F operator[](int i) const { return values[i]; }
};
template <int width> struct RowOut {
  F values[width];
  template <class W> MEMBER RowOut(const W &, float *) {}
  MEMBER void set(int i, F value) { values[i] = value; }
  template <class W> MEMBER void write(const W &w, float *rows) { put_rows<width>(w, rows, values); }
};
template <int count, class W> FN void load_ctrl(const W &w) { get_rows<count>(w, w.fields->ctrl, w.drives->ctrl); }
template <int count, class W> FN F ctrl_of(const W &w, int i) { return w.drives->ctrl[i]; }
#define OUT(name) w.fields->name
#define WRITER STAGE
#define APART STAGE
#define WRITTEN(w, name) const Shown &name = w
#define STAGE_UNROLL _Pragma("unroll 1")
#define SOLVER_UNROLL STAGE_UNROLL
#define UNROLL STAGE_UNROLL
