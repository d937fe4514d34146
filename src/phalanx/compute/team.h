// Threads that share a function's rows. Between two calls they wait in here, awake and without Python:
// the next one often comes sooner than a system wakes a thread.
typedef void Work(const void *task, void *memory, long first, long last);
struct Part { void *memory; long first, last; };
// A call offers each helper a part. Whoever takes it first computes it: the helper or, having done its
// own, the caller, which therefore never waits for a thread that does not come.
enum { WAITS, SLEEPS, OFFERED, WORKS };
struct Helper {
  long state, patience;  // patience: how often it looks for a call before it sleeps
  long slept;            // when it was offered something
  Work *work;
  const void *task;
  const Part *part;
  long apart[10];  // from the next one's cache lines
};

static long state_of(Helper *h) { return __atomic_load_n(&h->state, __ATOMIC_ACQUIRE); }
static bool becomes(Helper *h, long now, long next) {
  return state_of(h) == now && __atomic_compare_exchange_n(&h->state, &now, next, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}
static void look_away() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");  // "yield" takes no time there
#endif
}
static void compute(Work *work, const void *task, const Part *p) { work(task, p->memory, p->first, p->last); }

extern "C" void spend(long looks) { for (; looks > 0; looks--) look_away(); }
// How many helpers still work after `looks`; looks < 0 has no end.
extern "C" long unfinished(Helper *helpers, long count, long looks) {
  long working = 0;
  for (Helper *h = helpers; h < helpers + count; h++) {
    for (; state_of(h) == WORKS && looks; looks--) look_away();
    working += state_of(h) == WORKS;
  }
  return working;
}
// The first part is the caller's. Helpers that should be awake but do not come, or not back, share
// their core with another program, from which looking takes time: they get less patient, down to none,
// and where they do come, slowly as patient again as `most`.
extern "C" long share(Helper *helpers, long count, Work *work, const void *task, const Part *parts, long most) {
  unfinished(helpers, count, -1);  // of a call in whose wait a signal's handler makes this one
  for (long i = 0; i < count; i++) {
    Helper *h = helpers + i;
    h->work = work, h->task = task, h->part = parts + i + 1;
    h->slept = __atomic_exchange_n(&h->state, OFFERED, __ATOMIC_ACQ_REL) == SLEEPS;
  }
  compute(work, task, parts);
  for (Helper *h = helpers; h < helpers + count; h++) {
    if (becomes(h, OFFERED, h->slept ? SLEEPS : WAITS)) {
      if (!h->slept) h->patience /= 2;
      compute(work, task, h->part);
    } else if (h->patience < most) h->patience += h->patience / 32 + 32;
  }
  long working = unfinished(helpers, count, most / 10);
  if (working) for (long i = 0; i < count; i++) helpers[i].patience /= 2;
  return working;
}
// A helper's time between two sleeps. It was woken for a call that comes at once, for which it has the
// patience of `most`.
extern "C" void serve(Helper *h, long most) {
  becomes(h, SLEEPS, WAITS);
  bool came = false;
  for (long looks = 0;; looks++) {
    if (becomes(h, OFFERED, WORKS)) {
      compute(h->work, h->task, h->part);
      __atomic_store_n(&h->state, WAITS, __ATOMIC_RELEASE);
      looks = 0, came = true;
    } else if (looks >= (came ? __atomic_load_n(&h->patience, __ATOMIC_RELAXED) : most) && (becomes(h, WAITS, SLEEPS) || state_of(h) == SLEEPS)) return;
    else look_away();
  }
}
