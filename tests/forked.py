"""Real `phalanx` processes without the seconds of imports: a server that has everything imported
forks one a run. It uses no threads itself, so a fork of it starts as clean as a new process."""

import atexit
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

SERVER = """
import json, os, resource, signal, sys, time
import torch._dynamo, torch.utils.tensorboard  # the first seeding imports the former
import mujoco.batch, rich.live
import phalanx.cli.list, phalanx.cli.main, phalanx.cli.play, phalanx.tasks.cartpole
print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    if "wait" in job:
        pid, end, status = 0, time.monotonic() + job["seconds"], None
        while not pid and time.monotonic() < end:
            pid, status = os.waitpid(job["wait"], os.WNOHANG)
            time.sleep(0.005)
        print(json.dumps(os.waitstatus_to_exitcode(status) if pid else "running"), flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        break
    print(pid, flush=True)
else:
    sys.exit()
os.setsid()
os.chdir(job["cwd"])
null = os.open("/dev/null", os.O_RDONLY)
out = os.open(job["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
err = os.open(job["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
for k, fd in enumerate((null, out, err)):
    os.dup2(fd, k)
sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)
os.environ.update(job["env"])
if job["file_size"]:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_size"],) * 2)
for name, value in job["agent"].items():
    setattr(phalanx.rl.ranks if hasattr(phalanx.rl.ranks, name) else phalanx.rl.saving, name, value)
if job["program"]:
    sys.argv = job["arguments"]
    exec(compile(job["program"], "program", "exec"), {"__name__": "__main__"})
else:
    phalanx.cli.main.main(job["arguments"])
"""


class Process:
    """A running `phalanx` process; `out` and `err` are the files of its output."""

    def __init__(self, server: "Server", pid: int, out: Path, err: Path) -> None:
        self.server, self.pid, self._out, self._err = server, pid, out, err

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def says(self, words: str) -> Callable[[], bool]:
        """A function that returns whether `words` have been printed by now."""
        return lambda: words in self.out

    def wait(self, seconds: float = 60.0) -> int:
        """Its exit code, negative for a signal."""
        code = self.server.ask({"wait": self.pid, "seconds": seconds})
        if code == "running":
            os.kill(self.pid, 9)
            self.server.ask({"wait": self.pid, "seconds": 10})
            raise TimeoutError(f"still running after {seconds} s: {self.out[-500:]} {self.err}")
        return code


class Server:
    def __init__(self) -> None:
        command = [sys.executable, "-c", SERVER]
        # One thread for small networks: on busy cores, more threads wait for each other.
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env)
        assert self._process.stdout.readline() == "ready\n"
        atexit.register(self._process.kill)

    def ask(self, job: dict):
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, arguments: list[str], cwd: Path, **options) -> Process:
        """Run `phalanx *arguments` in `cwd`. options: logs (folder for its output, next to `cwd`),
        terminal (path of one to write to instead), file_size (largest file it may write
        [bytes]), agent (attributes of phalanx.rl.saving or .ranks to set), env, program (Python
        to run instead, with `arguments`)."""
        logs = options.get("logs", cwd.with_name(f"{cwd.name}-logs"))
        logs.mkdir(exist_ok=True)
        out, err = (Path(options.get("terminal", logs / name)) for name in ("out", "err"))
        for file in (out, err):
            if not file.exists():
                file.touch()
        job = {"arguments": arguments, "cwd": str(cwd), "out": str(out), "err": str(err)}
        job |= {"file_size": options.get("file_size", 0), "agent": options.get("agent", {})}
        job["program"] = options.get("program", "")
        return Process(self, self.ask({**job, "env": options.get("env", {})}), out, err)


@functools.cache
def server() -> Server:
    """The one server of the test session."""
    return Server()
