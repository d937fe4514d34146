// A step of Adam for all parameters at once, compiled by the clang inside Warp. Source:
// arXiv:1412.6980, in the form of torch.optim.Adam.
#pragma clang fp contract(fast) reassociate(on)
#define EACH(n) for (long i = 0; i < n; i++)

struct Parameter { long size; float *value; const float *gradient; float *mean, *square, *step; };

// Euclidean norm of all gradients
static float norm(const Parameter *all, long count) {
  double sum = 0;
  for (const Parameter *p = all; p < all + count; p++) {
    const float *__restrict g = p->gradient;
    float part = 0;
    EACH(p->size) part += g[i] * g[i];
    sum += part;
  }
  return __builtin_sqrt(sum);
}
static double power(double base, long exponent) {
  double result = 1, square = base;
  for (; exponent; exponent >>= 1, square *= square) if (exponent & 1) result *= square;
  return result;
}
// most: the largest norm of the gradients, which are scaled down to it; negative to leave them.
extern "C" void adam(const Parameter *all, long count, double rate, double beta1, double beta2, double epsilon, double decay, double most) {
  float rest1 = 1 - beta1, rest2 = 1 - beta2, keep2 = beta2, small = epsilon, decayed = decay;
  float scale = 1;
  if (most >= 0) {
    float allowed = most / (norm(all, count) + 1e-6);
    scale = allowed > 1 ? 1 : allowed;  // what is not a number stays so
  }
  for (const Parameter *p = all; p < all + count; p++) {
    float step = *p->step += 1;
    float by = rate / (1 - power(beta1, step)), root = 1 / __builtin_sqrt(1 - power(beta2, step));
    float *__restrict value = p->value, *__restrict mean = p->mean, *__restrict square = p->square;
    const float *__restrict gradient = p->gradient;
    EACH(p->size) {
      float g = gradient[i] * scale + decayed * value[i];
      mean[i] += rest1 * (g - mean[i]);
      square[i] = keep2 * square[i] + rest2 * g * g;
      value[i] -= by * mean[i] / (__builtin_sqrtf(square[i]) * root + small);
    }
  }
}
