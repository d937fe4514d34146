"""Motions as rows or arrays of numbers: .csv, .npy, .pkl, .npz of BeyondMimic and AMASS, and lists
of motions."""

import io
import json
import pickle

import numpy as np
import yaml

from fuzz import mutate
from fuzz.motions import MALICE, Malice, Motion, clip
from phalanx.motion.amass import JOINTS
from phalanx.motion.library import load_clip

LIST = {"motions": [{"file": "a.json", "weight": 0.5}, {"file": "walk", "weight": 1}, "a.json"]}
TURN = np.array([0, np.sin(0.1), 0, np.cos(0.1)])


def rows(frames=4):
    """(T, 7 + 4): position, x y z w, joint angles."""
    found = np.zeros((frames, 11))
    found[:, :3], found[:, 3:7], found[:, 7] = (0, 0, 1), TURN, 0.1 * np.arange(frames)
    return found


class Csv(Motion):
    suffix = ".csv"
    GOOD = "\n".join(",".join(f"{x:.4f}" for x in row) for row in rows()).encode()

    def case(self, rng):
        return mutate.of_text(rng, self.GOOD)


class Rows(Motion):
    """.npy with one array of numbers."""

    suffix = ".npy"

    def case(self, rng):
        values = mutate.values(rng, rows()) if rng.randrange(2) else rows()
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(values, dtype=getattr(values, "dtype", object)))
        return mutate.of_bytes(rng, buffer.getvalue()) if rng.randrange(2) else buffer.getvalue()


class Pickle(Motion):
    suffix = ".pkl"

    def case(self, rng):
        held = rows()
        content = {"fps": 30, "root_pos": held[:, :3], "root_rot": held[:, 3:7]}
        content |= {"dof_pos": held[:, 7:], "local_body_pos": None, "link_body_list": ["root"]}
        if rng.randrange(2):
            content = {"walk": content}
        way = rng.randrange(4)
        if rng.randrange(20) == 0:
            content["fps"] = Malice(rng.choice(MALICE))
        elif way > 1:
            content = mutate.of_structure(rng, content)
        data = pickle.dumps(content, protocol=rng.choice((2, 4, 5)))
        return (mutate.of_bytes, mutate.of_pickle, _as_it_is, _as_it_is)[way](rng, data)


class Npz(Motion):
    """BeyondMimic's, or AMASS's, which is fitted to the robot."""

    suffix = ".npz"

    def __init__(self, folder):
        super().__init__(folder)
        frames, bodies = 4, len(self.robot.parents)
        quat = np.tile(TURN[[3, 0, 1, 2]], (frames, bodies, 1)).astype("f4")
        self.tracked = {
            "fps": np.array([30]),
            "joint_pos": rows()[:, 7:].astype("f4"),
            "joint_vel": np.zeros((frames, 4), "f4"),
            "body_pos_w": np.ones((frames, bodies, 3), "f4"),
            "body_quat_w": quat,
        }
        self.amass = {
            "poses": np.full((frames, 3 * len(JOINTS) + 6), 0.1),
            "trans": np.ones((frames, 3)),
            "mocap_framerate": np.array(120.0),
            "gender": np.array("male"),
        }

    def case(self, rng):
        arrays = dict(rng.choice((self.tracked, self.amass)))
        if rng.randrange(2):
            arrays = mutate.of_structure(rng, arrays)
        buffer = io.BytesIO()
        try:
            np.savez(buffer, **{str(k): v for k, v in arrays.items()})
        except Exception:
            return b""
        data = buffer.getvalue()
        return mutate.of_bytes(rng, data) if rng.randrange(2) else data

    def __call__(self, data):
        file = self.folder / "motion.npz"
        file.write_bytes(data)
        names = {"Hips": "root", "LeftUpLeg": "upper", "LeftLeg": "lower"}
        self.sample([self.kept(load_clip(file, self.robot, names=names))])


class Lists(Motion):
    """A .yaml file with motions and their weights."""

    suffix = ".yaml"

    def __init__(self, folder):
        super().__init__(folder)
        (folder / "a.json").write_text(json.dumps(clip()))

    def case(self, rng):
        if rng.randrange(2):
            return mutate.of_text(rng, yaml.safe_dump(LIST).encode())
        try:
            return yaml.safe_dump(mutate.of_structure(rng, LIST)).encode()
        except (yaml.YAMLError, ValueError):
            return b"{}"


def _as_it_is(rng, data):
    return data
