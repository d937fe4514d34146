"""What a task file and its callers can get wrong, as one sentence each.

On a GPU, checks of a step look at shapes, types and devices only, so they cost nothing where it is
compiled or captured.
"""

import difflib
import inspect
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.spaces import Box, Discrete, MultiDiscrete

if TYPE_CHECKING:
    from phalanx.tasks.task import Task

NEEDED = "create_scene pre_physics_step compute_observations compute_reward".split()
HOOKS = {
    "create_scene": 0,
    "init_buffers": 0,
    "pre_physics_step": 1,
    "compute_observations": 0,
    "compute_reward": 0,
    "compute_states": 0,
    "reset_envs": 1,
    "post_physics_step": 0,
    "observation_layout": 0,
    "action_layout": 0,
    "scalars": 0,
    "give_command": 1,
}
"""Hooks of a task and the number of their arguments, after self."""
ISAACGYMENVS = {
    "reset_idx": ("reset_envs", "reset_envs(mask), with a boolean mask (N,) instead of indices"),
    "allocate_buffers": ("init_buffers", "init_buffers()"),
}
"""Hooks of IsaacGymEnvs that nothing here calls: our hook, and what to write instead."""


ELSEWHERE = {
    "num_observations": "it is num_obs",
    "num_acts": "it is num_actions",
    "num_privileged_obs": "it is num_states",
    "single_observation_space": "it is observation_space",
    "single_action_space": "it is action_space",
    "cfg": "it is config",
    "max_episode_length": "it is config.episode_length, in steps",
    "max_episode_length_s": "it is config.episode_length * config.dt",
    "episode_length_buf": "it is progress_buf",
    "dt": "it is config.dt, of a control step",
    "step_dt": "it is config.dt",
    "control_dt": "it is config.dt",
    "physics_dt": "it is sim.model.opt.timestep",
    "reset_buf": "it is terminated | truncated",
    "reset_terminated": "it is terminated",
    "reset_time_outs": "it is truncated",
    "timeout_buf": "it is truncated",
    "time_out_buf": "it is truncated",
    "obs_dict": "it is observations",
    "get_observations": "it is observations",
    "actions": "it is previous_actions",
    "last_actions": "keep your own: copy previous_actions at the end of compute_reward (see"
    " velocity.py's last_actions)",
    "extras": "it is infos, and log_terms logs by name",
    "episode_sums": "log_terms logs by name",
    "reset_idx": "reset() begins episodes everywhere, and step() where others have ended",
    "gym": "it is sim",
    "scene": 'it is sim, and sim.actor("robot") a robot in it',
    "robot": "it is sim.actor(name); sim.actor_names lists them",
    "root_states": "they are in sim.actor(name), as root_pos, root_quat, ...",
    "dof_pos": "it is sim.actor(name).joint_pos",
    "dof_vel": "it is sim.actor(name).joint_vel",
    "render": "phalanx.adapters.gymnasium draws with render_mode, and `phalanx play` in a page",
    "seed": "torch.manual_seed(seed) also seeds tasks",
    "close": "nothing has to be closed",
    "unwrapped": "a task is not wrapped",
}
"""Names of IsaacGymEnvs, Isaac Lab, mjlab, legged_gym and Gymnasium, and what to write here."""


def check_class(task: "Task", base: "type[Task]") -> None:
    """Raise PhalanxError for a task class without a needed hook or number, with a hook of another
    number of arguments, or with a method that looks like a misspelt hook."""
    cls = type(task)
    here = f"the task {cls.__name__} ({_file_of(cls)})"
    for hook in NEEDED:
        if getattr(cls, hook) is getattr(base, hook):
            doc = " ".join((getattr(base, hook).__doc__ or "").split())
            raise PhalanxError(f"{here} needs the method {hook}: {doc}")
    bases = [c for c in reversed(cls.__mro__) if c not in base.__mro__]
    own = {name: value for c in bases for name, value in vars(c).items()}
    for name, method in own.items():
        if not inspect.isfunction(method) or name.startswith("_"):
            continue
        hook, instead = ISAACGYMENVS.get(name, ("", ""))
        if hook and hook not in own:
            raise PhalanxError(f"{here} has {name}, which is not called; write {instead}")
        if name in HOOKS:
            _check_arguments(here, name, method)
        near = difflib.get_close_matches(name, HOOKS.keys() - own.keys(), 1, cutoff=0.88)
        if near and name not in HOOKS:
            raise PhalanxError(f"{here} has {name}, which is not called; did you mean {near[0]}?")
    for c in bases:  # one that is no task, a mixin, may not have a super() to call
        if issubclass(c, base) and "post_physics_step" in vars(c):
            cure = "call super().post_physics_step(), which counts, observes and rewards"
            _check_super(c, "post_physics_step", cure)
    for number in ("num_obs", "num_actions"):
        if not isinstance(getattr(task, number, None), int):
            raise PhalanxError(f"{here} needs {number}, a whole number")


def _check_arguments(here: str, name: str, method: Any) -> None:
    values: list[None] = [None] * (1 + HOOKS[name])  # self and the hook's arguments
    try:
        inspect.signature(method).bind(*values)
    except TypeError:
        wanted = {0: "no argument", 1: "one argument"}[HOOKS[name]]
        raise PhalanxError(f"{here}: {name} must take {wanted} after self") from None


def check_init(cls: "type[Task]", base: "type[Task]") -> None:
    """Raise PhalanxError for an `__init__` that `tasks.make` cannot call, or that leaves out the
    base class's."""
    here = f"the task {cls.__name__} ({_file_of(cls)})"
    cure = "take config, device and engine, and pass them to super().__init__; init_buffers suits"
    cure += " a task's own tensors better"
    try:
        inspect.signature(cls).bind(None, device="", engine="")
    except TypeError:
        raise PhalanxError(f"{here}: __init__ must {cure}") from None
    for c in cls.__mro__:
        if "__init__" in vars(c) and issubclass(c, base) and c is not base:
            _check_super(c, "__init__", cure)


def _check_super(cls: "type[Task]", name: str, cure: str) -> None:
    code = getattr(inspect.unwrap(vars(cls)[name]), "__code__", None)
    if code is not None and name not in code.co_names:
        raise PhalanxError(f"the task {cls.__name__} ({_file_of(cls)}): {name} must {cure}")


def action_shape(task: "Task") -> tuple[int, ...]:
    """The shape of the actions that `step` takes."""
    space = task.action_space
    if isinstance(space, Box):
        return (task.num_envs, task.num_actions)
    return (task.num_envs, *((len(space.nvec),) if isinstance(space, MultiDiscrete) else ()))


def check_actions(task: "Task", actions: Any, shape: tuple[int, ...]) -> None:
    """Raise PhalanxError for actions that are no tensor of this shape, of the task's kind and on
    its device; on a CPU, where looking is cheap, also for a choice that there is not."""
    if isinstance(actions, Tensor) and actions.shape == shape and actions.device == task.device:
        space = task.action_space
        if not isinstance(space, Box):
            _check_choices(task, actions, space.n if isinstance(space, Discrete) else space.nvec)
        return
    given: object = type(actions).__name__
    if isinstance(actions, Tensor):
        given = f"a tensor of shape {tuple(actions.shape)} on {actions.device}"
    raise PhalanxError(
        f"{type(task).__name__}.step got {given} as actions; it must be a torch tensor of shape"
        f" {shape} on {task.device}"
    )


def _check_choices(task: "Task", actions: Tensor, counts: int | tuple[int, ...]) -> None:
    """counts: of the choices, or of those of each action."""
    name = type(task).__name__
    if actions.is_floating_point():
        raise PhalanxError(
            f"{name}.step got actions of type {actions.dtype}; its actions are choices, so they"
            " must be integers"
        )
    if task.device.type != "cpu":
        return
    wrong = (actions < 0) | (actions >= torch.tensor(counts))
    if wrong.any():
        raise PhalanxError(
            f"{name}.step got the action {int(actions[wrong][0])}; choices are numbered from 0 on,"
            f" and there are {counts}"
        )


def check_numbers(task: "Task", hook: str, values: Any, number: str, size: int) -> Tensor:
    """What `compute_observations` or `compute_states` returned, which must be real numbers, (N,
    size), on the task's device. number: the name of `size`. Raises PhalanxError otherwise."""
    where, shape = f"{type(task).__name__}.{hook}", (task.num_envs, size)
    if not isinstance(values, Tensor):
        given = "nothing" if values is None else f"a {type(values).__name__}"
        raise PhalanxError(f"{where} returns {given}; it must be a torch tensor of shape {shape}")
    if values.shape != shape:
        raise PhalanxError(
            f"{where} returns a tensor of shape {tuple(values.shape)}; with {number} = {size} it"
            f" must be {shape}"
        )
    if not values.is_floating_point():
        raise PhalanxError(f"{where} returns {values.dtype}; it must be real numbers: .float()")
    _check_device(task, where, values)
    return values


def _check_device(task: "Task", what: str, values: Tensor) -> None:
    if values.device != task.device:
        raise PhalanxError(
            f"{what} returns a tensor on {values.device}; make it on {task.device}, as with"
            " device=self.device"
        )


def check_reward(task: "Task", result: Any) -> tuple[Tensor, Tensor]:
    """What `compute_reward` returned, which must be a reward and a boolean, (N,) each. Raises
    PhalanxError for anything else."""
    where = f"{type(task).__name__}.compute_reward"
    if not isinstance(result, tuple) or len(result) != 2:
        raise PhalanxError(f"{where} must return two tensors: the reward, and what terminated")
    for name, value in zip(("reward", "terminated"), result, strict=True):
        if not isinstance(value, Tensor) or value.shape != (task.num_envs,):
            given = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value)
            raise PhalanxError(
                f"{where} returns a {name} of {given}; it must be a tensor of one value for each"
                f" environment, of shape {(task.num_envs,)}"
            )
        _check_device(task, where, value)
    if result[1].dtype != torch.bool:
        raise PhalanxError(
            f"{where} returns terminated as {result[1].dtype}; it must be boolean, as in"
            " height < 0.3"
        )
    return result[0], result[1]


def _file_of(cls: type) -> str:
    return str(getattr(sys.modules.get(cls.__module__), "__file__", cls.__module__))
