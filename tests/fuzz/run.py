"""Calls our loaders with broken files, and counts what they do.

    python tests/fuzz/run.py npy cases=100000          # some loaders; all without a name
    python tests/fuzz/run.py cases=60000 jobs=16 minutes=9     # 16 at once, no longer than that
    python tests/fuzz/run.py cases=60000 minutes=9 out=a.json  # goes on where a.json ends
    python tests/fuzz/run.py sum=a.json,b.json                 # the table of several
    python tests/fuzz/run.py npy case=4711             # one case, here, with its traceback

Each loader runs in a process of its own, which is stopped when a case takes more than `SECONDS` or
`MEMORY`, and goes on behind it. What a case does:

    sentence    PhalanxError, one line: right
    accepted    loaded, and what was loaded passes the loader's check: right
    traceback   any other exception
    hang        more than SECONDS of computing, or BLOCKED times that of waiting
    memory      more than MEMORY above what the process had before
    executed    the loader started a program, opened a socket or made a folder
    nonsense    accepted, but not finite, of wrong size or out of range
    died        the interpreter crashed
"""

import collections
import concurrent.futures
import contextlib
import faulthandler
import importlib.util
import io
import logging
import multiprocessing as mp
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz import mutate, targets
from fuzz.table import GOOD, Table
from phalanx.errors import PhalanxError

SECONDS, WARM_UP, START = 10.0, 120.0, 300.0
BLOCKED = 10
"""So many times its seconds may pass while a process waits, for the processor or for anything."""
AT_ONCE = collections.defaultdict(lambda: 6000)
"""Cases of one process, by loader, about 15 s; with several jobs or `out=`, they take turns after
so many."""
AT_ONCE |= dict.fromkeys(("settings", "command_line", "picture"), 2000)
AT_ONCE |= dict.fromkeys(("randomization", "doctor", "assets", "look"), 700)
AT_ONCE |= dict.fromkeys(("ppo", "lstm", "sac", "dqn", "amp", "randomized"), 700)
PRELOAD = ["fuzz.targets", "torch._dynamo", "onnx", "onnxruntime", "phalanx.sim.engines.auto"]
"""Modules that processes share: importing them takes longer than most cases."""
MEMORY = 2 * 2**30
AT, SLOWEST, COUNTS = 0, 1, 2
"""Places in what a process shares of its progress."""
EVENTS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "subprocess.Popen",
    "socket.connect",
    "os.mkdir",
)
EVENTS += ("os.fork", "pty.spawn", "urllib.Request", "os.remove", "os.rename")


class Watching:
    """What a loader did that no loader may do."""

    def __init__(self):
        self.seen = []
        self.on = False


class Watch(Watching):
    """The same, seen by Python's audit hook, which stays until the process ends."""

    def __init__(self):
        super().__init__()
        sys.addaudithook(self.hook)

    def hook(self, event, arguments):
        if self.on and event in EVENTS and "phalanx_fuzz_ok" not in str(arguments):
            self.seen.append(f"{event}{arguments}")


def outcome(target, argument, watch=None):
    """(kind, words) of one case."""
    watch = watch or Watching()
    watch.seen.clear()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said, kind = "", "accepted"
    try:
        watch.on = True
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            target(argument)
    except PhalanxError as error:
        kind, said = "sentence", str(error)
        if "\n" in said.strip() or len(said) > 4000 or not said:
            kind = "nonsense"
        while (error := error.__cause__ or error.__context__) is not None:
            kind = "memory" if isinstance(error, MemoryError) else kind
    except AssertionError as error:
        inside = traceback.extract_tb(error.__traceback__)[-1].filename
        kind = "nonsense" if "/fuzz/" in inside else "traceback"
        said = "".join(traceback.format_exception(error)[-3:])
    except MemoryError:
        kind = "memory"
    except BaseException as error:
        kind, said = "traceback", "".join(traceback.format_exception(error)[-4:])
    finally:
        watch.on = False
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if (after - before) * 1024 > MEMORY:
        kind = "memory"
    if watch.seen:
        kind, said = "executed", watch.seen[0]
    return kind, said


def work(name, first, last, until, pipe, place, progress):
    """Run cases of one target that begin before the time `until`. `progress` has the number of the
    present one, the slowest one's seconds and a count of each of GOOD; (number, kind, words,
    seconds) of others go into the pipe: a message a case would keep one process from reading those
    of many."""
    faulthandler.disable()
    tempfile.gettempdir()  # which writes a file to find out
    warnings.simplefilter("ignore")
    logging.disable()
    folder = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="phalanx_fuzz_ok"))
    place.value = str(folder).encode()
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
    target = targets.TARGETS[name](folder)
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * 4096 + 2 * MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    watch = Watch()
    for number in range(first, last):
        if time.monotonic() > until:
            break
        progress[AT] = number
        argument = target.case(mutate.seeded(name, number))
        start = time.perf_counter()
        kind, said = outcome(target, argument, watch)
        seconds = time.perf_counter() - start
        progress[SLOWEST] = max(progress[SLOWEST], seconds)
        if kind in GOOD:
            progress[COUNTS + GOOD.index(kind)] += 1
        else:
            pipe.send((number, kind, said, seconds))
        if kind == "memory":
            return
    pipe.send((last, "end", "", 0.0))


def run(name, first, last, until, report):
    """The cases of a target that begin before `until`: `report(number, kind, words, seconds)` of
    each that is not good. Returns how many were, by kind, and the slowest one's seconds. A hang or
    want of memory counts if it is so again as the first case of a process: address space adds
    up."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    good = collections.Counter()
    while first < last and time.monotonic() < until:
        here, there = context.Pipe(duplex=False)
        place, progress = context.Array("c", 200), context.RawArray("d", COUNTS + len(GOOD))
        progress[AT] = first - 1
        arguments = (name, first, last, until, there, place, progress)
        process = context.Process(target=work, args=arguments, daemon=True)
        process.start()
        there.close()
        number, since, used = first - 1, time.monotonic(), 0.0
        while True:
            try:
                if here.poll(1.0):
                    number, kind, said, seconds = here.recv()
                    if (kind == "memory" and number > first) or kind == "end":
                        break
                    report(number, kind, said, seconds)
                    if kind == "memory":
                        break
                    continue
            except EOFError:
                process.join(10)
                number, kind = max(int(progress[AT]), first), "died"
                report(number, kind, f"exit code {process.exitcode}", 0.0)
                break
            now = time.monotonic()
            if progress[AT] != number:
                number, since, used = int(progress[AT]), now, computed(process.pid)
            patience = START if number < first else WARM_UP if number < first + 20 else SECONDS
            if computed(process.pid) - used < patience and now - since < BLOCKED * patience:
                continue
            number, kind = max(number, first), "hang"
            if number == first:
                report(number, kind, "", now - since)
            break
        if kind != "end":
            process.kill()
        process.join(10)
        shutil.rmtree(place.value.decode() or "/nowhere", ignore_errors=True)
        good.update({k: int(progress[COUNTS + i]) for i, k in enumerate(GOOD)})
        good["slowest"] = max(good["slowest"], progress[SLOWEST])
        again = kind in ("hang", "memory") and number > first
        first = last if kind == "end" else number + (not again)
    return good


def computed(pid):
    """Processor time of a process so far [s]; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def missing(name):
    """Packages that a loader needs and that are not installed."""
    return [p for p in targets.NEEDS.get(name, ()) if importlib.util.find_spec(p) is None]


def one(name, number):
    """Run a case in this process and print all it says."""
    folder = Path(tempfile.mkdtemp(prefix="phalanx_fuzz_ok"))
    target = targets.TARGETS[name](folder)
    argument = target.case(mutate.seeded(name, number))
    print(f"in {folder}:", str(argument)[:3000])
    target(argument)
    print("accepted")


def main(arguments):
    options = dict(a.split("=") for a in arguments if "=" in a)
    names = [a for a in arguments if "=" not in a] or list(targets.TARGETS)
    lacking = {name: lacks for name in names if (lacks := missing(name))}
    for name, packages in lacking.items():
        print(f"{name} is left out: it needs {', '.join(packages)}")
    names = [name for name in names if name not in lacking]
    if "case" in options:
        return one(names[0], int(options["case"]))
    if "sum" in options:
        table = Table([])
        for file in options["sum"].split(","):
            for name, row in Table([], Path(file)).rows.items():
                table.add(name, row)
        return table.show()
    table = Table(names, Path(options["out"]) if "out" in options else None)
    first, cases = int(options.get("first", 0)), int(options.get("cases", 1000))
    jobs = int(options.get("jobs", 1))
    end = time.monotonic() + 60 * float(options.get("minutes", 1e6))
    shown, lock = collections.Counter(), threading.Lock()

    def part(name, at, last):
        """Run these cases, while there is time, and put what they did into the table."""
        row = collections.Counter()

        def report(number, kind, said, seconds):
            row[kind] += 1
            row["slowest"] = max(row["slowest"], seconds)
            words = said.strip().rpartition("\n")[2][:60]
            with lock:
                shown[name, kind, words] += 1
                if shown[name, kind, words] <= int(options.get("show", 2)):
                    print(f"--- {name} case={number}: {kind}\n{said[:1500]}", flush=True)

        if time.monotonic() < end:
            good = run(name, at, last, end, report)
            slowest = max(row["slowest"], good.pop("slowest"))
            with lock:
                table.add(name, row + good | {"slowest": slowest, "next": last})

    parts = []
    for order, name in enumerate(names):
        step, start = AT_ONCE[name], max(first, table.rows[name]["next"])
        for turn, at in enumerate(range(start, start + cases, step)):
            parts.append((turn, order, name, at, min(at + step, start + cases)))
    if jobs == 1 and not table.file:
        parts.sort(key=lambda p: p[1])  # one loader after the other
    else:
        parts.sort()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(part, *p[2:]) for p in parts]:
            done.result()
    return table.show()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(sys.argv[1:]))
