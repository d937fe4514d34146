// Vectors of a CPU, activations, and what products of matrices have in common. Part of perceptron.h.

#pragma clang fp contract(fast)  // a * b + c in one instruction
#ifdef __AVX512F__
#define BYTES 64
#define ROWS 8
#elif defined(__AVX__)
#define BYTES 32
#define ROWS 4  // its 16 registers hold no more sums
#else
#define BYTES 16
#define ROWS 8
#endif
#define WIDTH (BYTES / 4)
#define FN static inline __attribute__((always_inline))
#define INSIDE inline __attribute__((always_inline))  // of a struct
typedef float V __attribute__((vector_size(BYTES)));
typedef float U __attribute__((vector_size(BYTES), aligned(4)));
typedef int I __attribute__((vector_size(BYTES)));

FN long padded(long n) { return (n + WIDTH - 1) / WIDTH * WIDTH; }
// Cache lines between rows: with even ones, and worse powers of two, rows share the cache's sets.
FN long odd(long n) { return n | 1; }
FN long least(long a, long b) { return a < b ? a : b; }
FN long largest(long a, long b) { return a > b ? a : b; }

enum Activation { LINEAR, ELU, RELU, TANH };

// Functions on vectors are also what makes clang use vectors of 64 bytes in one piece.
FN V multiply_add(V a, V b, V c) { return a * b + c; }
// exp of x, or of 0 if x > 0, to 2e-7: 2 to the power of the integer part, and a polynomial
FN V exp_(V x) {
  x = __builtin_elementwise_min(__builtin_elementwise_max(x * 1.44269504f, V{} - 126.0f), V{});
  V n = __builtin_elementwise_rint(x), f = x - n;
  V series = 1 + f * (0.693147182f + f * (0.240226462f + f * (0.0555033982f + f * (0.00961817f + f * (0.00133998f + f * 0.000154697f)))));
  return series * (V)((__builtin_convertvector(n, I) + 127) << 23);
}
FN V activate(int kind, V x) {
  if (kind == ELU) return x <= 0 ? exp_(x) - 1.0f : x;
  if (kind == RELU) return x < 0 ? V{} : x;
  if (kind == TANH) {
    V e = exp_(-2.0f * __builtin_elementwise_abs(x)), t = (1.0f - e) / (1.0f + e);
    return x > 0 ? t : x <= 0 ? -t : x;
  }
  return x;
}
// The derivative, from the activation's value
FN V slope(int kind, V y) {
  if (kind == ELU) return y > 0 ? V{} + 1.0f : y + 1.0f;
  if (kind == RELU) return y > 0 ? V{} + 1.0f : V{};
  if (kind == TANH) return 1.0f - y * y;
  return V{} + 1.0f;
}

// Rows become columns, digit by digit of their numbers in binary, from D on.
template <int D> FN void transpose_block(V *x) {
#define LOW(j) ((j) & D ? WIDTH + (j) - D : (j))
#define HIGH(j) ((j) & D ? WIDTH + (j) : (j) + D)
#if BYTES == 64
#define EACH(F) F(0), F(1), F(2), F(3), F(4), F(5), F(6), F(7), F(8), F(9), F(10), F(11), F(12), F(13), F(14), F(15)
#elif BYTES == 32
#define EACH(F) F(0), F(1), F(2), F(3), F(4), F(5), F(6), F(7)
#else
#define EACH(F) F(0), F(1), F(2), F(3)
#endif
#pragma unroll
  for (int i = 0; i < WIDTH; i++) {
    if (i & D) continue;
    V a = x[i], b = x[i | D];
    x[i] = __builtin_shufflevector(a, b, EACH(LOW)), x[i | D] = __builtin_shufflevector(a, b, EACH(HIGH));
  }
  if constexpr (2 * D < WIDTH) transpose_block<2 * D>(x);
}
// Rows become columns: (columns, rows) of (rows, columns).
static void transpose(float *to, long to_row, const float *from, long from_row, long rows, long columns) {
  long whole_rows = rows / WIDTH * WIDTH, whole = columns / WIDTH * WIDTH;
  for (long i = 0; i < whole_rows; i += WIDTH)
    for (long j = 0; j < whole; j += WIDTH) {
      V x[WIDTH];
#pragma unroll
      for (int n = 0; n < WIDTH; n++) x[n] = *(U *)(from + (i + n) * from_row + j);
      transpose_block<1>(x);
#pragma unroll
      for (int n = 0; n < WIDTH; n++) *(U *)(to + (j + n) * to_row + i) = x[n];
    }
  for (long i = 0; i < rows; i++)
    for (long j = i < whole_rows ? whole : 0; j < columns; j++) to[j * to_row + i] = from[i * from_row + j];
}

// FORWARDS: C = activation(A B + bias). BACKWARDS: C = A B * slope(Y). SUM: C = C + A B.
enum Product { FORWARDS, BACKWARDS, SUM };
struct Laid { const float *at; long row; };  // a matrix B as products take it, made by `lay`
struct Matrices {
  long depth;  // columns of A, rows of B
  const float *a; long a_row, a_column;  // distances between rows and between columns, one of them 1
  Laid b;
  float *c; long c_row;
  float *scratch;
  const float *bias, *y; long y_row;
  int activation;
};
// What becomes of a sum.
template <int PRODUCT> FN void finish(const Matrices &m, long row, long column, V x) {
  if (PRODUCT == FORWARDS) x = activate(m.activation, x);
  if (PRODUCT == BACKWARDS) x = x * slope(m.activation, *(U *)(m.y + row * m.y_row + column));
  *(U *)(m.c + row * m.c_row + column) = x;
}
