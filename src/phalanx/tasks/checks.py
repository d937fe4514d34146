"""What a task file and its callers can get wrong, as one sentence each.

On a GPU, checks of a step look at shapes, types and devices only, so they cost nothing where it is
compiled or captured.
"""

import difflib
import inspect
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.layout import Term, sizes_add_up
from phalanx.spaces import Box, Discrete, MultiDiscrete

if TYPE_CHECKING:
    from phalanx.tasks.task import Task

NEEDED = "create_scene pre_physics_step compute_observations compute_reward".split()
HOOKS = (
    *(*NEEDED, "init_buffers", "compute_states", "reset_envs", "post_physics_step"),
    *("observation_layout", "action_layout", "scalars", "give_command"),
)
"""Hooks of a task; a method whose name is nearly one of them is a mistake."""
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
        _check_arguments(here, cls, name, method)
        near = difflib.get_close_matches(name, set(HOOKS) - own.keys(), 1, cutoff=0.88)
        if near and name not in HOOKS:
            raise PhalanxError(f"{here} has {name}, which is not called; did you mean {near[0]}?")
    for c in bases:  # one that is no task, a mixin, may not have a super() to call
        if issubclass(c, base) and "post_physics_step" in vars(c):
            cure = "call super().post_physics_step(), which counts, observes and rewards"
            _check_super(c, "post_physics_step", cure)
    for number in ("num_obs", "num_actions"):
        if not isinstance(getattr(task, number, None), int):
            raise PhalanxError(f"{here} needs {number}, a whole number")


def _check_arguments(here: str, cls: type, name: str, method: Any) -> None:
    """Raise PhalanxError for a method that cannot take the arguments of the one of Phalanx that it
    replaces, such as a hook."""
    ours = (c for c in reversed(cls.__mro__) if c.__module__.split(".")[0] == "phalanx")
    replaced = next((vars(c)[name] for c in ours if name in vars(c)), None)
    if not inspect.isfunction(replaced):
        return
    wanted = [
        argument.name
        for argument in list(inspect.signature(replaced).parameters.values())[1:]
        if argument.kind is argument.POSITIONAL_OR_KEYWORD and argument.default is argument.empty
    ]
    try:
        inspect.signature(method).bind(None, *wanted)  # None: self
    except TypeError:
        named = f"the argument{'s' * (len(wanted) > 1)} {' and '.join(wanted)}"
        raise PhalanxError(
            f"{here}: {name} must take {named if wanted else 'no argument'} after self"
        ) from None


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
    _check_device(task.device, f"{where} returns a tensor", values)
    return values


def _check_device(device: torch.device, what: str, values: Tensor) -> None:
    if values.device != device:
        raise PhalanxError(
            f"{what} on {values.device}; make it on {device}, as with device=self.device"
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
        _check_device(task.device, f"{where} returns a tensor", value)
    if result[1].dtype != torch.bool:
        raise PhalanxError(
            f"{where} returns terminated as {result[1].dtype}; it must be boolean, as in"
            " height < 0.3"
        )
    return result[0], result[1]


def check_named(
    like: Tensor,
    what: str,
    kind: str,
    values: Any,
    alike: bool = False,
    boolean: bool = False,
) -> None:
    """Raise PhalanxError unless `values` are tensors by name, each of the shape (N,) of `like` and
    on its device, or () if it may be `alike` everywhere. what, kind: as in "Dog.falls returns" and
    "cause"."""
    shape = tuple(like.shape)
    if not isinstance(values, Mapping):
        raise PhalanxError(
            f"{what} {_a(values)} as {kind}s; it must be a dict of names and tensors of shape"
            f" {shape}"
        )
    for name, value in values.items():
        here = f"{what} the {kind} {name!r}"
        if not isinstance(value, Tensor) or value.shape not in (shape, *([(), (1,)] * alike)):
            raise PhalanxError(
                f"{here} as {_a(value)}; it must be a tensor of one value for each environment, of"
                f" shape {shape}{', or () if it is the same everywhere' * alike}"
            )
        if boolean and value.dtype != torch.bool:
            raise PhalanxError(f"{here} as {value.dtype}; it must be boolean, as in height < 0.3")
        _check_device(like.device, f"{here} as a tensor", value)


def _a(value: object) -> str:
    shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
    return "nothing" if value is None else f"a {type(value).__name__}{shape}"


def check_free(what: str, names: Iterable[str], taken: Iterable[str]) -> None:
    """Raise PhalanxError if one of `names` is among those that Phalanx itself gives."""
    for name in taken:
        if name in names:
            raise PhalanxError(f"{what} {name!r}, a name that Phalanx gives itself; take another")


def check_logged(task: "Task", rewards: Any, ends: Any, numbers: Any) -> None:
    """Raise PhalanxError for what `Task.log_terms` cannot log."""
    what = f"{type(task).__name__}.log_terms gets"
    check_named(task.terminated, what, "reward", rewards, alike=True)
    check_named(task.terminated, what, "end", ends, alike=True, boolean=True)
    check_named(task.terminated, what, "number", numbers, alike=True)
    check_free(f"{what} the end", ends, ["time"])


def checked_layout(task: "Task") -> tuple[Term, ...]:
    """What `observation_layout` returns. Raises PhalanxError unless it describes as many numbers as
    the task observes: noise by term, mirror images and exported policies go by it."""
    name, given = type(task).__name__, task.observation_layout()
    terms = tuple(given) if isinstance(given, Iterable) else (None,)
    if not all(isinstance(t, Term) for t in terms):
        raise PhalanxError(
            f"{name}.observation_layout must return a tuple of terms, as in (Term('obs', size=4),)"
        )
    sizes_add_up(terms, task.obs_size, name)
    return tuple(terms)


def _file_of(cls: type) -> str:
    return str(getattr(sys.modules.get(cls.__module__), "__file__", cls.__module__))
