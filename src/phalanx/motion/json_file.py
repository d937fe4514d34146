"""Phalanx's own motion format, a small JSON that `docs/motion.md` describes.

clip = read_json("walk.json")
write_json(clip, "copy.json")
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.files import write_atomically
from phalanx.gate import read_text, show
from phalanx.motion.clip import MAX_FILE, Clip, check_fps, check_frames, checked
from phalanx.motion.rotation import Array

FORMAT, VERSION = "phalanx-motion", 1


def write_json(clip: Clip, path: str | os.PathLike[str]) -> None:
    """Write a clip in our own format, one line per frame. Raises PhalanxError if that fails."""
    head = {"format": FORMAT, "version": VERSION, "name": clip.name, "fps": clip.fps}
    head |= {"loop": clip.loop, "source": clip.source, "joints": list(clip.joints)}
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    for key in ("root_pos", "root_quat", "joint_pos"):
        rows = [
            "    " + json.dumps([round(x, 6) for x in row.tolist()]) for row in clip.__dict__[key]
        ]
        lines.append(f'  "{key}": [\n' + ",\n".join(rows) + "\n  ]")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PhalanxError(f"cannot write the motion {path}: {error.strerror}") from error
    write_atomically(Path(path), ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def read_json(path: str | os.PathLike[str]) -> Clip:
    """The clip of a file, its joints in the file's order.
    Raises PhalanxError, naming file and key, for an invalid file."""
    try:
        content = json.loads(read_text(path, MAX_FILE), parse_constant=lambda word: float(word))
    except json.JSONDecodeError as error:
        raise PhalanxError(
            f"{path}: line {error.lineno}: {error.msg.lower()}; the file is damaged, cut short or"
            " not a motion"
        ) from error
    except PhalanxError:
        raise
    except (ValueError, RecursionError) as error:
        raise PhalanxError(f"{path} is not a motion: it is not JSON text") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise PhalanxError(f'{path} is not a Phalanx motion: "format" must be "{FORMAT}"')
    if content.get("version") != VERSION:
        raise PhalanxError(
            f"{path}: version is {show(content.get('version'))}; this Phalanx reads version"
            f" {VERSION}"
        )
    joints = _field(path, content, "joints", list)
    if not all(isinstance(j, str) for j in joints):
        raise PhalanxError(f"{path}: joints must be a list of names")
    clip = Clip(
        name=_field(path, content, "name", str, Path(path).stem),
        fps=check_fps(_field(path, content, "fps", (int, float)), str(path)),
        loop=_field(path, content, "loop", bool, False),
        source=_field(path, content, "source", str, ""),
        joints=tuple(joints),
        root_pos=_table(path, content, "root_pos", 3),
        root_quat=_table(path, content, "root_quat", 4),
        joint_pos=_table(path, content, "joint_pos", len(joints)),
    )
    counts = {k: len(getattr(clip, k)) for k in ("root_pos", "root_quat", "joint_pos")}
    if len(set(counts.values())) > 1:
        words = ", ".join(f"{k} {n}" for k, n in counts.items())
        raise PhalanxError(f"{path}: the numbers of frames differ: {words}")
    return checked(clip, str(path))


def _field(path: object, content: dict[str, Any], key: str, kind: Any, default: Any = None) -> Any:
    if key not in content and default is not None:
        return default
    if key not in content:
        raise PhalanxError(
            f"{path} has no {key!r}, which a motion needs{did_you_mean(key, content)}"
        )
    value = content[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise PhalanxError(f"{path}: {key} is {show(value)}; see docs/motion.md for its format")
    return value


def _table(path: object, content: dict[str, Any], key: str, width: int) -> Array:
    rows = _field(path, content, key, list)
    check_frames(f"{path}: {key}", len(rows))
    for frame, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != width:
            count = len(row) if isinstance(row, list) else "no"
            raise PhalanxError(
                f"{path}: frame {frame}: {key} has {count} numbers; it must have {width}"
            )
        if not all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in row):
            raise PhalanxError(f"{path}: frame {frame}: {key} has a value that is not a number")
    try:
        return np.array(rows, float)
    except OverflowError as error:
        raise PhalanxError(f"{path}: {key} contains a number that is too large") from error
