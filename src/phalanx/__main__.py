"""The `phalanx` command, also as `python -m phalanx`."""

import sys


def main() -> None:
    """Run the command of the process's arguments. Ctrl-C ends it quietly from here on, also while
    the command's own modules are imported."""
    try:
        from phalanx.cli.main import main as run
    except KeyboardInterrupt:
        print("phalanx: interrupted", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
