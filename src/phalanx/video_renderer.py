"""The rendering process of `video.py`: draws recorded poses, writes raw RGB frames to stdout.

python -m phalanx.video_renderer JOB        # JOB: an .npz file, with model.mjb in its folder
"""

import math
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

MAX_GEOMS = 50_000
GROUND_TYPES = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_HFIELD)

AZIMUTH, ELEVATION = 125.0, -16.0  # [deg] shows a robot facing +x from its front right
GRID_ELEVATION = -23.0  # [deg] for several environments, so that those behind are visible
MARGIN = 1.2  # picture size over the size that just contains every robot
NEAREST = 0.05  # part of the camera's distance from which on things are drawn
SMOOTHING_S = 0.4  # standard deviation of the camera's low-pass filter [s]
AROUND = 20.0  # how far from what the camera looks at a map is drawn [m]

Array = NDArray[np.float64]


def _render_job(job_file: Path, write: Callable[[bytes], object]) -> None:
    """Draw the job's frames and `write` each, (height, width, 3) uint8 RGB, top row first."""
    with np.load(job_file, allow_pickle=False) as archive:
        job = dict(archive)
    model = mujoco.MjModel.from_binary_path(str(job_file.with_name("model.mjb")))
    width, height = int(job["width"]), int(job["height"])
    gl_context = mujoco.GLContext(width, height)
    gl_context.make_current()

    num_frames, num_envs = job["qpos"].shape[:2]
    data = mujoco.MjData(model)
    low, high = _robot_boxes(model, data, job)
    size = np.median(high - low, axis=(0, 1))  # (3,) [m] of one robot
    world = shared_world(model, size)
    flat = bool((model.geom_type[world] == mujoco.mjtGeom.mjGEOM_PLANE).all())
    offset = _grid(model, data, low, high, world) if flat else np.zeros((num_envs, 3))
    low, high = low + offset, high + offset
    # The world's geoms are in group 4, drawn with environment 0 only; groups 0 to 2 are visible.
    model.geom_group[model.geom_group > 2] = 3
    model.geom_group[world & (model.geom_group <= 2)] = 4

    cam = mujoco.MjvCamera()
    cam.azimuth, cam.elevation = AZIMUTH, ELEVATION if num_envs == 1 and flat else GRID_ELEVATION
    if not flat:  # on one map they may be far apart: the camera follows the first one
        low, high = low[:, :1], high[:, :1]
    lookat = _lookat(low, high, offset, float(np.linalg.norm(size)), int(job["fps"]))
    cam.distance, lookat = _framed(cam, model.vis.global_.fovy, width / height, lookat, low, high)
    if job["camera"]:
        cam.type = mujoco.mjtCamera.mjCAMERA_FIXED
        cam.fixedcamid = model.camera(str(job["camera"])).id
    elif not flat:
        mujoco.mj_kinematics(model, data)
        crop(model, data, world, lookat.min(0)[:2] - AROUND, lookat.max(0)[:2] + AROUND)

    # The shadow map covers the area around the robots; below, it moves with the camera.
    shadow_radius = 1.5 * cam.distance * math.tan(math.radians(model.vis.global_.fovy / 2))
    model.vis.map.shadowclip = shadow_radius / model.stat.extent
    # Both are parts of the extent, and that of a map is so large that robots would be too near.
    nearest = NEAREST * cam.distance / model.stat.extent
    model.vis.map.znear = min(float(model.vis.map.znear), nearest)
    model.vis.global_.offwidth, model.vis.global_.offheight = width, height
    font_scale = mujoco.mjtFontScale(100 if height < 720 else 150)  # percent
    context = mujoco.MjrContext(model, font_scale)
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
    viewport = mujoco.MjrRect(0, 0, width, height)
    scene = mujoco.MjvScene(model, MAX_GEOMS)
    everything, own = mujoco.MjvOption(), mujoco.MjvOption()
    everything.geomgroup[:] = (1, 1, 1, 0, 1, 0)
    own.geomgroup[:] = (1, 1, 1, 0, 0, 0)
    drawn = mujoco.mjtCatBit.mjCAT_STATIC | mujoco.mjtCatBit.mjCAT_DYNAMIC
    pixels = np.empty((height, width, 3), np.uint8)

    for frame in range(num_frames):
        cam.lookat = lookat[frame]
        for env in range(num_envs):
            _set_pose(model, data, job, frame, env)
            if env == 0:
                mujoco.mjv_updateScene(model, data, everything, None, cam, drawn, scene)
                continue
            first = scene.ngeom
            mujoco.mjv_addGeoms(model, data, own, mujoco.MjvPerturb(), drawn, scene)
            for geom in scene.geoms[first : scene.ngeom]:
                geom.pos += offset[env]
        for geom in scene.geoms[: scene.ngeom]:
            if geom.type in GROUND_TYPES:
                geom.castshadow = 0  # the ground shades nothing, and would get artefacts
        for light in scene.lights[: scene.nlight]:
            if light.type == mujoco.mjtLightType.mjLIGHT_DIRECTIONAL and not light.headlight:
                light.pos = lookat[frame] - 2 * shadow_radius * light.dir
        mujoco.mjr_render(viewport, scene, context)
        if job["caption"]:
            font, corner = mujoco.mjtFont.mjFONT_NORMAL, mujoco.mjtGridPos.mjGRID_TOPLEFT
            mujoco.mjr_overlay(font, corner, viewport, str(job["caption"]), "", context)
        mujoco.mjr_readPixels(pixels, None, viewport, context)
        write(pixels[::-1].tobytes())


def _set_pose(
    model: mujoco.MjModel, data: mujoco.MjData, job: dict[str, Any], frame: int, env: int
) -> None:
    """Set everything in `data` that is drawn, from one recorded pose."""
    data.qpos[:] = job["qpos"][frame, env]
    if "mocap_pos" in job:
        data.mocap_pos[:] = job["mocap_pos"][frame, env]
    if "mocap_quat" in job:
        data.mocap_quat[:] = job["mocap_quat"][frame, env]
    place(model, data)


def place(model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """Move everything that is drawn to where the pose in `data` has it."""
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_camlight(model, data)
    mujoco.mj_flex(model, data)
    mujoco.mj_tendon(model, data)


def _robot_boxes(
    model: mujoco.MjModel, data: mujoco.MjData, job: dict[str, Any]
) -> tuple[Array, Array]:
    """Corners of the box around each environment's robot, (T, K, 3) [m] each, world frame."""
    robot = robot_geoms(model)
    num_frames, num_envs = job["qpos"].shape[:2]
    low, high = np.empty((2, num_frames, num_envs, 3))
    if not robot.any():
        low[:] = model.stat.center - model.stat.extent / 2
        high[:] = model.stat.center + model.stat.extent / 2
        return low, high
    for frame in range(num_frames):
        for env in range(num_envs):
            _set_pose(model, data, job, frame, env)
            low[frame, env], high[frame, env] = box(model, data, robot)
    return low, high


def robot_geoms(model: mujoco.MjModel) -> NDArray[np.bool_]:
    """Geoms of the robot, (ngeom,) bool.

    The robot is the kinematic tree with most moving geoms, so that a lost ball or a distant target
    does not pull the camera away; if nothing moves, it is everything except the ground.
    """
    tree = model.body_rootid[model.geom_bodyid]  # (ngeom,)
    robot = model.body_weldid[model.geom_bodyid] != 0
    if robot.any():
        return robot & (tree == np.bincount(tree[robot]).argmax())
    return ~np.isin(model.geom_type, GROUND_TYPES)


def box(
    model: mujoco.MjModel, data: mujoco.MjData, geoms: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """Corners of the box around these geoms at the current pose, (3,) [m] each, world frame."""
    mat = data.geom_xmat[geoms].reshape(-1, 3, 3)
    center, half = model.geom_aabb[geoms, :3, None], model.geom_aabb[geoms, 3:, None]
    middle = data.geom_xpos[geoms] + (mat @ center)[..., 0]
    reach = (np.abs(mat) @ half)[..., 0]
    return (middle - reach).min(axis=0), (middle + reach).max(axis=0)


def shared_world(model: mujoco.MjModel, size: Array) -> NDArray[np.bool_]:
    """Geoms drawn once for all environments, (ngeom,) bool: the ground, and world geoms much larger
    than `size`; on a height field, where all stay in their places, all that the world has."""
    static = model.body_weldid[model.geom_bodyid] == 0
    ground = static & np.isin(model.geom_type, GROUND_TYPES)
    hills = (model.geom_type[ground] == mujoco.mjtGeom.mjGEOM_HFIELD).any()
    large = hills | (model.geom_rbound > 2 * np.linalg.norm(size))
    return ground | (static & (model.geom_bodyid == 0) & large)


def crop(
    model: mujoco.MjModel, data: mujoco.MjData, world: NDArray[np.bool_], low: Array, high: Array
) -> None:
    """Leave of a map only what lies between `low` and `high` (2,) [m]: a whole one has millions of
    triangles, of which each takes its time in software. world: geoms (ngeom,) that stay in their
    places, which are those of `data`."""
    place, reach = data.geom_xpos[:, :2], model.geom_rbound[:, None]
    outside = ((place + reach < low) | (place - reach > high)).any(1)
    field = model.geom_type == mujoco.mjtGeom.mjGEOM_HFIELD
    model.geom_group[world & outside & (model.geom_rbound > 0) & ~field] = 3
    for geom in np.flatnonzero(world & field):
        i = model.geom_dataid[geom]
        straight = np.allclose(data.geom_xmat[geom], np.eye(3).ravel(), atol=1e-6)
        if not straight or model.geom_bodyid[geom] or (model.geom_dataid[field] == i).sum() > 1:
            continue
        shape = np.array([model.hfield_ncol[i], model.hfield_nrow[i]])  # along x and y
        corner = place[geom] - model.hfield_size[i, :2]
        apart = 2 * model.hfield_size[i, :2] / (shape - 1)
        first = np.clip(np.floor((low - corner) / apart), 0, shape - 2).astype(int)
        last = np.clip(np.ceil((high - corner) / apart), first + 1, shape - 1).astype(int)
        begin, count = model.hfield_adr[i], last - first + 1
        heights = model.hfield_data[begin : begin + shape.prod()].reshape(shape[::-1])
        kept = heights[first[1] : last[1] + 1, first[0] : last[0] + 1].copy()
        model.hfield_data[begin : begin + kept.size] = kept.ravel()
        model.hfield_ncol[i], model.hfield_nrow[i] = count
        model.hfield_size[i, :2] = apart * (count - 1) / 2
        model.geom_pos[geom, :2] = corner + apart * (first + last) / 2
        model.geom_sameframe[geom] = 0


def _grid(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    low: Array,
    high: Array,
    world: NDArray[np.bool_],
) -> Array:
    """Offset of each environment in the picture, (K, 3) [m]; that of the first is 0.

    A cell contains the area that its robot covers, up to 1.5 times its size, and its static geoms.
    """
    num_envs = low.shape[1]
    covered = (high.max(axis=0) - low.min(axis=0)).max(axis=0)
    robot = np.median(high - low, axis=(0, 1))
    cell = np.minimum(covered, 1.5 * robot)
    mocap = model.body_mocapid[model.body_rootid[model.geom_bodyid]] >= 0
    static = (model.body_weldid[model.geom_bodyid] == 0) & ~world & ~mocap
    if static.any():
        static_low, static_high = box(model, data, static)
        cell = np.maximum(cell, static_high - static_low)
    x, y = cell[:2] + 0.25 * robot.max()
    rows = int(np.clip(round(math.sqrt(num_envs * y / x)), 1, num_envs))  # a square, in metres
    columns = math.ceil(num_envs / rows)
    env = np.arange(num_envs)
    return np.stack([env // columns * x, env % columns * y, 0.0 * env], axis=-1)


def _lookat(low: Array, high: Array, offset: Array, size: float, fps: int) -> Array:
    """The point the camera looks at, (T, 3) [m]: fixed if the robots stay, otherwise following
    them.

    low, high: (T, K, 3) [m]; offset: (K, 3) [m] of the grid; size [m] of one robot.
    """
    target = np.median((low + high) / 2 - offset, axis=1)  # (T, 3): a few resets do not move it
    target += (offset.min(axis=0) + offset.max(axis=0)) / 2
    if np.ptp(target, axis=0).max() < 1.5 * size:
        return np.tile((target.min(axis=0) + target.max(axis=0)) / 2, (len(target), 1))
    reach = math.ceil(3 * SMOOTHING_S * fps)
    weight = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (SMOOTHING_S * fps)) ** 2)
    weight /= weight.sum()
    # A reset is a cut: the camera jumps with the robots instead of sweeping after them.
    cuts = np.flatnonzero(np.linalg.norm(np.diff(target, axis=0), axis=-1) > size) + 1
    for shot in np.split(target, cuts):  # views into target
        # odd reflection continues a steady run, so that the camera does not lag at the ends
        padded = np.pad(shot, ((reach, reach), (0, 0)), mode="reflect", reflect_type="odd")
        shot[:] = np.stack([np.convolve(axis, weight, mode="valid") for axis in padded.T], axis=-1)
    return target


def _framed(
    cam: mujoco.MjvCamera, fovy: float, aspect: float, lookat: Array, low: Array, high: Array
) -> tuple[float, Array]:
    """The camera's distance [m] at which every robot's box fits into the picture, and `lookat`,
    (T, 3) [m], shifted so that they are centred.

    The few frames with the largest distance are ignored: they may be a fall or a reset.
    fovy [deg], aspect width / height; lookat (T, 3), low, high (T, K, 3) [m].
    """
    azimuth, elevation = math.radians(cam.azimuth), math.radians(cam.elevation)
    forward = np.array([math.cos(azimuth), math.sin(azimuth), 0.0]) * math.cos(elevation)
    forward[2] = math.sin(elevation)
    right = np.array([math.sin(azimuth), -math.cos(azimuth), 0.0])
    up = np.cross(right, forward)
    tan_v = math.tan(math.radians(fovy / 2))
    upper = np.indices((2, 2, 2)).reshape(3, 8).T == 1  # (8, 3): which corner of a box
    corners = np.where(upper, high[:, :, None], low[:, :, None])  # (T, K, 8, 3)
    for _ in range(4):  # each moves the middle of the picture closer to the robots' middle
        ray = corners - lookat[:, None, None]
        needed = np.maximum(np.abs(ray @ up), np.abs(ray @ right) / aspect) / tan_v - ray @ forward
        distance = MARGIN * float(np.percentile(needed.max(axis=(1, 2)), 95))
        for axis in (right, up):
            seen = ray @ axis / (distance + ray @ forward)  # (T, K, 8)
            middle = (seen.min(axis=(1, 2)) + seen.max(axis=(1, 2))) / 2
            lookat = lookat + distance * np.median(middle) * axis
    return distance, lookat


if __name__ == "__main__":
    # stdout is for frames only; output of graphics libraries goes to stderr instead.
    frames = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.chdir(Path(sys.argv[1]).parent)  # for MUJOCO_LOG.TXT
    status = 0
    try:
        _render_job(Path(sys.argv[1]), frames.write)
        frames.flush()
    except Exception:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status)  # skips GL's destructors, which print after the error message
