"""A robot by the path of its file or by its name in MuJoCo Menagerie, read and compiled."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.robot.base import BaseKind, base_kind
from phalanx.robot.drives import free_joints
from phalanx.sim import assets
from phalanx.sim.robot import Robot
from phalanx.sim.xml_file import read_xml

Progress = Callable[[str, int, int], None]
"""Called while a robot is downloaded: its name, bytes done, bytes in total."""


@dataclass(frozen=True)
class RobotFile:
    """A robot as Phalanx reads its file."""

    path: Path
    format: str
    """MJCF or URDF."""
    robot: Robot
    """With notes on what was dropped, added or mended."""
    model: mujoco.MjModel
    """The robot alone, without a ground."""

    @property
    def spec(self) -> mujoco.MjSpec:
        """The robot, without the options and keyframes of its file."""
        return self.robot.spec

    @property
    def base_kind(self) -> BaseKind:
        """See `phalanx.robot.base`."""
        return base_kind(self.model)

    @property
    def is_fixed(self) -> bool:
        """Whether the robot cannot fall to the ground."""
        return self.base_kind in ("fixed", "tied")

    @property
    def base(self) -> int:
        """Id of the body on the first free joint, or else of the first body."""
        free = free_joints(self.model)
        return int(self.model.jnt_bodyid[free[0]]) if free else 1


def read_robot(
    source: str,
    fixed_base: bool | None = None,
    root: str | None = None,
    on_progress: Progress | None = None,
    **options: Any,
) -> RobotFile:
    """The robot of a file, or of that name in MuJoCo Menagerie (`unitree_go2`, or
    `shadow_hand/left_hand` for one of several models). fixed_base, root, options: as for
    `load_robot`. Raises PhalanxError for anything else."""
    path = find_file(source, on_progress)
    with _silent_loader():
        robot = assets.load_robot(path, fixed_base=fixed_base, root=root, **options)
    kind = {"robot": "URDF", "mujoco": "MJCF"}[read_xml(path).tag]
    return RobotFile(path, kind, robot, robot.compile())


def find_file(source: str, on_progress: Progress | None = None) -> Path:
    """The file that `source` names, downloaded first if it is a name of MuJoCo Menagerie."""
    path = Path(source)
    if path.exists() or path.suffix or len(path.parts) > 2:
        return path
    return _menagerie(source, on_progress)


def _menagerie(source: str, on_progress: Progress | None) -> Path:
    """The file of a robot of MuJoCo Menagerie; downloads it where it is not in the cache."""
    import mujoco_menagerie as menagerie

    name, _, entry = source.partition("/")
    known = menagerie.names()
    if name not in known:
        raise PhalanxError(
            f"no file {source}, and no robot of that name in MuJoCo Menagerie"
            f"{did_you_mean(name, known) or '; give a path, or a name such as unitree_go2'}"
        )
    robot = menagerie.get(name)
    entry = entry or robot.default_model
    if entry not in robot.entry_names:
        raise PhalanxError(
            f"{name} has no model {entry!r}{did_you_mean(entry, robot.entry_names)};"
            f" it has: {', '.join(robot.entry_names)}"
        )
    try:
        folder = robot.path(progress=on_progress)
    except (menagerie.MenagerieError, OSError) as error:
        raise PhalanxError(
            f"cannot download {name} of MuJoCo Menagerie ({' '.join(str(error).split())}); give the"
            " path of a file, or set MENAGERIE_ROOT to a copy of its repository"
        ) from error
    return Path(folder, robot.entry(entry).file)


@contextmanager
def _silent_loader() -> Iterator[None]:
    """Without the loader's warning, which repeats the notes."""
    before, assets.log.disabled = assets.log.disabled, True
    try:
        yield
    finally:
        assets.log.disabled = before
