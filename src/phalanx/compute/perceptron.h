// A perceptron on the CPU, forwards and backwards, compiled by the clang inside Warp, which has no
// headers and links no library. Each call computes some rows, a few at a time, so that what one
// layer writes is still in the core's cache when the next one reads it.

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
#define VECTORS 3  // columns of a tile
#define CHUNK 128  // rows from the first layer to the last
#define FN static inline __attribute__((always_inline))
typedef float V __attribute__((vector_size(BYTES)));
typedef float U __attribute__((vector_size(BYTES), aligned(4)));
typedef int I __attribute__((vector_size(BYTES)));

FN long padded(long n) { return (n + WIDTH - 1) / WIDTH * WIDTH; }
FN long least(long a, long b) { return a < b ? a : b; }

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

// -- products ------------------------------------------------------------------------------------

// FORWARDS: C = activation(A B + bias). BACKWARDS: C = A B * slope(Y). SUM: C = C + A B.
enum Product { FORWARDS, BACKWARDS, SUM };
struct Matrices {
  long depth;  // columns of A, rows of B
  const float *a; long a_row, a_column;  // distances between rows and between columns
  const float *b; long b_row;
  float *c; long c_row;
  const float *bias, *y; long y_row;
  int activation;
};
template <int PRODUCT, int R, int N> static void tile(const Matrices &m, long row, long column) {
  const float *a = m.a + row * m.a_row, *b = m.b + column;
  float *c = m.c + row * m.c_row + column;
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
    for (int n = 0; n < N; n++) of_b[n] = *(U *)(b + k * m.b_row + n * WIDTH);
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
    for (int n = 0; n < N; n++) {
      V x = sum[r][n];
      if (PRODUCT == FORWARDS) x = activate(m.activation, x);
      if (PRODUCT == BACKWARDS) x = x * slope(m.activation, *(U *)(m.y + (row + r) * m.y_row + column + n * WIDTH));
      *(U *)(c + r * m.c_row + n * WIDTH) = x;
    }
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

// -- the network ---------------------------------------------------------------------------------

// `layers` hidden layers and `heads` linear outputs of the last of them; of layer l, which has
// `sizes[l]` inputs, `hidden[l]` are the outputs (rows, apart(sizes[l + 1])), and of the heads
// `outputs` (rows, widths). Weights are as torch has them: (outputs, inputs), without padding.
struct Network {
  long layers, heads, rows, activation;
  const float *input;
  const long *sizes, *widths;  // (layers + 1), (heads)
  const float *const *weights, *const *biases;  // (layers + heads)
  float *const *hidden;  // (layers)
  float *const *outputs;  // (heads); going backwards their gradients
  float *const *weight_gradients, *const *bias_gradients;  // (layers + heads)
};
// Memory of a thread, taken piece by piece; with `at` null it only counts.
struct Memory {
  char *at; long used;
  float *take(long floats) {
    float *piece = (float *)(at + used);
    used += padded(floats) * 4 + 64;  // apart by more than powers of two, which share cache sets
    return piece;
  }
};
// Rows between two of them in scratch memory; not a power of two
FN long apart(long n) { return padded(n) + WIDTH; }
static long outputs_of(const Network &f, long l) {
  if (l < f.layers) return f.sizes[l + 1];
  long sum = 0;
  for (long h = 0; h < f.heads; h++) sum += f.widths[h];
  return sum;
}
// Calls `part(matrix, width, column)` for the matrices that layer l has: several if it is the heads.
template <class Part> FN void each_part(const Network &f, long l, Part part) {
  if (l < f.layers) { part(l, f.sizes[l + 1], 0L); return; }
  for (long h = 0, column = 0; h < f.heads; column += f.widths[h++]) part(f.layers + h, f.widths[h], column);
}
static void copy_rows(float *to, long to_row, const float *from, long from_row, long rows, long width) {
  for (long i = 0; i < rows; i++) for (long j = 0; j < width; j++) to[i * to_row + j] = from[i * from_row + j];
}
// Rows [first, last). keep: whether `hidden` has all rows, for `backwards`, or only a chunk.
static long forwards(const Network &f, float *memory, long first, long last, bool keep) {
  Memory m{(char *)memory, 0};
  float *weight[16], *bias[16];
  for (long l = 0; l <= f.layers; l++) {
    long in = f.sizes[l], row = apart(outputs_of(f, l));
    weight[l] = m.take(in * row), bias[l] = m.take(row);
    if (!memory) continue;
    each_part(f, l, [&](long i, long width, long column) {
      for (long n = 0; n < width; n++) {
        bias[l][column + n] = f.biases[i][n];
        for (long k = 0; k < in; k++) weight[l][k * row + column + n] = f.weights[i][n * in + k];
      }
    });
  }
  float *own[16];
  for (long l = 0; l < f.layers; l++) own[l] = m.take(keep ? 0 : CHUNK * apart(f.sizes[l + 1]));
  long heads_row = apart(outputs_of(f, f.layers));
  float *heads = m.take(CHUNK * heads_row);
  if (!memory) return m.used;
  for (long start = first; start < last; start += CHUNK) {
    long rows = least(CHUNK, last - start);
    const float *x = f.input + start * f.sizes[0];
    long x_row = f.sizes[0];
    for (long l = 0; l <= f.layers; l++) {
      long out = outputs_of(f, l), to_row = apart(out);
      float *to = l == f.layers ? heads : keep ? f.hidden[l] + start * to_row : own[l];
      int activation = l == f.layers ? LINEAR : f.activation;
      product<FORWARDS>({f.sizes[l], x, x_row, 1, weight[l], apart(out), to, to_row, bias[l], nullptr, 0, activation}, rows, out);
      x = to, x_row = to_row;
    }
    each_part(f, f.layers, [&](long i, long width, long column) {
      copy_rows(f.outputs[i - f.layers] + start * width, width, heads + column, heads_row, rows, width);
    });
  }
  return m.used;
}
// Adds up the gradients of rows [first, last) in `memory`, from its start on, in the order of the
// layers: (outputs, apart(inputs)) of the weights, then (outputs) of the biases.
static long backwards(const Network &f, float *memory, long first, long last) {
  Memory m{(char *)memory, 0};
  float *weight_sum[16], *bias_sum[16], *weight[16];
  long widest = 0;
  for (long l = 0; l <= f.layers; l++) {
    long out = outputs_of(f, l), row = apart(f.sizes[l]);
    weight_sum[l] = m.take(out * row), bias_sum[l] = m.take(out);
    widest = out > widest ? out : widest;
  }
  long sums = m.used;
  for (long l = 1; l <= f.layers; l++) weight[l] = m.take(outputs_of(f, l) * apart(f.sizes[l]));
  float *input = m.take(CHUNK * apart(f.sizes[0]));
  float *to = m.take(CHUNK * apart(widest)), *from = m.take(CHUNK * apart(widest));
  if (!memory) return m.used;
  for (long i = 0; i < sums / 4; i++) memory[i] = 0;
  for (long l = 1; l <= f.layers; l++) each_part(f, l, [&](long i, long width, long column) {
    copy_rows(weight[l] + column * apart(f.sizes[l]), apart(f.sizes[l]), f.weights[i], f.sizes[l], width, f.sizes[l]);
  });
  for (long start = first; start < last; start += CHUNK) {
    long rows = least(CHUNK, last - start);
    copy_rows(input, apart(f.sizes[0]), f.input + start * f.sizes[0], f.sizes[0], rows, f.sizes[0]);
    each_part(f, f.layers, [&](long i, long width, long column) {
      copy_rows(from + column, apart(outputs_of(f, f.layers)), f.outputs[i - f.layers] + start * width, width, rows, width);
    });
    for (long l = f.layers; l >= 0; l--) {
      long in = f.sizes[l], out = outputs_of(f, l), from_row = apart(out), x_row = apart(in);
      const float *x = l ? f.hidden[l - 1] + start * x_row : input;
      product<SUM>({rows, from, 1, from_row, x, x_row, weight_sum[l], apart(in), nullptr, nullptr, 0, LINEAR}, out, in);
      for (long i = 0; i < rows; i++) for (long j = 0; j < out; j++) bias_sum[l][j] += from[i * from_row + j];
      if (!l) break;
      product<BACKWARDS>({out, from, from_row, 1, weight[l], apart(in), to, apart(in), nullptr, x, x_row, (int)f.activation}, rows, in);
      float *other = from;
      from = to, to = other;
    }
  }
  return m.used;
}

extern "C" long row_size(long n) { return apart(n); }
extern "C" long memory_size(const Network *f) {
  long a = forwards(*f, nullptr, 0, 0, false), b = backwards(*f, nullptr, 0, 0);
  return a > b ? a : b;
}
extern "C" void forward(const Network *f, float *memory, long first, long last, int keep) {
  forwards(*f, memory, first, last, keep);
}
extern "C" void backward(const Network *f, float *memory, long first, long last) {
  backwards(*f, memory, first, last);
}
// The sums of all threads' memories, in their order, into the gradients
extern "C" void add_up(const Network *f, float *const *memories, long threads) {
  Memory m{nullptr, 0};
  for (long l = 0; l <= f->layers; l++) {
    long in = f->sizes[l], row = apart(in), out = outputs_of(*f, l);
    long weights = (long)m.take(out * row) / 4, biases = (long)m.take(out) / 4;
    each_part(*f, l, [&](long i, long width, long column) {
      for (long n = 0; n < width; n++) {
        float *to = f->weight_gradients[i] + n * in, bias = 0;
        for (long k = 0; k < in; k++) to[k] = 0;
        for (long t = 0; t < threads; t++) {
          const float *from = memories[t] + weights + (column + n) * row;
          for (long k = 0; k < in; k++) to[k] += from[k];
          bias += memories[t][biases + column + n];
        }
        f->bias_gradients[i][n] = bias;
      }
    });
  }
}
