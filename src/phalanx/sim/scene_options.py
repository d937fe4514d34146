"""Physics options of robots' files in a scene.

A scene decides SCENE_OPTIONS for all of its actors. Every other option that a file gives (cone,
impratio, the density of the air, ...) holds in the scene; the first actor that gives it decides.
"""

from typing import Any

import mujoco
import numpy as np

from phalanx.sim.robot import Note, Robot

SCENE_OPTIONS = frozenset({
    "timestep", "gravity", "integrator", "solver", "iterations", "ls_iterations", "tolerance",
    "ls_tolerance", "sleep_tolerance", "jacobian", "flag gravity", "flag energy", "flag fwdinv",
    "flag autoreset", "flag warmstart", "flag island", "flag sleep",
})  # fmt: skip


def take_options(
    scene: mujoco.MjSpec, held: dict[str, tuple[str, Any]], name: str, robot: Robot
) -> list[Note]:
    """Use the options of a robot's file in the scene; notes on those that do not count.
    held: who has given an option, and its value; it is updated."""
    notes = []
    for option, value in robot.options.items():
        owner = held.get(option)
        if option in SCENE_OPTIONS:
            owner = ("the scene", _option(scene, option))
        elif owner is None:
            set_option(scene, option, value)
            held[option] = (f"actor {name!r}", value)
        if owner and not np.allclose(owner[1], value):
            ours = f"{owner[0]} has {shown(option, owner[1])}"
            text = "options of the file that do not count"
            notes.append(Note("dropped", text, f"{option} {shown(option, value)}, {ours}"))
    return notes


def _option(spec: mujoco.MjSpec, name: str) -> Any:
    if name.startswith("flag "):
        field, bit, off = _flag(name)
        return bool(getattr(spec.option, field) & bit) != off
    return getattr(spec.option, name)


def set_option(spec: mujoco.MjSpec, name: str, value: Any) -> None:
    """Give a spec an option of `Robot.options`."""
    if name.startswith("flag "):
        field, bit, off = _flag(name)
        flags = getattr(spec.option, field)
        setattr(spec.option, field, flags | bit if value != off else flags & ~bit)
    else:
        setattr(spec.option, name, value)


def _flag(name: str) -> tuple[str, int, bool]:
    """The field of mjOption, the bit in it, and whether the bit turns the flag off."""
    flag = name.removeprefix("flag ").upper()
    if hasattr(mujoco.mjtDisableBit, f"mjDSBL_{flag}"):
        return "disableflags", int(getattr(mujoco.mjtDisableBit, f"mjDSBL_{flag}")), True
    return "enableflags", int(getattr(mujoco.mjtEnableBit, f"mjENBL_{flag}")), False


def shown(option: str, value: Any) -> str:
    """An option's value in the words of the file."""
    if option.startswith("flag "):
        return "on" if value else "off"
    if option in _KEYWORDS:
        return _KEYWORDS[option](int(value)).name.split("_", 1)[1].lower()
    return " ".join(f"{v:g}" for v in np.atleast_1d(value))


_KEYWORDS = {
    "integrator": mujoco.mjtIntegrator,
    "solver": mujoco.mjtSolver,
    "cone": mujoco.mjtCone,
    "jacobian": mujoco.mjtJacobian,
}
