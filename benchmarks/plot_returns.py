"""Plots return over time for every seed, with one panel per file of `time_to_solve.py`.

    uv run --with matplotlib python benchmarks/plot_returns.py ant.json humanoid.json out=a.png

`seconds=12` ends the time axis there. A file of `amp.py` gives the discriminator's reward and the
length of an episode.
"""

import json
import sys

from matplotlib import pyplot


def main() -> None:
    files = [a for a in sys.argv[1:] if "=" not in a]
    options = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
    end = float(options.get("seconds", "inf"))
    figure, axes = pyplot.subplots(
        1, len(files), figsize=(4.5 * len(files), 3.4), squeeze=False, layout="constrained"
    )
    for axis, file in zip(axes[0], files, strict=True):
        with open(file) as text:
            result = json.load(text)
        if "runs" not in result:
            imitation(axis, result)
            continue
        for run in result["runs"]:
            curve = [(s, r) for s, _, r in run["curve_s_frames_return"] if s <= end]
            axis.plot(*zip(*curve, strict=True), label=f"seed {run['seed']}", linewidth=1.3)
        task = next(a for a in result["command"].split() if a.startswith("task=")).split("=")[1]
        axis.set(
            title=f"{task}, {result['num_envs']} environments\n{result['device']}",
            xlabel="seconds since the first iteration",
            ylabel="mean return",
            xlim=(0, None),
            ylim=(0, None),
        )
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.savefig(options["out"], dpi=110)


def imitation(axis, result: dict) -> None:
    """Both curves of a file of `amp.py`, the length as a part of the longest."""
    seconds, _, reward, length = zip(*result["curve_s_frames_discreward_length"], strict=True)
    axis.plot(seconds, reward, label="discriminator's reward", linewidth=1.3)
    longest = [x / max(length) for x in length]
    axis.plot(seconds, longest, label=f"length of an episode / {max(length):.0f}", linewidth=1.3)
    axis.set(xlabel="seconds since the first iteration", xlim=(0, None), ylim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)


if __name__ == "__main__":
    main()
