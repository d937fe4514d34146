"""Finds the origin of the first number that is not finite."""

from typing import Any

import torch
from torch import Tensor

from phalanx.rl import ranks
from phalanx.rl.nested import nested

RETURN, SHAPED_RETURN = 0, 1  # columns of EpisodeSums.finished


def why_not_finite(run: Any, restart_point: Any, iterations: int) -> str:
    """A message for statistics with NaN or infinity: the first bad quantity, its environment and
    step. On CUDA, more iterations have run since then and a NaN spreads, so up to `iterations` are
    repeated one by one from `restart_point` until the first bad one; None: nothing to repeat."""
    env, learner = run.env, run.agent
    if restart_point is not None:
        learner.set_full_state_weights(restart_point)
        for _ in range(iterations):
            run.epoch_num += 1
            run.iterate(lambda: None)
            run.frame += run.frames_per_iteration
            finite = all(x.isfinite().all() for x in learner.statistics().values())
            if ranks.from_any("" if finite else "found"):
                break
    own = _origin(env, learner, run.frame - run.frames_per_iteration)
    nowhere = "rewards and observations are finite; try a lower learning rate"
    return ranks.from_any(own) or nowhere


def _origin(env: Any, learner: Any, frame: int) -> str:
    """The message for the learner's last iteration, which began after `frame` steps; empty if
    this rank's numbers are finite."""
    if hasattr(env, "why_not_finite") and (said := env.why_not_finite()):
        return str(said)
    finished = learner.statistics()["finished"]
    found = {name: _bad(x) for name, x in learner.blame().items() if x is not None}
    # What the next step would act on, (N, T + 1): the last step may have brought the NaN.
    acted_on = torch.cat(
        [found["observations"], _bad(nested(lambda x: x[:, None], learner.obs))], 1
    )
    found["observations"] = acted_on
    if "terminal observations" in found:  # where no episode ended, they are the next observations
        found["terminal observations"] &= ~acted_on[:, 1:]
    rewards = found.pop("rewards")  # (N, T), after shaping
    # A bad reward makes the sums over episodes bad in its own step, whichever episodes end.
    bad_sum = ~finished.isfinite()
    given, shaped = bad_sum[:, RETURN], bad_sum[:, SHAPED_RETURN]
    found["rewards"] = rewards & given
    found["shaped rewards"] = rewards & shaped & ~given.any()
    first = min(
        ((int(bad.any(0).nonzero()[0]), name) for name, bad in found.items() if bad.any()),
        key=lambda step_and_name: step_and_name[0],
        default=None,
    )
    if first is None:
        return ""
    t, name = first
    envs = found[name][:, t].nonzero()[:, 0].tolist()
    step = frame // (learner.num_actors * ranks.size()) + t + 1
    where = f"environment {envs[0]} in step {step} of the run"
    if ranks.size() > 1:
        where += f" on rank {ranks.rank()}"
    if len(envs) > 1:
        where += f" (and of {len(envs) - 1} more in that step)"
    if name == "shaped rewards":
        return (
            "the environment's rewards are finite, but after params.config.reward_shaper the reward"
            f" of {where} is not; change the shaper: its log_val needs positive rewards"
        )
    return f"the {name} of {where} are not finite; correct the environment"


def _bad(values: Any) -> Tensor:
    """(N, T) bool: True where tensors (N, T, ...), or dictionaries of them, are not finite."""
    bad: list[Tensor] = []
    nested(lambda x: bad.append(~x.isfinite().reshape(*x.shape[:2], -1).all(2)), values)
    return torch.stack(bad).any(0)
