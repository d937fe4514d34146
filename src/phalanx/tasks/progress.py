"""What outlasts the episodes of a task: schedules, counters and levels of curricula.

    task.load_progress(saved)       # new episodes begin, as task.load_state_dict(saved) failed

State of single environments belongs to their episodes. If it was declared with `lasting`, as the
level of a curriculum, it is dealt out to the environments of now, however many they are.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from phalanx.fits import count, mapping

if TYPE_CHECKING:
    from phalanx.tasks.task import Task


def load_progress(task: "Task", declared: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Restore this part of what `Task.state_dict` returned, on any engine, with any number of
    environments and on any ground. declared: the task's state, by name. Raises PhalanxError, before
    anything has changed, for a damaged state."""
    there = count(state.get("num_envs"), "its number of environments")
    past = mapping(state.get("task"), "it, in its task")
    if task.randomizer is not None and "randomizer" in state:
        task.randomizer.check_state(state["randomizer"], same=False)
        task.randomizer.load_state_dict(state["randomizer"], same=False)
    for name, now in declared.items():
        then = past.get(name)
        if not isinstance(then, Tensor) or then.dtype != now.dtype or then.isnan().any():
            continue
        if name in task.lasting:
            then = _dealt(then, there, task.num_envs)
        elif now.dim() and (len(now), *then.shape[:1]) == (task.num_envs, there):
            continue  # a value for each environment
        if then.shape == now.shape:
            now.copy_(then)


def _dealt(values: Tensor, there: int, here: int) -> Tensor:
    """Values (there, ...) for `here` environments, as many of each and in the same order, so that
    those of one kind of ground stay on it; unchanged if they are others."""
    if not there or values.shape[:1] != (there,):
        return values
    return values[torch.arange(here, device=values.device) * there // here]
