"""`report.html` of a sim2sim run: one self-contained page with SVG plots."""

import html
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phalanx.deploy.metadata import Metadata

Array = NDArray[Any]
SECONDS = 5.0
"""Time of robot 0's first episode that plots show [s]."""
WIDTH, HEIGHT, LEFT, BOTTOM = 420, 130, 52, 20
STYLE = """body{font:15px system-ui;max-width:920px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse}td,th{padding:2px 14px 2px 0;text-align:left}
svg{background:#fafafa;margin:4px}text{font:11px system-ui;fill:#444}
.plots{display:flex;flex-wrap:wrap}.bad{color:#b03020}"""


def report(figures: dict[str, Any], about: Metadata, trace: Any, video: Path | None) -> str:
    """The page, from `Trial.figures()` with `policy` and `training`, and robot 0's trace."""
    title = f"{about.task}: {Path(figures['policy']).name} in plain MuJoCo"
    kind = about.action.kind
    shown = slice(0, max(2, round(SECONDS / about.control_dt)))
    time = np.array(trace.time[shown])
    targets, measured = np.array(trace.targets[shown]), np.array(trace.measured[shown])
    positions = np.array(trace.joint_pos[shown])
    tracking = [
        plot(
            f"{name} [{_unit(about, name)}]", time, {"target": targets[:, k], kind: measured[:, k]}
        )
        for k, name in enumerate(about.action.joints)
    ]
    joints = []
    if kind != "position":
        joints = [
            plot(f"{j.name} [{j.unit}]", time, {"position": positions[:, k]}, (j.lower, j.upper))
            for k, j in enumerate(about.joints)
        ]
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        table(_summary(figures, about)),
        f'<p><video src="{video.name}" controls width="640"></video></p>' if video else "",
        "<h2>Episodes</h2>",
        '<div class="plots">',
        bars("return", np.array(figures["returns"])),
        bars("length [steps]", np.array(figures["lengths"])),
        "</div>",
        "<h2>Saturation</h2><p>Fraction of control steps in which the target is at its limit or the"
        " motor at full effort.</p>",
        table([(name, f"{100 * share:.1f} %") for name, share in figures["saturation"].items()]),
        f"<h2>Targets and measured response</h2><p>First {SECONDS:g} s of the first episode.</p>",
        '<div class="plots">',
        *tracking,
        "</div>",
        "<h2>Joint positions</h2>" if joints else "",
        '<div class="plots">',
        *joints,
        "</div>",
        *_randomised(figures["randomised"]),
        "<h2>Observations</h2><p>Largest difference between the observation that the policy's"
        " runtime builds from the robot's state and the task's, in the observation's units.</p>",
        table([(name, f"{gap:.1e}") for name, gap in figures["observation_gap"].items()]),
    ]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f"<!doctype html><html><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _summary(figures: dict[str, Any], about: Metadata) -> list[tuple[str, str]]:
    training, latency = figures["training"], figures["latency_ms"]
    rows = [("return", f"{figures['mean_return']:.2f} &plusmn; {figures['std_return']:.2f}")]
    if training["player_return"] is not None:
        player = f"{training['player_return']:.2f} &plusmn; {training['player_std']:.2f}"
        if "share" in training:
            share = f"{100 * training['share']:.1f} &plusmn; {100 * training['share_error']:.1f} %"
            player += f"; sim2sim has {share} of it (standard error)"
        rows.append(("training player, the same number of episodes", player))
    if training["best_return"] is not None:
        rows.append(("best return in training, sampled actions", f"{training['best_return']:.2f}"))
    lengths = figures["lengths"]
    controls = "named state to observations and named targets to joints, by phalanx.deploy"
    if figures["drive"] == "task":
        controls = "the task's own observations and controls"
    if figures["randomised"]:
        controls += "; noise and latency as in training"
    return [
        *rows,
        ("episodes", f"{figures['episodes']}, {figures['falls']} ended by a fall"),
        ("episode length", f"{min(lengths)} to {max(lengths)}, mean {figures['mean_length']:.1f}"),
        (
            "latency of a policy step on one core",
            f"median {latency['median']:.3f} ms, p99 {latency['p99']:.3f} ms; network alone"
            f" {latency['network_median']:.3f} and {latency['network_p99']:.3f} ms",
        ),
        ("control", f"{about.control_hz:.4g} Hz, {controls}"),
        ("largest difference from the task's controls", f"{figures['control_gap']:.1e}"),
        (
            "physics",
            f"MuJoCo {figures['mujoco']}, mj_step of {1000 * figures['timestep']:.3g} ms, one model"
            " per robot",
        ),
        (
            "model and reward",
            f"from the task {about.task} with the settings in the policy's metadata",
        ),
        (
            "policy",
            f"{html.escape(figures['policy'])}, exported by Phalanx {about.phalanx} at epoch"
            f" {about.policy.epoch}, frame {about.policy.frame}",
        ),
    ]


def _randomised(rows: list[list[str]]) -> list[str]:
    if not rows:
        return []
    lines = [(r[0], html.escape(f"{r[1]}, {r[4]}" + f": {r[2]} {r[3]}" * bool(r[2]))) for r in rows]
    return [
        "<h2>Randomised</h2><p>The task's full randomisation, for each robot, as in training.</p>",
        table(lines),
    ]


def table(rows: list[tuple[str, str]]) -> str:
    """Two columns; the second is HTML."""
    cells = "".join(f"<tr><td>{html.escape(a)}</td><td>{b}</td></tr>" for a, b in rows)
    return f"<table>{cells}</table>"


def plot(
    title: str,
    x: Array,
    lines: dict[str, Array],
    limits: tuple[float | None, float | None] = (None, None),
) -> str:
    """Lines (T,) over time (T,) as SVG, with dashed limits where they are in range."""
    values = np.concatenate(list(lines.values()))
    low, high = float(values.min()), float(values.max())
    margin = 0.08 * (high - low) or 0.5 * abs(high) or 1.0
    low, high = low - margin, high + margin
    px = LEFT + (x - x[0]) / max(float(x[-1] - x[0]), 1e-9) * (WIDTH - LEFT - 8)
    to_y = lambda v: 18 + (high - v) / (high - low) * (HEIGHT - BOTTOM - 18)  # noqa: E731
    parts = [_frame(title, f"{low:.3g}", f"{high:.3g}", f"{x[-1]:.3g} s")]
    for (name, line), colour, k in zip(lines.items(), ("#d07a1e", "#29669f"), (0, 1), strict=False):
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(px, to_y(line), strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
        where = WIDTH - 110 + 55 * k
        parts.append(f'<text x="{where}" y="13" style="fill:{colour}">{html.escape(name)}</text>')
    for limit in limits:
        if limit is not None and low < limit < high:
            y = to_y(limit)
            parts.append(
                f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#999"'
                ' stroke-dasharray="4"/>'
            )
    return _svg(parts)


def bars(title: str, values: Array) -> str:
    """Histogram of one value per episode, (E,), as SVG."""
    counts, edges = np.histogram(values, bins=20)
    width, most = (WIDTH - LEFT - 8) / len(counts), int(counts.max())
    parts = [_frame(title, "0", str(most), f"{edges[-1]:.4g}", f"{edges[0]:.4g}")]
    for k, n in enumerate(counts):
        tall = (HEIGHT - BOTTOM - 18) * n / max(most, 1)
        parts.append(
            f'<rect x="{LEFT + k * width:.1f}" y="{HEIGHT - BOTTOM - tall:.1f}"'
            f' width="{width - 1:.1f}" height="{tall:.1f}" fill="#29669f"/>'
        )
    return _svg(parts)


def _frame(title: str, low: str, high: str, right: str, left: str = "0") -> str:
    floor = HEIGHT - BOTTOM
    return (
        f'<text x="{LEFT}" y="13">{html.escape(title)}</text>'
        f'<text x="2" y="26">{high}</text><text x="2" y="{floor}">{low}</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 5}">{left}</text>'
        f'<text x="{WIDTH - 48}" y="{HEIGHT - 5}">{right}</text>'
        f'<line x1="{LEFT}" x2="{WIDTH - 8}" y1="{floor}" y2="{floor}" stroke="#999"/>'
    )


def _svg(parts: list[str]) -> str:
    return f'<svg width="{WIDTH}" height="{HEIGHT}">{"".join(parts)}</svg>'


def _unit(about: Metadata, joint: str) -> str:
    unit = next((j.unit for j in about.joints if j.name == joint), "rad")
    rate = {"position": unit, "velocity": f"{unit}/s"}
    return rate.get(about.action.kind, "N" if unit == "m" else "N m")
