"""Makes the metadata of an exported policy from its task, checkpoint and network."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import torch

import phalanx
from phalanx.deploy.metadata import (
    FORMAT,
    Action,
    Joint,
    Metadata,
    Observation,
    PolicyInfo,
    State,
)
from phalanx.errors import PhalanxError, did_you_mean
from phalanx.layout import KINDS, ActionLayout, sizes_add_up
from phalanx.rl.checkpoint import load
from phalanx.sim.engines.initial import initial_data
from phalanx.spaces import Box, Discrete
from phalanx.tasks import Task

OPSET = 23
"""The newest opset that torch 2.11 writes; onnxruntime supports it from 1.22 on."""


def describe(player: Any, checkpoint: Path) -> Metadata:
    """The metadata of the exported policy. Raises PhalanxError if the task's layouts are wrong."""
    task: Task = player.env
    name = player.config.name
    terms, layout = tuple(task.observation_layout()), task.action_layout()
    sizes_add_up(terms, task.obs_size, name)
    saved = load(checkpoint)
    best = float(saved.get("last_mean_rewards", -math.inf))
    params = player.params
    space = task.action_space
    kind = {Box: "continuous", Discrete: "discrete"}.get(type(space), "multi_discrete")
    states = player.model.a2c_network.get_default_rnn_state(1, "cpu") if player.is_rnn else ()
    env = dataclasses.asdict(task.config)
    del env["num_envs"]
    for field in dataclasses.fields(task.config):
        if isinstance(field.default, str) and env[field.name] == field.default:
            del env[field.name]  # usually a path on this machine
    return Metadata(
        format=FORMAT,
        phalanx=phalanx.__version__,
        task=name,
        env=env,
        control_dt=task.sim.dt,
        control_hz=1 / task.sim.dt,
        policy=PolicyInfo(
            kind=kind,
            algorithm=params["algo"]["name"],
            model=params.get("model", {}).get("name") or type(player.model).__name__,
            network=params.get("network", {}).get("name") or "",
            checkpoint=checkpoint.name,
            epoch=int(saved.get("epoch", 0)),
            frame=int(saved.get("frame", 0)),
            training_return=best if best > -1e9 else None,
        ),
        joints=_joints(task, layout),
        observation=Observation(
            size=task.num_obs,
            clip=task.config.clip_observations,
            terms=terms,
            history=task.config.history,
        ),
        action=_action(task, layout, _reach(player)),
        recurrent=tuple(
            State(f"state_{k}", f"next_state_{k}", tuple(s.shape), 0.0)
            for k, s in enumerate(states)
        ),
        opset=OPSET,
    )


def _reach(player: Any) -> float | None:
    """The largest absolute value of a continuous action that arrives at the task: the player may
    clamp actions more than the task does."""
    space = player.env.action_space
    if not isinstance(space, Box):
        return None
    ends = torch.full((2, *space.shape), math.inf)
    ends[0] = -math.inf
    return min(float(player.to_env(ends).abs().max()), player.env.config.clip_actions)


def _action(task: Task, layout: ActionLayout, clip: float | None) -> Action:
    space = task.action_space
    box = isinstance(space, Box)
    size = space.shape[0] if isinstance(space, Box) else len(getattr(space, "nvec", (1,)))
    sizes = [space.n] if isinstance(space, Discrete) else list(getattr(space, "nvec", ()))
    tables = [len(table) for table in layout.choices]
    name = type(task).__name__
    if layout.joints and sizes != tables:
        raise PhalanxError(
            f"{name}.action_layout() has choices for {tables} actions, but the task has {sizes}"
        )
    if layout.joints and box and len(layout.joints) != size:
        raise PhalanxError(
            f"{name}.action_layout() names {len(layout.joints)} joints, but an action has {size}"
            " numbers"
        )
    offset, scale = np.array(layout.offset), np.array(layout.scale)
    if tables:
        ranges = [np.array(table) for table in layout.choices]
        least, most = sum(t.min(0) for t in ranges), sum(t.max(0) for t in ranges)
    else:
        least, most = offset - abs(scale) * (clip or 0), offset + abs(scale) * (clip or 0)
    low, high = np.maximum(layout.low, least), np.minimum(layout.high, most)
    return Action(
        size=size,
        kind=layout.kind,
        unit=KINDS[layout.kind],
        clip=clip,
        joints=tuple(layout.joints),
        scale=tuple(scale.tolist()),
        offset=tuple(offset.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        choices=tuple(tuple(tuple(row) for row in table) for table in layout.choices),
    )


def find_joint(model: mujoco.MjModel, name: str) -> int:
    """The id of the joint that a layout calls `name`; the actor prefix is optional. Raises
    PhalanxError if there is none."""
    names = [model.jnt(i).name for i in range(model.njnt)]
    for i, full in enumerate(names):
        if full == name or full.split("/", 1)[-1] == name:
            return i
    raise PhalanxError(
        f"the layout names a joint {name!r}, which the scene does not have"
        f"{did_you_mean(name, names)}; it has: {', '.join(names) or 'none'}"
    )


def _joints(task: Task, layout: ActionLayout) -> tuple[Joint, ...]:
    """All joints of the robot that the layout names joints of, or of the scene's first robot."""
    model = task.sim.model
    modelled = {
        f"{actuator.settings.actor}/{joint}": values
        for actuator in task.actuators
        for joint, values in actuator.as_set.items()
    }
    single = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
    moved = {find_joint(model, name): k for k, name in enumerate(layout.joints)}
    ids = [i for i in range(model.njnt) if model.jnt_type[i] in single]
    if not ids:
        return ()
    robot = _robot(model, next(iter(moved), ids[0]))
    default = layout.default_pos or (layout.offset if layout.kind == "position" else ())
    start = initial_data(model).qpos
    joints = []
    for i in (i for i in ids if _robot(model, i) == robot):
        limited = bool(model.jnt_limited[i])
        lower, upper = (float(x) for x in model.jnt_range[i])
        stiffness, damping, effort = modelled.get(model.jnt(i).name) or gains(model, i)
        pos = float(start[model.jnt_qposadr[i]])
        pos = min(max(pos, lower), upper) if limited else pos
        k = moved.get(i)
        if k is not None:
            pos = default[k] if default else pos
            stiffness = layout.stiffness[k] if layout.stiffness else stiffness
            damping = layout.damping[k] if layout.damping else damping
            effort = layout.effort_limit[k] if layout.effort_limit else effort
        joints.append(
            Joint(
                name=model.jnt(i).name.split("/", 1)[-1],
                unit="m" if model.jnt_type[i] == mujoco.mjtJoint.mjJNT_SLIDE else "rad",
                default_pos=pos,
                lower=lower if limited else None,
                upper=upper if limited else None,
                stiffness=stiffness,
                damping=damping,
                effort_limit=effort if math.isfinite(effort) else None,
            )
        )
    return tuple(joints)


def _robot(model: mujoco.MjModel, joint: int) -> str:
    name = model.jnt(joint).name
    return name.split("/", 1)[0] if "/" in name else ""


def gains(model: mujoco.MjModel, joint: int) -> tuple[float, float, float]:
    """Stiffness [N/m or N m/rad], damping [N s/m or N m s/rad] and largest effort [N or N m] of a
    joint's actuators, at the joint."""
    stiffness = damping = 0.0
    effort = math.inf
    if model.jnt_actfrclimited[joint]:
        effort = float(model.jnt_actfrcrange[joint, 1])
    for i in range(model.nu):
        if model.actuator_trntype[i] != mujoco.mjtTrn.mjTRN_JOINT:
            continue
        if model.actuator_trnid[i, 0] != joint:
            continue
        gear = abs(float(model.actuator_gear[i, 0]))
        if model.actuator_biastype[i] == mujoco.mjtBias.mjBIAS_AFFINE:
            stiffness -= float(model.actuator_biasprm[i, 1]) * gear**2
            damping -= float(model.actuator_biasprm[i, 2]) * gear**2
        elif model.actuator_ctrllimited[i]:
            gain = abs(float(model.actuator_gainprm[i, 0]))
            effort = min(effort, float(model.actuator_ctrlrange[i, 1]) * gain * gear)
        if model.actuator_forcelimited[i]:
            effort = min(effort, float(model.actuator_forcerange[i, 1]) * gear)
    return stiffness, damping, effort
