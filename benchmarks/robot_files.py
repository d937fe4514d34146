"""Loads every robot file of installed packages and compares it with independent readers.

    uv venv /tmp/robots && uv pip install --python /tmp/robots/bin/python --no-deps \\
        robosuite robosuite-models mjlab example-robot-data gymnasium-robotics dm_control pybullet
    uv pip install --python /tmp/robots/bin/python pin
    python benchmarks/robot_files.py packages=/tmp/robots out=robots.json
    ... also=mujoco_menagerie,legged_gym      # folders with further robot files

MJCF files are compared with plain MuJoCo: every body, joint, geom, actuator, equality, tendon and
sensor of a scene that holds only the robot, against the file's own model. URDF files are compared
with Pinocchio: names and order of joints, limits, effort, velocity, placement, mass, centre of mass
and inertia of all that moves with a joint; where Pinocchio cannot read a file, with PyBullet.

A file counts if plain MuJoCo (MJCF), PyBullet or MuJoCo (URDF) loads it and it has a body. It is
    equal
    impossible, said    equal but for links that ask for a mass or an inertia that no moving body
                        can have (none at all, or A + B < C), by their own numbers; a note names
                        each of them
    differs, said       a note says what was changed
    refused             with a sentence
    differs, unsaid     or without a note that explains it, which must not happen
Objects of one body are counted apart from robots.
"""

import collections
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from phalanx.cli.result import git_commit, versions
from phalanx.errors import PhalanxError
from phalanx.sim import Scene
from phalanx.sim.assets import load_robot
from phalanx.sim.xml_file import read_xml

# Fields of MjModel that must be equal, by the kind of element that they belong to.
FIELDS = {
    "body": "parentid mass ipos iquat inertia pos quat gravcomp mocapid",
    "jnt": "type bodyid pos axis stiffness range limited actfrcrange actfrclimited margin group",
    "dof": "armature damping frictionloss",
    "actuator": "trntype gainprm biasprm dynprm gear ctrlrange ctrllimited forcerange forcelimited"
    " actrange gaintype biastype dyntype",
    "eq": "type objtype data solref solimp active0",
    "tendon": "stiffness damping range limited frictionloss lengthspring num",
    "geom": "type bodyid size pos quat contype conaffinity condim friction margin solref solimp",
    "site": "type size pos quat",
}
SPHERICAL = 2  # PyBullet's JOINT_SPHERICAL
EFFORT = ("lower", "upper", "effort", "velocity")


def main() -> None:
    settings = dict(argument.split("=", 1) for argument in sys.argv[1:])
    packages = Path(settings["packages"])
    logging.disable(logging.CRITICAL)  # notes are in the robots
    warnings.simplefilter("ignore")
    also = [Path(folder).resolve() for folder in settings.get("also", "").split(",") if folder]
    files = [file for folder in (packages, *also) for file in find_files(folder)]
    print(f"{len(files)} files", flush=True)
    known = Path(settings.get("facts", "/nowhere"))  # of an earlier run of the readers
    if known.exists():
        readings = json.loads(known.read_text())
    else:
        readings = read_urdfs(packages, [f for f in files if f.suffix == ".urdf"])
        if "facts" in settings:
            known.write_text(json.dumps(readings))
    rows = []
    for number, file in enumerate(files):
        row = compare(file, readings.get(str(file)))
        if row is not None:
            name = short(file, packages, also)
            rows.append({"file": name, "package": package(name)} | row)
        if (row and row["result"] not in ("equal", "no robot")) or number % 200 == 0:
            print(number, short(file, packages, also), row, flush=True)
    summary = summarise(rows)
    print(json.dumps(summary, indent=1))
    if "out" in settings:
        report = {
            "date": time.strftime("%Y-%m-%d"),
            "command": f"benchmarks/robot_files.py {' '.join(sys.argv[1:])}",
            "versions": versions() | {"commit": git_commit(), **installed(packages)},
            "summary": summary,
            "not_equal": [short_row(r) for r in rows if r["result"] not in ("equal", "no robot")],
        }
        Path(settings["out"]).write_text(json.dumps(report, indent=1))


def find_files(packages: Path) -> list[Path]:
    """MJCF and URDF files below a folder, each once."""
    found = set()
    for folder, _, names in os.walk(packages):
        for name in names:
            file = Path(folder, name)
            if file.suffix == ".urdf" or (file.suffix == ".xml" and is_mjcf(file)):
                found.add(file.resolve())
    return sorted(found)


def is_mjcf(file: Path) -> bool:
    text = file.read_text(errors="ignore")
    return "<mujoco" in text and "<worldbody" in text and "<mujocoinclude" not in text


def read_urdfs(packages: Path, files: list[Path]) -> dict[str, dict[str, Any]]:
    python = packages / "bin" / "python"
    script = Path(__file__).with_name("robot_readers.py")
    facts = []
    with tempfile.TemporaryFile("w+") as paths:
        paths.write("\n".join(map(str, files)))
        paths.seek(0)
        readers = subprocess.Popen(
            [python, script],
            stdin=paths,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for line in readers.stdout or []:
            if "FACTS " in line:  # PyBullet may have begun the line
                facts.append(json.loads(line.partition("FACTS ")[2]))
                if len(facts) % 100 == 0:
                    print(f"read {len(facts)} of {len(files)} URDF files", flush=True)
    return {fact["path"]: fact for fact in facts}


def compare(file: Path, reading: dict[str, Any] | None) -> dict[str, Any] | None:
    """Result and details for one file; None if no other reader loads it."""
    try:
        plain = mujoco.MjModel.from_xml_path(str(file))
    except ValueError:
        plain = None
    if reading is None:
        if plain is None:
            return None
        if plain.nbody < 2:
            return {"result": "no robot"}
    elif plain is None and "error" in reading["pybullet"]:
        return None
    if reading is None:
        moving = plain.nv > 6
    else:
        moving = any(reading[reader].get("joints") for reader in ("pinocchio", "pybullet"))
    try:
        differences, notes = (
            compare_mjcf(file, plain) if reading is None else compare_urdf(file, reading)
        )
    except PhalanxError as error:
        return {"result": "refused", "robot": moving, "sentence": str(error)}
    except Exception:
        return {"result": "crashed", "robot": moving, "trace": traceback.format_exc()[-600:]}
    if not differences:
        return {"result": "equal", "robot": moving}
    said = {"differences": differences, "notes": notes}
    if reading is not None and impossible_and_said(file, differences, notes):
        return {"result": "impossible, said", "robot": moving} | said
    return {"result": "differs, said" if notes else "differs, unsaid", "robot": moving} | said


def compare_mjcf(file: Path, plain: mujoco.MjModel) -> tuple[list[str], list[str]]:
    scene = Scene()
    robot = scene.add_actor("robot", file)
    ours = scene.compile()
    differences = []
    for kind, fields in FIELDS.items():
        mine, theirs = own(ours, kind), own(plain, kind)
        if len(mine) != len(theirs):
            differences.append(f"{len(mine)} instead of {len(theirs)} {kind}")
            continue
        for field in fields.split():
            a = getattr(ours, f"{kind}_{field}")[mine]
            b = getattr(plain, f"{kind}_{field}")[theirs]
            if "quat" in field:
                b = b * np.sign((a * b).sum(-1, keepdims=True))
            if not np.allclose(a, b, rtol=1e-5, atol=1e-7):
                differences.append(f"{kind}_{field}")
    for kind in ("body", "joint", "actuator", "sensor", "geom", "site"):
        for i in range(getattr(plain, COUNTS[kind])):
            name = getattr(plain, kind)(i).name
            of_world = i == 0 if kind == "body" else kind == "geom" and not plain.geom_bodyid[i]
            if name and not of_world and not has(ours, kind, f"robot/{name}"):
                differences.append(f"no {kind} {name!r}")
    if ours.nsensor != plain.nsensor:
        differences.append(f"{ours.nsensor} instead of {plain.nsensor} sensors")
    if len(robot.keyframes) != len(mujoco.MjSpec.from_file(str(file)).keys):
        differences.append("keyframes")
    notes = [str(n) for n in robot.notes if n.kind in ("dropped", "added", "mended")]
    notes = [note for note in notes if not note.startswith("options of the file")]
    return differences, notes


COUNTS = {
    "body": "nbody",
    "joint": "njnt",
    "actuator": "nu",
    "sensor": "nsensor",
    "geom": "ngeom",
    "site": "nsite",
}


def own(model: mujoco.MjModel, kind: str) -> np.ndarray:
    """Indices of a kind's elements that belong to the robot: not the world and its shapes."""
    sizes = {"jnt": "njnt", "dof": "nv", "actuator": "nu", "eq": "neq", "tendon": "ntendon"}
    every = np.arange(getattr(model, sizes.get(kind, f"n{kind}")))
    if kind == "body":
        return every[1:]
    return every[model.geom_bodyid > 0] if kind == "geom" else every


def has(model: mujoco.MjModel, kind: str, name: str) -> bool:
    objects = {"joint": mujoco.mjtObj.mjOBJ_JOINT, "actuator": mujoco.mjtObj.mjOBJ_ACTUATOR}
    kind_of = objects.get(kind) or getattr(mujoco.mjtObj, f"mjOBJ_{kind.upper()}")
    return mujoco.mj_name2id(model, kind_of, name) >= 0


def compare_urdf(file: Path, reading: dict[str, Any]) -> tuple[list[str], list[str]]:
    # Pinocchio gives links without <inertial> no mass.
    robot = load_robot(file, fixed_base=True, density=0.0)
    model = robot.compile()
    mine = joints_of(model)
    reference = reading["pinocchio"]
    kind = "pinocchio"
    if "error" in reference:
        reference, kind = reading["pybullet"], "pybullet"
    if "error" in reference:  # only MuJoCo loads it
        return [], []
    # Floating bases are fixed here.
    joints = [e.attrib for e in read_xml(file).iter() if e.tag == "joint"]
    floating = {joint.get("name") for joint in joints if joint.get("type") == "floating"}
    theirs = {name: j for name, j in reference["joints"].items() if name not in floating}
    differences = []
    if sorted(mine) != sorted(theirs):
        differences.append(f"joints {sorted(mine.keys() ^ theirs.keys())}")
    elif kind == "pinocchio" and list(mine) != list(theirs):
        differences.append("order of joints")
    for name in mine.keys() & theirs.keys():
        differences += [f"{name}: {d}" for d in joint_differences(mine[name], theirs[name])]
    notes = [str(n) for n in robot.notes if n.kind in ("dropped", "added", "mended")]
    return differences, notes


def impossible_and_said(file: Path, differences: list[str], notes: list[str]) -> bool:
    """Whether all differences of a URDF are masses and inertias of joints that carry a link with
    an impossible one, and a note names that link."""
    named = {link for note in notes for link in re.findall(r"'([^']*)'", note)}
    wrong = named & impossible_links(file)
    model = load_robot(file, fixed_base=True, density=0.0).compile()
    for difference in differences:
        joint, _, quantity = difference.rpartition(": ")
        if quantity not in ("mass", "com", "inertia"):
            return False
        body = int(model.joint(joint).bodyid[0])
        carried = {model.body(b).name for b in np.flatnonzero(model.body_weldid == body)}
        if not carried & wrong:
            return False
    return True


def impossible_links(file: Path) -> set[str]:
    """Links of a URDF without mass, or with moments of inertia that no rigid body has."""
    found = set()
    for link in (e for e in read_xml(file).iter() if e.tag == "link"):
        numbers: dict[str, str] = {}
        inertial = link.find("inertial")
        for tag in ("mass", "inertia"):
            element = None if inertial is None else inertial.find(tag)
            numbers |= {} if element is None else element.attrib
        off = [float(numbers.get(key, 0)) for key in ("ixy", "ixz", "iyz")]
        tensor = np.diag([float(numbers.get(key, 0)) for key in ("ixx", "iyy", "izz")])
        tensor[[0, 0, 1], [1, 2, 2]] = tensor[[1, 2, 2], [0, 0, 1]] = off
        a, b, c = np.linalg.eigvalsh(tensor)
        if float(numbers.get("value", 0)) <= 0 or a <= 0 or a + b < c * (1 - 1e-9):
            found.add(link.attrib.get("name", ""))
    return found


def joints_of(model: mujoco.MjModel) -> dict[str, dict[str, Any]]:
    """What `robot_readers.by_pinocchio` gives."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    joints = {}
    for j in range(model.njnt):
        b = int(model.jnt_bodyid[j])
        limited = model.jnt_limited[j]
        parent = int(model.body_weldid[model.body_parentid[b]])
        turn = data.xmat[parent].reshape(3, 3).T
        placement = np.c_[
            turn @ data.xmat[b].reshape(3, 3), turn @ (data.xpos[b] - data.xpos[parent])
        ]
        mass, com, inertia = composite(model, data, b)
        joints[model.joint(j).name] = {
            "lower": model.jnt_range[j, 0] if limited else -np.inf,
            "upper": model.jnt_range[j, 1] if limited else np.inf,
            "effort": model.jnt_actfrcrange[j, 1] if model.jnt_actfrclimited[j] else np.inf,
            "velocity": model.jnt_user[j, 0] if model.nuser_jnt else 0.0,
            "axis": model.jnt_axis[j],
            "placement": placement,
            "mass": mass,
            "com": com,
            "inertia": inertia,
        }
    return joints


def composite(
    model: mujoco.MjModel, data: mujoco.MjData, body: int
) -> tuple[float, np.ndarray, np.ndarray]:
    """Mass, centre of mass and inertia about it of all bodies welded to `body`, in its frame."""
    welded = np.flatnonzero(model.body_weldid == body)
    masses = model.body_mass[welded]
    mass = float(masses.sum())
    com = (masses[:, None] * data.xipos[welded]).sum(0) / mass if mass else data.xpos[body]
    total = np.zeros((3, 3))
    for b in welded:
        axes, arm = data.ximat[b].reshape(3, 3), data.xipos[b] - com
        total += axes @ np.diag(model.body_inertia[b]) @ axes.T
        total += model.body_mass[b] * (arm @ arm * np.eye(3) - np.outer(arm, arm))
    turn = data.xmat[body].reshape(3, 3)
    return mass, turn.T @ (com - data.xpos[body]), turn.T @ total @ turn


def joint_differences(mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Names of the quantities that differ. No limit and a limit beyond reach are equal."""
    found = []
    for key, value in theirs.items():
        if key == "type" or value is None:
            continue
        if theirs.get("type") == SPHERICAL and key in (*EFFORT, "axis"):
            continue
        a, b = np.array(mine[key], float), np.array(value, float)
        if key in EFFORT:
            unlimited = abs(b) > 1e10 or (key in ("effort", "velocity") and b <= 0)
            if key in EFFORT[:2] and theirs["lower"] >= theirs["upper"]:
                unlimited = True  # as in MuJoCo; the others say it so
            if unlimited and (not np.isfinite(a) or a <= 0 or abs(a) > 1e10):
                continue
        size = max(float(np.abs(b).max()), 1e-2 if key in ("com", "placement") else 1e-9)
        if np.abs(a - b).max() > 1e-5 * size:
            found.append(key)
    return found


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for row in rows:
        if row["result"] != "no robot":
            kind = "robots" if row["robot"] else "objects"
            for group in (f"{row['package']}, {kind}", f"all {kind}"):
                counts[group][row["result"]] += 1
    table = {}
    for group, results in sorted(counts.items()):
        total = sum(results.values())
        possible = total - results["impossible, said"]
        share = {
            "files": total,
            "equal_percent": round(100 * results["equal"] / total, 1),
            "equal_percent_of_possible": round(100 * results["equal"] / max(possible, 1), 1),
        }
        table[group] = share | dict(results)
    return table


def short_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row with the first six of its differences, and its notes without what they are about."""
    if "differences" not in row:
        return row
    names = sorted(row["differences"])
    more = [f"and {len(names) - 6} more"] if len(names) > 6 else []
    kinds = sorted({note.partition(":")[0] for note in row["notes"]})
    return row | {"differences": names[:6] + more, "notes": kinds}


def package(name: str) -> str:
    parts = name.split("/")
    return "example-robot-data" if "example-robot-data" in parts else parts[0]


def short(file: Path, packages: Path, also: list[Path]) -> str:
    """The path of a file that begins with the name of its package or folder."""
    for folder in also:
        if folder in file.parents:
            return str(file.relative_to(folder.parent))
    return str(file).split("site-packages/")[-1].replace(f"{packages.resolve()}/", "")


def installed(packages: Path) -> dict[str, str]:
    script = "from importlib.metadata import *; import json; print(json.dumps({d.name: d.version"
    script += " for d in distributions()}))"
    done = subprocess.run(
        [packages / "bin" / "python", "-c", script], capture_output=True, text=True
    )
    names = "robosuite robosuite-models mjlab example-robot-data gymnasium-robotics dm-control"
    names += " dm_control pybullet pin"
    return {k: v for k, v in json.loads(done.stdout).items() if k in names.split()}


if __name__ == "__main__":
    main()
