"""Motion files: .npy with a pickle, BVH, our JSON."""

import io
import json
import math

import mujoco
import numpy as np

from fuzz import mutate
from phalanx.motion.json_file import write_json
from phalanx.motion.library import MotionLibrary, load_clip
from phalanx.motion.robot import Robot

ARM = """
<mujoco><worldbody><body name="root" pos="0 0 1"><freejoint/><geom size=".1"/>
  <body name="upper" pos="0 0 -.2"><joint name="x" axis="1 0 0"/><joint name="y" axis="0 1 0"/>
    <joint name="z" axis="0 0 1"/><geom type="capsule" size=".05" fromto="0 0 0 0 0 -.5"/>
    <body name="lower" pos="0 0 -.5"><joint name="elbow" axis="0 1 0" range="-170 10"/>
      <geom type="capsule" size=".05" fromto="0 0 0 0 0 -.5"/></body></body></body>
</worldbody></mujoco>
"""
BVH = b"""HIERARCHY
ROOT root
{
  OFFSET 0 1 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT upper
  {
    OFFSET 0 -0.4 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    JOINT lower
    {
      OFFSET 0 -0.5 0
      CHANNELS 3 Zrotation Xrotation Yrotation
      End Site
      {
        OFFSET 0 -0.5 0
      }
    }
  }
}
MOTION
Frames: 3
Frame Time: 0.0333
0 1 0 0 0 0 0 10 0 5 0 0
0 1 0.1 0 0 2 0 12 0 6 0 0
0 1 0.2 0 0 4 0 14 0 7 0 1
"""


class Motion:
    """A clip that is accepted is sampled at odd times."""

    suffix: str

    def __init__(self, folder):
        self.model = mujoco.MjModel.from_xml_string(ARM)
        self.robot = Robot(self.model)
        self.folder = folder

    def __call__(self, data):
        file = self.folder / f"motion{self.suffix}"
        file.write_bytes(data)
        if self.suffix == ".bvh":
            names = {name: name for name in ("root", "upper", "lower")}
            file = self.kept(load_clip(file, self.robot, names=names))
        self.sample([file])

    def kept(self, clip):
        """The file of a clip that is written."""
        file = self.folder / "kept.json"
        write_json(clip, file)
        return file

    def sample(self, files):
        library = MotionLibrary(files, self.model, ["lower"])
        ids = library.sample_motions(4)
        for seconds in (0.0, 0.01, 1e3):
            state = library.state(ids, library.sample_times(ids) * 0 + seconds)
            for name, values in state._asdict().items():
                assert values.isfinite().all(), f"{name} is not finite at {seconds} s"


class Npy(Motion):
    suffix = ".npy"

    def case(self, rng):
        content = skeleton()
        way = rng.randrange(4)
        if way == 0:
            return mutate.of_bytes(rng, npy(content))
        if way == 1:
            data = npy(content)
            start = data.index(b"\n") + 1
            return data[:start] + mutate.of_pickle(rng, data[start:])
        if rng.randrange(20) == 0:
            content["fps"] = Malice(rng.choice(MALICE))
            return npy(content)
        return npy(mutate.of_structure(rng, content))


class Bvh(Motion):
    suffix = ".bvh"

    def case(self, rng):
        return mutate.of_text(rng, BVH)


class Json(Motion):
    suffix = ".json"

    def case(self, rng):
        if rng.randrange(2):
            return mutate.of_text(rng, json.dumps(clip(), indent=1).encode())
        changed = mutate.of_structure(rng, clip())
        try:
            return json.dumps(changed, default=str).encode()
        except (TypeError, ValueError):  # keys of two kinds, a number too long
            return b"{}"


MALICE = ((__import__("os").mkdir, "/tmp/fuzz"), (eval, "1"), (__import__, "antigravity"))


class Malice:
    def __init__(self, what):
        self.what = what

    def __reduce__(self):
        return self.what[0], (self.what[1],)

    def __deepcopy__(self, memo):
        return self


def npy(content):
    buffer = io.BytesIO()
    np.save(buffer, np.array(content, dtype=object), allow_pickle=True)
    return buffer.getvalue()


def skeleton(frames=4):
    angle = 0.05 * np.arange(frames)
    turn = np.stack([0 * angle, np.sin(angle), 0 * angle, np.cos(angle)], -1)
    return {
        "rotation": {"arr": np.stack([turn] * 3, 1), "context": {"dtype": "float64"}},
        "root_translation": {"arr": np.ones((frames, 3), "f4"), "context": {"dtype": "float32"}},
        "skeleton_tree": {
            "node_names": ["root", "upper", "lower"],
            "parent_indices": {"arr": np.array([-1, 0, 1])},
            "local_translation": {"arr": np.array([[0, 0, 1], [0, 0, 0.2], [0, 0, 0.5]], "f4")},
        },
        "is_local": True,
        "fps": 30,
        "__name__": "SkeletonMotion",
    }


def clip():
    half = math.sin(0.1)
    return {
        "format": "phalanx-motion", "version": 1, "name": "a", "fps": 30.0, "loop": False,
        "source": "", "joints": ["x", "y", "z", "elbow"],
        "root_pos": [[0, 0, 1], [0, 0.1, 1], [0, 0.2, 1]],
        "root_quat": [[1, 0, 0, 0], [math.cos(0.1), half, 0, 0], [math.cos(0.1), half, 0, 0]],
        "joint_pos": [[0, 0, 0, 0], [0.1, 0, 0, 0], [0.2, 0, 0, -0.1]],
    }  # fmt: skip
