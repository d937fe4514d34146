"""The `phalanx` command.

Exit codes: 0 success, 1 a fault of ours, 2 bad input (one sentence on stderr), 130 interrupted.
"""

import sys

USAGE = """\
phalanx train task=Cartpole                      learn a task
phalanx train checkpoint=runs/Cartpole           continue a run where it stopped
phalanx play task=Cartpole checkpoint=<file>     measure a policy; video=true writes an mp4
phalanx list                                     the tasks

Options are key=value, anywhere:
  num_envs=  seed=  max_iterations=  sim_device=auto|cpu|cuda:0  checkpoint=  experiment=
  train=<config>  task.env.<field>=  train.params.config.<key>=  games=  video=true
"""


def main(arguments: list[str] | None = None) -> None:
    """Run one command; `arguments` default to the process's own."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or {"-h", "--help", "help"} & set(arguments):
        print(USAGE, end="")
        return
    # Imported here, so that the usage above appears at once.
    from phalanx.errors import PhalanxError

    try:
        _run(arguments[0], arguments[1:])
    except PhalanxError as error:
        print(f"phalanx: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("phalanx: interrupted", file=sys.stderr)
        sys.exit(130)


def _run(command: str, arguments: list[str]) -> None:
    from phalanx.errors import PhalanxError, did_you_mean

    commands = ("train", "play", "list")
    if command not in commands:
        raise PhalanxError(
            f"unknown command {command!r}{did_you_mean(command, commands)};"
            f" commands: {', '.join(commands)}"
        )
    if command == "list":
        from phalanx.cli.list import list_tasks

        list_tasks()
        return
    from phalanx.cli.config import compose_config

    config = compose_config(arguments)
    if command == "train":
        from phalanx.cli.train import train

        train(config)
    else:
        from phalanx.cli.play import play

        play(config)
