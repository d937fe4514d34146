"""A robot as read from a file, and notes on how it differs from the file.

    robot = load_robot("go2.urdf")
    robot.notes        # [Note("dropped", "dropped textures", "wood.png", "line 9"), ...]
    robot.compile()    # the robot alone, as a mujoco.MjModel

Notes are plain data: `summary` makes the sentence that is logged when a file is loaded, and
`phalanx robot` lists them.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import mujoco
import numpy as np

from phalanx.sim.compiling import compile_spec

MOST = 8  # notes of one sort that are named in a sentence
Kind = Literal["dropped", "added", "mended", "unused", "overlap", "offer", "doubt"]


@dataclass(frozen=True)
class Note:
    """Something that the robot has other than its file, or that its user should know."""

    kind: Kind
    """"dropped", "added" or "mended": a difference from the file. "unused": what a scene has of its
    own, as a floor, or no simulation uses; only `phalanx robot` lists it. "overlap": shapes that
    overlap at the initial pose. "offer": something in the file that counts only if it is asked for.
    "doubt": what was taken as it is, but is probably not meant."""
    text: str
    """What happened, the same for all notes of its sort: "dropped textures without a file"."""
    item: str = ""
    """What it happened to: "'wood.png'"."""
    place: str = ""
    """Where that is: "line 12", or "legs.xml, line 3"; empty where it has no single line."""

    def __str__(self) -> str:
        return f"{self.text}: {self._shown}" if self._shown else self.text

    @property
    def _shown(self) -> str:
        return f"{self.item} ({self.place})".strip() if self.place else self.item


def place_of(element: Any) -> str:
    """MuJoCo's place of an element in the file; empty for included files, where it knows none."""
    return "" if element.info in ("", "line 0") else str(element.info)


def name_of(element: Any, kind: str = "") -> str:
    """The name of a spec's element after its kind, for a note."""
    return f"{kind} {element.name!r}".strip() if element.name else f"{kind or 'one'} without a name"


@dataclass
class Pose:
    """A keyframe by joint: qpos and qvel by the joint's name, mocap_pos and mocap_quat by the mocap
    body's; ctrl and act of all actuators, None if the file gives none; time [s], which a scene
    takes from the latest of its actors."""

    qpos: dict[str, list[float]] = field(default_factory=dict)
    qvel: dict[str, list[float]] = field(default_factory=dict)
    ctrl: list[float] | None = None
    act: list[float] | None = None
    mocap_pos: dict[str, list[float]] = field(default_factory=dict)
    mocap_quat: dict[str, list[float]] = field(default_factory=dict)
    time: float = 0.0

    def write(
        self, model: mujoco.MjModel, data: Any, prefix: str = "", first_actuator: int = 0
    ) -> None:
        """Write into `data`, whose qpos, qvel, ctrl, act and mocap poses are those of `model`.
        Joints and bodies have `prefix` before their names there, and the pose's actuators begin at
        `first_actuator`."""
        for values, address, target in (
            (self.qpos, model.jnt_qposadr, data.qpos),
            (self.qvel, model.jnt_dofadr, data.qvel),
        ):
            for name, numbers in values.items():
                joint = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, prefix + name)
                if joint >= 0:  # loading may have dropped it
                    target[address[joint] : address[joint] + len(numbers)] = numbers
        for values, target in (
            (self.mocap_pos, data.mocap_pos),
            (self.mocap_quat, data.mocap_quat),
        ):
            for name, numbers in values.items():
                body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, prefix + name)
                if body >= 0:
                    target[model.body_mocapid[body]] = numbers
        if self.ctrl is not None:
            data.ctrl[first_actuator : first_actuator + len(self.ctrl)] = self.ctrl
        if self.act is not None:
            adr = model.actuator_actadr[first_actuator:]
            first = next((a for a in adr if a >= 0), 0)
            data.act[first : first + len(self.act)] = self.act


@dataclass
class Robot:
    """A robot read from `path`: its spec, which a scene attaches, and notes on it."""

    spec: mujoco.MjSpec
    path: Path
    notes: list[Note] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    """Physics options that an MJCF gives, under MuJoCo's names; a flag is "flag NAME": bool. The
    spec itself has MuJoCo's defaults."""
    keyframes: dict[str, Pose] = field(default_factory=dict)
    """Keyframes of an MJCF by name, or by number where they have none."""
    initial: Pose | None = None
    """The keyframe to start from; None for the zero position of all joints."""
    overlaps: list[tuple[str, str, float]] = field(default_factory=list)
    """Pairs of bodies that overlap at the initial pose though they may collide: names and depth
    [m], deepest first."""

    def compile(self) -> mujoco.MjModel:
        """The robot alone as a model, without a ground."""
        return compile_spec(self.spec.copy())[0]

    def initial_qpos(self, model: mujoco.MjModel) -> np.ndarray:
        """qpos (nq,) of the initial pose in `model`, which `compile` returned."""
        data = mujoco.MjData(model)
        if self.initial:
            self.initial.write(model, data)
        return np.array(data.qpos)


def summary(notes: list[Note]) -> str:
    """All notes in one sentence."""
    return "; ".join(sentences(notes))


def sentences(notes: list[Note]) -> list[str]:
    """One for all notes of a sort, which share their text; MOST of them are named."""
    sorts: dict[str, list[str]] = {}
    for note in notes:
        sorts.setdefault(note.text, []).append(note._shown)
    return [
        text + (f": {_listed([item for item in items if item])}" if any(items) else "")
        for text, items in sorts.items()
    ]


def _listed(items: list[str]) -> str:
    more = len(items) - MOST
    return ", ".join(items[:MOST]) + (f" and {more} more" if more > 0 else "")
