"""The `phalanx` command.

Exit codes: 0 success, 1 a fault of ours or something that the doctor found, 2 bad input (one
sentence on stderr), 130 interrupted.
"""

import errno
import os
import sys
import threading

USAGE = """\
phalanx new my_robots                            a folder for robots of your own, with one in it
phalanx train task=Cartpole                      learn a task
phalanx train checkpoint=runs/Cartpole           continue a run where it stopped
phalanx play task=Cartpole checkpoint=<file>     measure a policy; video=true writes an mp4
phalanx export task=Cartpole checkpoint=<file>   <file>.onnx, which runs without Phalanx
phalanx sim2sim <file>.onnx                      play that in plain MuJoCo; writes a report
phalanx bench task=Ant num_envs=256,1024         measure speed and memory here
phalanx warmup task=all                          compile GPU kernels ahead of the first run
phalanx list                                     the tasks
phalanx motion show walk                         what a motion clip holds; out= writes an mp4
phalanx doctor <folder>                          what a repository for Isaac Gym needs to run

Options are key=value, anywhere:
  num_envs=  seed=  max_iterations=  sim_device=auto|cpu|cuda:0  checkpoint=  experiment=
  train=<config>  task.env.<field>=  train.params.config.<key>=  games=  video=true
  task.randomize=true  task.randomization_params.<...>=  task.actuators.<...>=
export takes format=onnx|torchscript|pt2; sim2sim episodes=64  timestep=<s>  window=true
  browser=true  video=false  drive=robot|task  out=<folder>
bench also takes lists, task=Ant,Humanoid num_envs=256,4096, and
  seconds=5  out=<file>.json  returns=3000,7000 seeds=0,1,2 (time to a mean return)  eager=true
  against=rl_games,rsl_rl,mjlab  results=<file>.json  plot=<file>.png
"""


def main(arguments: list[str] | None = None) -> None:
    """Run one command; `arguments` default to the process's own."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or {"-h", "--help", "help"} & set(arguments):
        print(USAGE, end="")
        return
    # Imported here, so that the usage above appears at once.
    from phalanx.errors import PhalanxError

    threading.excepthook = _on_thread_error
    try:
        try:
            _run(arguments[0], arguments[1:])
        except OSError as error:
            raise PhalanxError(_disk_full(error)) from error
        except (MemoryError, RuntimeError) as error:
            raise PhalanxError(_out_of_memory(error)) from error
    except PhalanxError as error:
        print(f"phalanx: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        words = ["phalanx: interrupted", *map(str, interrupt.args)]
        print("; ".join(words), file=sys.stderr)
        sys.exit(130)


def _disk_full(error: OSError) -> str:
    """What to say of an error in writing that nobody nearer could put into words, such as
    TensorBoard's. Raises `error` itself if it is another."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO):
        raise error
    place = f" {error.filename}" if error.filename else " to the run folder"
    return (
        f"cannot write{place}: {os.strerror(error.errno).lower()}; free some space or choose"
        " another folder (train_dir=), the last checkpoint is intact"
    )


def _out_of_memory(error: Exception) -> str:
    """What to say where memory ran out. Raises `error` itself if it is another."""
    text = str(error)
    if not isinstance(error, MemoryError) and not any(
        words in text for words in ("can't allocate memory", "out of memory")
    ):
        raise error
    return "not enough memory for so many environments; take fewer with num_envs="


def _on_thread_error(failed: threading.ExceptHookArgs) -> None:
    """TensorBoard's thread keeps an error in writing and raises it again at the next write."""
    if not isinstance(failed.exc_value, OSError):
        threading.__excepthook__(failed)


def _run(command: str, arguments: list[str]) -> None:
    from phalanx.errors import PhalanxError, did_you_mean

    commands = "new train play export sim2sim bench warmup list motion doctor".split()
    if command not in commands:
        raise PhalanxError(
            f"unknown command {command!r}{did_you_mean(command, commands)};"
            f" commands: {', '.join(commands)}"
        )
    if command == "list":
        if arguments:
            raise PhalanxError(f"list takes no options, but {' '.join(arguments)!r} was given")
        from phalanx.cli.list import list_tasks

        list_tasks()
        return
    if command == "new":
        from phalanx.cli.new import new

        new(arguments)
        return
    if command == "doctor":
        from phalanx.cli.doctor import doctor

        sys.exit(doctor(arguments))
    if command == "motion":
        from phalanx.cli.motion import motion

        motion(arguments)
        return
    if command == "bench":
        from phalanx.cli.bench import bench

        bench(arguments)
        return
    if command == "sim2sim":
        from phalanx.cli.sim2sim import sim2sim

        sim2sim(arguments)
        return
    if command == "warmup":
        from phalanx.cli.warmup import warmup

        warmup(arguments)
        return
    from phalanx.cli.config import compose_config

    config = compose_config(arguments, command)
    if command == "train":
        from phalanx.cli.train import train

        train(config)
    elif command == "export":
        from phalanx.cli.export import export_checkpoint

        export_checkpoint(config)
    else:
        from phalanx.cli.play import play

        play(config)
