"""Compares our files of robots with the makers' or with other published models of them.

    uv run python benchmarks/robot_figures.py go2=/path/to/go2_description.urdf g1=/path/to/g1.xml \
        out=figures.json

Both files are loaded as `phalanx.sim` loads robots, a URDF without its shapes, which do not matter
here; joints are matched by name. Prints one line of JSON for each, and writes all to `out`: the
other file's name and the first digits of its SHA-256, the masses, whether the joints
come in the same order, the largest difference of a limit [rad], and the largest difference of the
mass matrix without rotor inertias at 20 random poses, |M - M'| / sqrt(M_ii M_jj).
"""

import datetime
import hashlib
import json
import platform
import re
import sys
import tempfile
from pathlib import Path

import mujoco
import numpy as np

from phalanx.cli.result import versions
from phalanx.sim.assets import load_robot

ASSETS = Path(__file__).parents[1] / "src" / "phalanx" / "tasks" / "assets"
SHAPES = re.compile(r"<(visual|collision)\b(?:[^>]*/>|.*?</\1>)", re.DOTALL)


def model(path: Path) -> mujoco.MjModel:
    """The robot of a file, with a free base."""
    if path.suffix == ".urdf":
        with tempfile.NamedTemporaryFile("w", suffix=".urdf") as file:
            file.write(SHAPES.sub("", path.read_text()))
            file.flush()
            robot = load_robot(file.name, fixed_base=False, collapse_fixed_joints=True)
            return robot.spec.compile()
    return load_robot(path, fixed_base=False).spec.compile()


def joints(m: mujoco.MjModel) -> list[str]:
    """Names of the hinges, in order."""
    return [m.jnt(i).name for i in range(m.njnt) if m.jnt_type[i] == mujoco.mjtJoint.mjJNT_HINGE]


def mass_matrix(m: mujoco.MjModel, names: list[str], angles: np.ndarray) -> np.ndarray:
    """Of the free base and the hinges in the order of `names` at `angles` [rad]."""
    data = mujoco.MjData(m)
    data.qpos[: m.nq] = m.qpos0
    for name, angle in zip(names, angles, strict=True):
        data.joint(name).qpos[:] = angle
    mujoco.mj_forward(m, data)
    full = np.zeros((m.nv, m.nv))
    mujoco.mj_fullM(m, data, full)
    full -= np.diag(m.dof_armature)
    order = [*range(6), *(int(m.joint(n).dofadr[0]) for n in names)]
    return full[np.ix_(order, order)]


def compare(ours: mujoco.MjModel, theirs: mujoco.MjModel) -> dict[str, object]:
    """See the module's docstring."""
    names, random = joints(ours), np.random.default_rng(0)
    others = joints(theirs)
    low, high = np.array([ours.joint(n).range for n in names]).T
    apart = [np.abs(ours.joint(n).range - theirs.joint(n).range).max() for n in names]
    worst = 0.0
    for _ in range(20):
        angles = random.uniform(np.maximum(low, -np.pi), np.minimum(high, np.pi))
        a, b = (mass_matrix(m, names, angles) for m in (ours, theirs))
        scale = np.sqrt(np.outer(np.diag(b), np.diag(b)))
        worst = max(worst, float(np.abs((a - b) / scale).max()))
    return {
        "mass": round(float(ours.body_mass.sum()), 4),
        "their_mass": round(float(theirs.body_mass.sum()), 4),
        "same_order": names == others,
        "limits_apart": round(float(max(apart)), 6),
        "mass_matrix_apart": round(worst, 6),
    }


def main() -> None:
    given = [argument.partition("=")[::2] for argument in sys.argv[1:]]
    rows = []
    for name, path in given:
        if name == "out":
            continue
        figures = compare(model(ASSETS / f"{name}.xml"), model(Path(path)))
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
        rows.append({"robot": name, "against": Path(path).name, "sha256": digest, **figures})
        print(json.dumps(rows[-1]), flush=True)
    if "out" in dict(given):
        call = ["benchmarks/robot_figures.py", *(f"{n}={Path(p).name}" for n, p in given)]
        result = {"command": " ".join(call), "date": f"{datetime.date.today()}"}
        result |= {"hardware": platform.platform(), "versions": versions(), "rows": rows}
        Path(dict(given)["out"]).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
