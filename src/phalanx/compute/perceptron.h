// A perceptron on the CPU, forwards and backwards, compiled by the clang inside Warp, which has no
// headers and links no library. Each call computes some rows, a few at a time, so that what one
// layer writes is still in the core's cache when the next one reads it. Follows vectors.h, for
// bfloat16 halves.h, and products.h or tiled_products.h.

#define CHUNK 128  // rows from the first layer to the last

// `layers` hidden layers and `heads` linear outputs of the last of them; of layer l, which has
// `sizes[l]` inputs, `hidden[l]` are the outputs (rows, apart(sizes[l + 1])), and of the heads
// `outputs` (rows, widths). Weights are as torch has them: (outputs, inputs), without padding.
struct Network {
  long layers, heads, rows, activation, keep;  // keep: whether `hidden` has all rows, or going forwards alone a chunk
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
// Floats from one row to the next in scratch memory
FN long apart(long n) { return odd(padded(n) / WIDTH) * WIDTH; }
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
// Layers and heads of rows, a chunk of them at a time.
struct Forwards {
  float *bias[16], *scratch;
  Laid laid[16];
  // Takes memory and lays out the weights there.
  void prepare(const Network &f, Memory &m) {
    float *weight[16];
    long most = 0;
    for (long l = 0; l <= f.layers; l++) {
      long in = f.sizes[l], out = outputs_of(f, l), row = apart(out);
      weight[l] = m.take(in * row), bias[l] = m.take(row);
      float *to = m.take(laid_size(in, out));
      most = largest(most, scratch_size(CHUNK, in));
      if (!m.at) continue;
      each_part(f, l, [&](long i, long width, long column) {
        for (long n = 0; n < width; n++) bias[l][column + n] = f.biases[i][n];
        transpose(weight[l] + column, row, f.weights[i], in, width, in);
      });
      laid[l] = lay(to, weight[l], row, in, out);
    }
    scratch = m.take(most);
  }
  // hidden[l], heads: (rows, apart(outputs))
  void compute(const Network &f, const float *x, long x_row, long rows, float *const *hidden, float *heads) const {
    for (long l = 0; l <= f.layers; l++) {
      long out = outputs_of(f, l), to_row = apart(out);
      float *to = l == f.layers ? heads : hidden[l];
      int activation = l == f.layers ? LINEAR : f.activation;
      product<FORWARDS>({f.sizes[l], x, x_row, 1, laid[l], to, to_row, scratch, bias[l], nullptr, 0, activation}, rows, out);
      x = to, x_row = to_row;
    }
  }
};
// Gradients of weights and biases, added up over chunks of rows. They come first in the memory, in the
// order of the layers: (outputs, apart(inputs)) of the weights, then (outputs) of the biases.
struct Backwards {
  float *weight_sum[16], *bias_sum[16], *scratch, *x_laid, *of_heads, *other;
  Laid laid[16];
  void prepare(const Network &f, Memory &m) {
    float *weight[16], *to_lay[16], *start = (float *)(m.at + m.used);
    long widest = 0, most = 0, most_laid = 0, before = m.used;
    for (long l = 0; l <= f.layers; l++) {
      long in = f.sizes[l], out = outputs_of(f, l);
      weight_sum[l] = m.take(rows_of_sum(out) * apart(in)), bias_sum[l] = m.take(out);
      widest = largest(widest, out);
      most = largest(most, largest(scratch_size(CHUNK, out), scratch_size(out, CHUNK)));
      most_laid = largest(most_laid, laid_size(CHUNK, in));
    }
    long sums = m.used - before;
    for (long l = 1; l <= f.layers; l++) {
      long in = f.sizes[l], out = outputs_of(f, l);
      weight[l] = m.take(out * apart(in)), to_lay[l] = m.take(laid_size(out, in));
    }
    scratch = m.take(most), x_laid = m.take(most_laid);
    of_heads = m.take(CHUNK * apart(widest)), other = m.take(CHUNK * apart(widest));
    if (!m.at) return;
    for (long i = 0; i < sums / 4; i++) start[i] = 0;
    for (long l = 1; l <= f.layers; l++) {
      long in = f.sizes[l];
      each_part(f, l, [&](long i, long width, long column) {
        copy_rows(weight[l] + column * apart(in), apart(in), f.weights[i], in, width, in);
      });
      laid[l] = lay(to_lay[l], weight[l], apart(in), outputs_of(f, l), in);
    }
  }
  // Of rows with `input` (rows, apart(inputs)), whose heads' gradients are in `of_heads`.
  void compute(const Network &f, const float *input, float *const *hidden, long rows) const {
    float *from = of_heads, *to = other;
    for (long l = f.layers; l >= 0; l--) {
      long in = f.sizes[l], out = outputs_of(f, l), from_row = apart(out), x_row = apart(in);
      const float *x = l ? hidden[l - 1] : input;
      Laid of_x = lay(x_laid, x, x_row, rows, in);
      product<SUM>({rows, from, 1, from_row, of_x, weight_sum[l], apart(in), scratch, nullptr, nullptr, 0, LINEAR}, out, in);
      for (long i = 0; i < rows; i++) for (long j = 0; j < out; j++) bias_sum[l][j] += from[i * from_row + j];
      if (!l) break;
      product<BACKWARDS>({out, from, from_row, 1, laid[l], to, apart(in), scratch, nullptr, x, x_row, (int)f.activation}, rows, in);
      float *now = to;
      to = from, from = now;
    }
  }
};
// Rows [first, last); with `memory` null both only count what they take.
static long forwards(const Network &f, float *memory, long first, long last) {
  Memory m{(char *)memory, 0};
  Forwards layers;
  layers.prepare(f, m);
  float *hidden[16];
  for (long l = 0; l < f.layers; l++) hidden[l] = m.take(f.keep ? 0 : CHUNK * apart(f.sizes[l + 1]));
  long heads_row = apart(outputs_of(f, f.layers));
  float *heads = m.take(CHUNK * heads_row);
  if (!memory) return m.used;
  begin_products();
  for (long start = first; start < last; start += CHUNK) {
    long rows = least(CHUNK, last - start);
    if (f.keep) for (long l = 0; l < f.layers; l++) hidden[l] = f.hidden[l] + start * apart(f.sizes[l + 1]);
    layers.compute(f, f.input + start * f.sizes[0], f.sizes[0], rows, hidden, heads);
    each_part(f, f.layers, [&](long i, long width, long column) {
      copy_rows(f.outputs[i - f.layers] + start * width, width, heads + column, heads_row, rows, width);
    });
  }
  end_products();
  return m.used;
}
static long backwards(const Network &f, float *memory, long first, long last) {
  Memory m{(char *)memory, 0};
  Backwards layers;
  layers.prepare(f, m);
  float *input = m.take(CHUNK * apart(f.sizes[0])), *hidden[16];
  if (!memory) return m.used;
  begin_products();
  for (long start = first; start < last; start += CHUNK) {
    long rows = least(CHUNK, last - start), row = apart(outputs_of(f, f.layers));
    copy_rows(input, apart(f.sizes[0]), f.input + start * f.sizes[0], f.sizes[0], rows, f.sizes[0]);
    each_part(f, f.layers, [&](long i, long width, long column) {
      copy_rows(layers.of_heads + column, row, f.outputs[i - f.layers] + start * width, width, rows, width);
    });
    for (long l = 0; l < f.layers; l++) hidden[l] = f.hidden[l] + start * apart(f.sizes[l + 1]);
    layers.compute(f, input, hidden, rows);
  }
  end_products();
  return m.used;
}

extern "C" long row_size(long n) { return apart(n); }
extern "C" long memory_size(const Network *f) {
  long a = forwards(*f, nullptr, 0, 0), b = backwards(*f, nullptr, 0, 0);
  return a > b ? a : b;
}
extern "C" void forward(const Network *f, float *memory, long first, long last) {
  forwards(*f, memory, first, last);
}
extern "C" void backward(const Network *f, float *memory, long first, long last) {
  backwards(*f, memory, first, last);
}
// The sums of all threads' memories, in their order, into the gradients
extern "C" void add_up(const Network *f, float *const *memories, long threads) {
  Memory m{nullptr, 0};
  for (long l = 0; l <= f->layers; l++) {
    long in = f->sizes[l], row = apart(in), out = outputs_of(*f, l);
    long weights = (long)m.take(rows_of_sum(out) * row) / 4, biases = (long)m.take(out) / 4;
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
