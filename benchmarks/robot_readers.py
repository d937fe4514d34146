"""Reads URDF files with Pinocchio and PyBullet, for `robot_files.py`, which compares.

    .../python robot_readers.py < paths > facts.jsonl     one JSON object per path

Runs in the environment of the packages that carry the robots, which must have `pin` and `pybullet`.
Each file is read in a process of its own, since readers may crash.
"""

import json
import multiprocessing
import sys

import pinocchio as pin
import pybullet


def by_pinocchio(path: str) -> dict:
    """Joints in order, with limits, placement in the parent joint's frame (3, 4), and the mass,
    centre of mass and inertia (3, 3) of all that moves with a joint, in its frame."""
    model = pin.buildModelFromUrdf(path)
    joints = {}
    for j in range(1, model.njoints):
        inertia, q, v = model.inertias[j], model.joints[j].idx_q, model.joints[j].idx_v
        scalar = model.joints[j].nq == 1
        joints[model.names[j]] = {
            "lower": float(model.lowerPositionLimit[q]) if scalar else None,
            "upper": float(model.upperPositionLimit[q]) if scalar else None,
            "effort": float(model.effortLimit[v]),
            "velocity": float(model.velocityLimit[v]),
            "placement": model.jointPlacements[j].homogeneous[:3].tolist(),
            "mass": float(inertia.mass),
            "com": inertia.lever.tolist(),
            "inertia": inertia.inertia.tolist(),
        }
    return {"joints": joints, "root_mass": float(model.inertias[0].mass)}


def by_pybullet(path: str) -> dict:
    """Joints that move, in order, with type, limits and axis, and the masses of their links."""
    pybullet.connect(pybullet.DIRECT)
    body = pybullet.loadURDF(path, flags=pybullet.URDF_USE_INERTIA_FROM_FILE, useFixedBase=True)
    joints, masses = {}, {}
    for j in range(pybullet.getNumJoints(body)):
        info = pybullet.getJointInfo(body, j)
        dynamics = pybullet.getDynamicsInfo(body, j)
        masses[info[12].decode()] = dynamics[0]
        if info[2] != pybullet.JOINT_FIXED:
            joints[info[1].decode()] = {
                "type": info[2],
                "lower": info[8],
                "upper": info[9],
                "effort": info[10],
                "velocity": info[11],
                "axis": in_link(info[13], dynamics[4]),
            }
    return {"joints": joints, "masses": masses}


def in_link(axis: tuple, inertial_quat: tuple) -> list:
    """The axis of a joint in its link's frame; PyBullet says it in the link's inertial frame."""
    turn = pybullet.getMatrixFromQuaternion(inertial_quat)
    return [sum(turn[3 * row + k] * axis[k] for k in range(3)) for row in range(3)]


READERS = {"pinocchio": by_pinocchio, "pybullet": by_pybullet}


def _answer(reader: str, path: str, pipe) -> None:
    try:
        pipe.send(READERS[reader](path))
    except Exception as error:
        pipe.send({"error": " ".join(str(error).split())[:200]})


def read(reader: str, path: str, seconds: float = 120.0) -> dict:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=_answer, args=(reader, path, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(seconds) else {"error": "took too long"}
    except EOFError:
        return {"error": "crashed"}
    finally:
        process.kill()
        process.join()


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")  # the readers are imported once
    for line in sys.stdin:
        path = line.strip()
        facts = {"path": path} | {reader: read(reader, path) for reader in READERS}
        print("FACTS " + json.dumps(facts), flush=True)
