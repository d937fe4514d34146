"""What a hook must not write, found in the first step of a task.

An observation that is computed in place, as in `joint_pos *= 0.1`, changes the simulation itself,
and a reset that ignores its mask moves robots in the middle of their episodes. Neither fails; a run
only learns less.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from phalanx.errors import PhalanxError

if TYPE_CHECKING:
    from phalanx.tasks.task import Task

READERS = ("compute_observations", "compute_reward", "compute_states")
STATES = ("qpos", "qvel", "act")
MANY = 0.25
"""The part of environments of which states change where a hook writes into them by mistake. In
fewer, a task may have moved what is not its robot, such as a goal that was reached."""


@contextlib.contextmanager
def checked_hooks(task: "Task") -> Iterator[None]:
    """Inside, raise PhalanxError for a hook that should only read and changes a field of the
    simulation, and for `reset_envs` if it changes states of environments outside its mask: on a
    CPU, which skips it where no episode ends, when it is first called for some environments."""
    own = {name: vars(task).get(name) for name in (*READERS, "reset_envs")}
    for name in READERS:
        setattr(task, name, _reader(task, name))
    if task.num_envs > 1:
        setattr(task, "reset_envs", _reset(task, own["reset_envs"]))  # noqa: B010
    try:
        yield
    finally:
        for name in READERS:
            _put_back(task, name, own[name])
        if task.num_envs > 1 and task.device.type != "cpu":
            _put_back(task, "reset_envs", own["reset_envs"])


def _put_back(task: "Task", name: str, own: Any) -> None:
    """Give `task` its attribute `own` again, or None: its class's."""
    vars(task).pop(name, None)
    if own is not None:
        setattr(task, name, own)


def _reader(task: "Task", name: str) -> Callable[..., Any]:
    hook, sim = getattr(task, name), task.sim

    def checked(*args: Any, **kwargs: Any) -> Any:
        before = {field: getattr(sim, field).clone() for field in STATES}
        result = hook(*args, **kwargs)
        for field, value in before.items():
            if not value.numel():
                continue
            changed = (~_same(getattr(sim, field), value)).any(1)
            if changed.float().mean() >= MANY:
                raise PhalanxError(
                    f"{type(task).__name__}.{name} writes into sim.{field} in place, which changes"
                    " the simulation; work on a copy, as in actor.joint_pos.clone(), or without"
                    " operations in place such as *= and [...] ="
                )
        return result

    return checked


def _reset(task: "Task", own: Any) -> Callable[..., None]:
    hook, sim = task.reset_envs, task.sim

    def checked(mask: Tensor, *args: Any, **kwargs: Any) -> None:
        states = {name: getattr(sim, name) for name in STATES}
        before = {name: state.clone() for name, state in states.items()}
        hook(mask, *args, **kwargs)
        if not mask.all() and vars(task).get("reset_envs") is checked:
            _put_back(task, "reset_envs", own)
        for name, state in states.items():
            if not (_same(state, before[name]).all(1) | mask).all():
                raise PhalanxError(
                    f"{type(task).__name__}.reset_envs changes sim.{name} of environments outside"
                    " of its mask, in the middle of their episodes; write only where it is true, as"
                    f" in sim.{name}.copy_(torch.where(mask[:, None], new, sim.{name}))"
                )

    return checked


def _same(a: Tensor, b: Tensor) -> Tensor:
    """Where values are equal or both NaN, of the same shape."""
    return (a == b) | ((a != a) & (b != b))


def capturing() -> bool:
    """Whether a CUDA graph is being captured, in which nothing can be compared."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
