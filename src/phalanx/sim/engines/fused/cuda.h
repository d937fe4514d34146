// The build for CUDA: a thread a world. Needs no headers.

#define FN __device__ __forceinline__
#define STAGE __device__ __noinline__
typedef float F;
typedef bool B;
#define WORLDS 1

FN F select(B b, F x, F y) { return b ? x : y; }
FN bool any_(B b) { return b; }
FN F rsqrt_(F a) { return rsqrtf(a); }
FN F round_(F a) { return rintf(a); }
FN F max_(F a, F b) { return fmaxf(a, b); }
FN F min_(F a, F b) { return fminf(a, b); }
FN F abs_(F a) { return fabsf(a); }
FN F power_(F x, F p) { return powf(x, p); }
FN F sqrt_(F a) { return sqrtf(a); }
// One world of the vector, of which there is one
FN float lane(F a, int) { return a; }
FN bool lane_on(B a, int) { return a; }
FN void set_lane(F &a, int, float value) { a = value; }

// Element `i` of rows of `width` floats.
template <class W> FN F get(const W &w, const float *rows, int width, int i) { return rows[w.world * width + i]; }
template <class W> FN void put(const W &w, float *rows, int width, int i, F value) { rows[w.world * width + i] = value; }

template <int width, class W> FN void get_rows(const W &w, const float *rows, F *out) {
  for (int i = 0; i < width; i++) out[i] = get(w, rows, width, i);
}
template <int width, class W> FN void put_rows(const W &w, float *rows, const F *values) {
  for (int i = 0; i < width; i++) put(w, rows, width, i, values[i]);
}

template <bool VARIES, class W> FN F number(const W &w, int i) {
  return VARIES ? w.varied[(long)i * w.worlds + w.world] : __ldg(w.shared + i);
}
#define T(table, row, column) number<VARIES_##table>(w, ROW_##table + (row) * COLUMNS_##table + (column))
#define OUT(name) w.fields->name
