// The build for CUDA: LANES threads a world, one after the other in a warp. Needs no headers.

// What a warp executes comes from a cache that is smaller than a step's code: warps of a block that start
// a substep, or its integration, together wait for the same instructions once.
#define MEET() if (THREADS > 32) __syncthreads()
#define FN __device__ __forceinline__
#define MEMBER FN
// Stages are inlined, so that their small arrays stay in registers; not on one lane, whose models can
// have all kinds of rows and shapes, which would then take a minute to compile. Where loops over slots are
// unrolled, every index is a constant, and what is waited for is asked for early. Small robots are stepped
// in registers as a whole: what is written out goes through a copy in memory.
// APART is never inlined: it sees nothing of the world, and most worlds do not need it.
#define WRITER __device__ __noinline__
#define APART __device__ __noinline__
#if LANES > 1
#define STAGE FN
#else
#define STAGE __device__ __noinline__
#endif
#if UNROLLED
#define STAGE_UNROLL _Pragma("unroll")
#else
#define STAGE_UNROLL _Pragma("unroll 1")
#endif
#if IN_REGISTERS
#define WRITTEN(w, name) const Shown name = w
#else
#define WRITTEN(w, name) const Shown &name = w
#endif
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
#ifdef __CUDACC_RTC__
// To about the last digit, without branches, of which CUDA's own have many. Numbers are 1e-300 to 1e300: a root of
// less is 1e-150, and zero and infinity have no inverse.
FN double inverse_(double a) {
  double x;
  asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(x) : "d"(a));
  for (int i = 0; i < 2; i++) x = fma(x, fma(-a, x, 1.0), x);
  return x;
}
FN double sqrt_(double a) {
  double x, least = a > 1e-300 ? a : 1e-300;
  asm("rsqrt.approx.ftz.f64 %0, %1;" : "=d"(x) : "d"(least));
  for (int i = 0; i < 2; i++) x *= 1.5 - 0.5 * least * x * x;
  return least * x;
}
#else
FN double inverse_(double a) { return 1 / a; }
FN double sqrt_(double a) { return sqrt(a); }
#endif
// One world of the vector, of which there is one
FN float element(F a, int) { return a; }
FN bool element_on(B a, int) { return a; }
FN void set_element(F &a, int, float value) { a = value; }

// Newton's loops know each slot's place on several lanes; on one lane there may be too many slots.
#if LANES > 1
#define SOLVER_UNROLL _Pragma("unroll")
#else
#define SOLVER_UNROLL STAGE_UNROLL
#endif
#define UNROLL STAGE_UNROLL

#if LANES > 1
#define LANE (threadIdx.x % LANES)
FN unsigned team_shift() { return threadIdx.x % 32 / LANES * LANES; }
// A sum is a butterfly: each lane adds in an order of its own, but pairs of equal sums, and gets the
// same bits.
FN F sum_of(F x, unsigned mask) {
  _Pragma("unroll") for (int m = 1; m < LANES; m *= 2) x += __shfl_xor_sync(mask, x, m);
  return x;
}
FN F sum_lanes(F x) { return sum_of(x, ~0u); }
FN F sum_team(F x) { return sum_of(x, ((1u << LANES) - 1) << team_shift()); }
template <class S> FN S from_lane(S x, int lane) { return __shfl_sync(~0u, x, lane, LANES); }
FN unsigned lanes_where(bool b) { return __ballot_sync(~0u, b) >> team_shift() & ((1u << LANES) - 1); }
FN B any_lane(B b) { return lanes_where(b) != 0; }
FN bool any_here(B b) { return __any_sync(~0u, b); }
FN bool some_here(bool b) { return any_here(b); }
#endif

// Element `i` of rows of `width` floats.
template <class W> FN F get(const W &w, const float *rows, int width, int i) { return rows[w.world * width + i]; }
template <class W> FN void put(const W &w, float *rows, int width, int i, F value) {
  if (w.valid) rows[w.world * width + i] = value;
}
template <int width, class W> FN void get_rows(const W &w, const float *rows, F *out) {
  for (int i = 0; i < width; i++) out[i] = get(w, rows, width, i);
}
template <int width, class W> FN void put_rows(const W &w, float *rows, const F *values) {
  for (int i = 0; i < width; i++) put(w, rows, width, i, values[i]);
}
// A world's row of `width` numbers, where it is; a lane reads and writes what it has.
template <int width> struct RowIn {
  const float *row;
  template <class W> MEMBER RowIn(const W &w, const float *rows) : row(rows ? rows + w.world * width : nullptr) {}
  MEMBER F operator[](int i) const { return row ? row[i] : 0.0f; }
};
template <int width> struct RowOut {
  float *row;
  template <class W> MEMBER RowOut(const W &w, float *rows) : row(w.valid ? rows + w.world * width : nullptr) {}
  MEMBER void set(int i, F value) {
    if (row) row[i] = value;
  }
  template <class W> MEMBER void write(const W &, float *) {}
};
// A lane drives a few of the actuators and reads their controls where they are.
template <int count, class W> FN void load_ctrl(const W &) {}
template <int count, class W> FN F ctrl_of(const W &w, int i) { return get(w, w.fields->ctrl, count, i); }

// Shared memory of a block, 48 kB: where the geoms of its worlds are, and the numbers that all worlds share, as
// far as there is room. A cache has enough to do with what each lane has alone.
#define GEOM_STRIDE (NGEOM_ * 6 + 1)  // of a world; odd, so that worlds lie in different banks
#define GEOM_FLOATS (GEOM_STRIDE * (THREADS / LANES))
#define GEOMS_NEAR (LANES > 1 && NGEOM_ && GEOM_FLOATS <= 8 * 1024)
#define NUMBERS_NEAR (NUMBERS + (GEOMS_NEAR ? GEOM_FLOATS : 0) < 12 * 1024)
#if GEOMS_NEAR
__shared__ F near_geoms[GEOM_FLOATS];
#endif
#if NUMBERS_NEAR
__shared__ float near_numbers[NUMBERS + 1];
#endif
// Numbers that vary lie together for the worlds of a warp, so that their places are constants.
#define PER_WARP (32 / LANES)
FN void bring_near(const float *shared) {
#if NUMBERS_NEAR
  _Pragma("unroll 16") for (int i = threadIdx.x; i < NUMBERS; i += THREADS) near_numbers[i] = __ldg(shared + i);
  __syncthreads();
#endif
}
template <bool VARIES, class W> FN F number(const W &w, int i) {
  if (VARIES) return w.varied[i * PER_WARP];
#if NUMBERS_NEAR
  return near_numbers[i];
#else
  return __ldg(w.shared + i);
#endif
}
#define T(table, row, column) number<VARIES_##table>(w, AT_##table(row, column))
#define OUT(name) w.fields->name
