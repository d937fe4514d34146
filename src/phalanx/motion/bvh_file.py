"""Parses BVH files: a skeleton in rest pose, and its motion."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.gate import read_text
from phalanx.motion.clip import MAX_FILE, MAX_NUMBER, check_finite, check_fps, check_frames
from phalanx.motion.rotation import Array, about, multiply, rotate


@dataclass
class Skeleton:
    """Joints in the file's order, parents first, and their motion."""

    names: list[str] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    offsets: list[Array] = field(default_factory=list)
    channels: list[list[str]] = field(default_factory=list)
    fps: float = 0.0
    values: Array = field(default_factory=lambda: np.empty((0, 0)))
    """(T, C): all channels of all joints, in the file's order [units or degrees]."""

    def rest(self) -> Array:
        """Positions (B, 3) of the joints without rotations, root at its offset [units]."""
        pos = np.array(self.offsets)
        for i, p in enumerate(self.parents):
            if p >= 0:
                pos[i] += pos[p]
        return pos

    def pose(self) -> tuple[Array, Array]:
        """Positions (T, B, 3) [units] and rotations (T, B, 4) of all joints, world frame."""
        count = len(self.values)
        turned = np.zeros((count, len(self.names), 4))
        pos = np.zeros((count, len(self.names), 3))
        column = 0
        for i, parent in enumerate(self.parents):
            quat = np.tile([1.0, 0, 0, 0], (count, 1))
            moved = np.tile(self.offsets[i], (count, 1))
            for channel in self.channels[i]:
                axis, value = "XYZ".index(channel[0]), self.values[:, column]
                column += 1
                if channel.endswith("rotation"):  # the first is the outermost
                    quat = multiply(quat, about(np.eye(3)[axis], np.radians(value)))
                else:
                    moved[:, axis] = value
            if parent < 0:
                turned[:, i], pos[:, i] = quat, moved
            else:
                turned[:, i] = multiply(turned[:, parent], quat)
                pos[:, i] = pos[:, parent] + rotate(turned[:, parent], moved)
        return pos, turned


def parse_bvh(path: Path) -> Skeleton:
    """Parse a BVH file. Raises PhalanxError, naming the line, if it is damaged or not BVH."""
    text = read_text(path, MAX_FILE).splitlines()
    lines = [(n, line) for n, line in enumerate(text, 1) if line.strip()]
    if not lines or lines[0][1].split()[0] != "HIERARCHY":
        raise PhalanxError(f"{path} is not a motion: a BVH file begins with HIERARCHY")
    skeleton, open_joints, ended = Skeleton(), [-1], False
    at = 1
    while at < len(lines) and (parts := lines[at][1].split())[0] != "MOTION":
        number = lines[at][0]
        at += 1
        match parts:
            case ["ROOT" | "JOINT", *name] if name:
                if parts[0] == "ROOT" and skeleton.names:
                    raise PhalanxError(
                        f"{path}: line {number}: a second ROOT; keep only one figure in the file"
                    )
                if parts[0] == "JOINT" and (len(open_joints) < 2 or ended):
                    raise PhalanxError(f"{path}: line {number}: a JOINT outside the ROOT's joints")
                skeleton.names.append(" ".join(name))
                skeleton.parents.append(open_joints[-1])
                skeleton.channels.append([])
                skeleton.offsets.append(np.zeros(3))
                pending = len(skeleton.names) - 1
            case ["End", *_]:
                ended = True
            case ["{"] if skeleton.names:
                open_joints.append(-2 if ended else pending)
            case ["}"] if len(open_joints) > 1:
                open_joints.pop()
                ended = False
            case ["OFFSET", *values] if len(open_joints) > 1:
                if not ended:
                    offset = _numbers(path, number, values, 3)
                    if not (np.abs(offset) < MAX_NUMBER).all():
                        raise PhalanxError(
                            f"{path}: line {number}: OFFSET must have finite numbers below 1e9"
                        )
                    skeleton.offsets[open_joints[-1]] = offset
            case ["CHANNELS", count, *names] if len(open_joints) > 1 and not ended:
                skeleton.channels[open_joints[-1]] = _channels(path, number, count, names)
            case _:
                raise PhalanxError(
                    f"{path}: line {number}: {' '.join(parts)[:60]!r} is not expected in the"
                    " HIERARCHY of a BVH file"
                )
    if at >= len(lines) or not skeleton.names:
        raise PhalanxError(f"{path} has no MOTION after its HIERARCHY; it is cut short")
    return _read_motion(path, skeleton, lines[at + 1 :])


def _channels(path: Path, number: int, count: str, names: list[str]) -> list[str]:
    known = [f"{axis}{kind}" for kind in ("position", "rotation") for axis in "XYZ"]
    names = [name.capitalize() for name in names]  # some programs write ZPosition
    for name in names:
        if name not in known:
            raise PhalanxError(
                f"{path}: line {number}: unknown channel {name!r}{did_you_mean(name, known)};"
                f" channels: {', '.join(known)}"
            )
    if count != str(len(names)):
        raise PhalanxError(f"{path}: line {number}: {count} CHANNELS declared, {len(names)} named")
    return names


def _read_motion(path: Path, skeleton: Skeleton, lines: list[tuple[int, str]]) -> Skeleton:
    head = [line.split() for _, line in lines[:2]]
    if len(head) < 2 or head[0][0] != "Frames:" or head[1][:2] != ["Frame", "Time:"]:
        raise PhalanxError(f"{path}: after MOTION there must be 'Frames:' and 'Frame Time:'")
    announced = _numbers(path, lines[0][0], head[0][1:], 1)[0]
    seconds = float(_numbers(path, lines[1][0], head[1][2:], 1)[0])
    if not seconds > 0:
        raise PhalanxError(
            f"{path}: line {lines[1][0]}: the frame time is {seconds:g} s; it must be above 0"
        )
    skeleton.fps = check_fps(1 / seconds, str(path))
    count = sum(map(len, skeleton.channels))
    frames = lines[2:]
    if len(frames) != announced:
        raise PhalanxError(
            f"{path} declares {announced:g} frames but has {len(frames)}; it is cut short or its"
            " 'Frames:' is wrong"
        )
    check_frames(str(path), len(frames), len(skeleton.names))
    rows = [_numbers(path, number, line.split(), count) for number, line in frames]
    skeleton.values = np.array(rows)
    labels = [
        f"{name} {c}"
        for name, names in zip(skeleton.names, skeleton.channels, strict=True)
        for c in names
    ]
    check_finite(str(path), "channel", skeleton.values, labels)
    return skeleton


def _numbers(path: Path, number: int, words: list[str], count: int) -> Array:
    if len(words) != count:
        raise PhalanxError(f"{path}: line {number} has {len(words)} numbers; it must have {count}")
    try:
        return np.array([float(word) for word in words])
    except ValueError as error:
        raise PhalanxError(f"{path}: line {number}: {error}") from error
