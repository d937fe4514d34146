"""Imports point one way, down the layers; only the engines import the libraries they wrap.

A name in a string, "phalanx.tasks:make_from_config", counts as an import of what it names.
"""

import ast
import re
import subprocess
import symtable
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"

# Modules below a path -> what they may not import, themselves or a part of it.
ABOVE_TASKS = ("phalanx.rl", "phalanx.adapters", "phalanx.deploy", "phalanx.cli")
FORBIDDEN = {
    "phalanx/rl": (
        *("mujoco", "mujoco_warp", "warp", "phalanx.sim", "phalanx.tasks"),
        *("phalanx.adapters", "phalanx.deploy", "phalanx.cli"),
    ),
    "phalanx/adapters": ("phalanx.rl", "phalanx.deploy", "phalanx.cli"),
    "phalanx/motion": ("phalanx.sim", "phalanx.tasks", *ABOVE_TASKS),
    "phalanx/sim": ("phalanx.motion", "phalanx.randomization", "phalanx.tasks", *ABOVE_TASKS),
    "phalanx/robot": ("phalanx.randomization", "phalanx.tasks", *ABOVE_TASKS),
    "phalanx/viewer": ("phalanx.randomization", "phalanx.tasks", *ABOVE_TASKS),
    "phalanx/randomization": ("phalanx.motion", "phalanx.tasks", *ABOVE_TASKS),
    "phalanx/tasks": ABOVE_TASKS,
    "phalanx/deploy": ("phalanx.cli",),
    "phalanx": ("isaacgym",),
}
NAME = re.compile(r"(phalanx|isaacgym)(\.\w+)+(:\w+)?")
ENGINE_LIBRARIES = ("mujoco.batch", "mujoco_warp", "warp")
COMPILERS = ("clang.py", "cache.py", "start_warp.py")  # in compute; they use Warp's clang


def imports(path, root=SOURCE):
    """Absolute names of everything a file imports, wherever in it: `from a import b` gives a.b, and
    so does the string "a:b"."""
    package = path.relative_to(root).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.Constant)
            and (name := NAME.fullmatch(str(node.value)))
            and (name[1] == "phalanx" or (root / name[1]).is_dir())  # the doctor looks for others
        ):
            yield node.value.replace(":", ".")


ISAACGYM = Path(__file__).parents[1] / "isaacgym" / "src"
# Its modules from the lowest on; each imports only those before it. First what programs hold
# values in, then what they describe, what that compiles to, what runs, and the calls on top.
ISAACGYM_ORDER = """
enums structs geometry values params property_structs descriptor support cuda_stand_ins
no_cuda scripts old_torch old_gym messages
mesh_stand_ins compat
rlgpu torch_utils terrain_utils gymtorch debug_lines randomization gymutil
properties tendons asset ground cameras world
contact_points layout start mesh_variants actor_properties implicit_pd collisions model_fields
rotations state attractors scene drives velocity_limits forces jacobians replays tensors setters
terrain physics contacts arguments structure grouped handles calls viewer optical_flow
camera_batch pictures gym_assets gym_actors gym_joints gym_tendons gym_states gym_bodies gym_sensors
gym_cameras gym_contacts gym_tensors gym_appearance gym_soft gym_viewer gym gymapi __init__
""".split()
ISAACGYM_MAY_IMPORT = ("phalanx", "phalanx.sim", "phalanx.compute", "phalanx.errors")


def violations(folder, names, root=SOURCE):
    return [
        f"{path.relative_to(root)} imports {name}"
        for path in sorted((root / folder).rglob("*.py"))
        for name in imports(path, root)
        for bad in names
        if name == bad or name.startswith(f"{bad}.")
    ]


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_no_layer_imports_one_above_it(folder):
    assert list((SOURCE / folder).rglob("*.py"))
    assert violations(folder, FORBIDDEN[folder]) == []


def test_only_the_engines_import_the_libraries_they_wrap():
    found = violations("phalanx", ENGINE_LIBRARIES)
    compilers = tuple(f"phalanx/compute/{name} imports warp" for name in COMPILERS)
    assert [v for v in found if not v.startswith(("phalanx/sim/engines/", *compilers))] == []
    assert found  # the engines themselves are seen


def test_every_way_to_write_an_import_is_seen(tmp_path):
    (tmp_path / "phalanx" / "rl").mkdir(parents=True)
    (tmp_path / "phalanx" / "rl" / "bad.py").write_text(
        "import phalanx.sim.scene\n"
        "from phalanx import sim\n"
        "def f():\n    from ..sim import Sim\n    from .. import sim as s\n"
        "from phalanx.simulated import x\n"
        "register('sim', 'phalanx.sim:Sim')\n"
        "importlib.import_module('phalanx.sim.engines')\n"
        "raise ValueError('phalanx.sim is a layer below')\n"
    )
    assert len(violations("phalanx/rl", ("phalanx.sim",), tmp_path)) == 6


def test_isaacgym_imports_of_phalanx_only_sim_compute_and_errors():
    found = [
        (path.name, name)
        for path in sorted(ISAACGYM.rglob("*.py"))
        for name in imports(path, ISAACGYM)
        if name.split(".")[0] in ("phalanx", *ENGINE_LIBRARIES)
    ]
    below = tuple(f"{name}." for name in ISAACGYM_MAY_IMPORT[1:])
    assert found
    assert [
        f for f in found if f[1] not in ISAACGYM_MAY_IMPORT and not f[1].startswith(below)
    ] == []


def test_isaacgym_goes_one_way():
    modules = {path.stem for path in ISAACGYM.rglob("*.py")}
    assert sorted(ISAACGYM_ORDER) == sorted(modules)
    backwards = [
        f"{module} imports {name}"
        for rank, module in enumerate(ISAACGYM_ORDER)
        for name in imports(ISAACGYM / "isaacgym" / f"{module}.py", ISAACGYM)
        if name.startswith("isaacgym.") and name.split(".")[1] not in ISAACGYM_ORDER[:rank]
    ]
    assert backwards == []


def test_no_duration_comes_from_a_clock_that_can_be_set():
    """`time.perf_counter` and `time.monotonic` never jump."""
    packages = (SOURCE, ISAACGYM)
    clock = re.compile(r"\btime\.time\(|\bfrom time import\b|datetime\.(now|utcnow|today)\(")
    users = {
        f"{file.parent.name}/{file.name}"
        for package in packages
        for file in package.rglob("*.py")
        if clock.search(file.read_text())
    }
    assert users == {
        "rl/runner.py",  # a seed
        "rl/run.py",  # a name
        "rl/tracking.py",  # when a number was logged
    }


def shadowed(table):
    """(function, name) where a comprehension's own variable has the name of one that its function
    takes from around it."""
    free = {s.get_name() for s in table.get_symbols() if s.is_free()}
    for child in table.get_children():
        if child.get_name() in ("listcomp", "setcomp", "dictcomp"):
            own = {s.get_name() for s in child.get_symbols() if s.is_assigned()}
            yield from ((table.get_name(), name) for name in own & free)
        yield from shadowed(child)


def test_comprehensions_have_names_of_their_own():
    """CPython 3.12 and 3.13 may take the one name for the other: NameError, where 3.11 has none."""
    text = """
def outer(end):
    def make(ends):
        return [end for end in ends], (f"{a}{end}" for a in ends)
"""
    assert list(shadowed(symtable.symtable(text, "", "exec"))) == [("make", "end")]
    for folder in (SOURCE, ISAACGYM):
        for path in folder.rglob("*.py"):
            found = list(shadowed(symtable.symtable(path.read_text(), str(path), "exec")))
            assert not found, path


def test_importing_phalanx_alone_is_light():
    heavy = ("torch", "mujoco", "warp", "numpy")
    code = f"import sys, phalanx; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
