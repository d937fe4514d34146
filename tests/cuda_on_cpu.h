// CUDA's words for a C++ compiler, so that the fused step's text for GPUs runs without one: the lanes of
// a world are fibers, which take turns wherever lanes exchange values. They must all come by there.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>
#define __device__
#define __global__
#define __forceinline__ inline
#define __noinline__
#define __shared__ static
#define __grid_constant__
#define __launch_bounds__(x)
struct Index {
  unsigned x;
};
static Index threadIdx, blockIdx;
static ucontext_t fibers[32], home;
static char stacks[32][1 << 22];
static bool over[32];
static float given[32];
static long exchanges[32];

static void next_lane() {
  int from = threadIdx.x;
  threadIdx.x = (from + 1) % THREADS;
  if (THREADS > 1) swapcontext(&fibers[from], &fibers[threadIdx.x]);
  threadIdx.x = from;
}
// Every lane's value, in `given`, until `next_lane` is called again.
static void exchange(float x) {
  given[threadIdx.x] = x, exchanges[threadIdx.x]++;
  next_lane();
  for (int i = 0; i < THREADS; i++)
    if (over[i] || exchanges[i] != exchanges[threadIdx.x]) {
      printf("lanes %d and %d part\n", threadIdx.x, i);
      abort();
    }
}
static float __shfl_sync(unsigned, float x, int lane, int = 0) {
  exchange(x);
  float got = given[lane];
  next_lane();
  return got;
}
static float __shfl_xor_sync(unsigned, float x, int m) { return __shfl_sync(0, x, threadIdx.x ^ m); }
static unsigned __ballot_sync(unsigned, bool b) {
  unsigned bits = 0;
  exchange(b);
  for (int i = 0; i < THREADS; i++) bits |= (unsigned)(given[i] != 0) << i;
  next_lane();
  return bits;
}
static bool __any_sync(unsigned, bool b) { return __ballot_sync(0, b) != 0; }
static void __syncwarp() {
  exchange(0);
  next_lane();
}
static void __syncthreads() { __syncwarp(); }
static float __ldg(const float *p) { return *p; }
static float rsqrtf(float a) { return 1 / sqrtf(a); }

template <class Work> static void on_lanes(long worlds, Work work) {
  static Work *now;
  now = &work;
  for (blockIdx.x = 0; blockIdx.x < worlds; blockIdx.x++) {
    for (int i = 0; i < THREADS; i++) {
      over[i] = false, exchanges[i] = 0;
      getcontext(&fibers[i]);
      fibers[i].uc_stack.ss_sp = stacks[i], fibers[i].uc_stack.ss_size = sizeof stacks[i];
      makecontext(&fibers[i], +[] {
        (*now)();
        int my = threadIdx.x, next = (my + 1) % THREADS;
        over[my] = true, threadIdx.x = next;
        swapcontext(&fibers[my], over[next] ? &home : &fibers[next]);
      }, 0);
    }
    threadIdx.x = 0;
    swapcontext(&home, &fibers[0]);
  }
}
