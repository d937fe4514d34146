"""Rewards that are finite but absurd: one of 1e12 would spoil the normalisation of values, the mean
return and with it the choice of the best checkpoint, for the rest of a run.

A reward is absurd if it is above `ABSURD` times the root mean square of about the last `WINDOW`
rewards, where a root mean square below 1 counts as 1. It counts as 0, and the run says so once; all
others stay what they are, bit for bit. Absurd ones enter that mean as 1 / sqrt(`ABSURD`) of their
limit, so that large rewards are soon ordinary if they come more often than once in `ABSURD`.
"""

import torch
from torch import Tensor

from phalanx.rl import ranks

ABSURD = 1e4
WINDOW = 1e5  # rewards


class AbsurdRewards:
    """Finds absurd rewards of `num_envs` environments, without waiting for a GPU."""

    def __init__(self, num_envs: int, device: torch.device) -> None:
        self._rate = min(1.0, num_envs / WINDOW)
        self._state = torch.zeros(3, dtype=torch.double, device=device)
        """An exponential mean of squares, its weight, and the number of steps."""
        self._first = torch.zeros(4, dtype=torch.double, device=device)
        """The first one: its environment, step counted from 1, value, root mean square before."""
        self._on_cpu = self._state.numpy() if device.type == "cpu" else None

    def restart(self) -> None:
        """Forget all, because the run continues from another state."""
        self._state.zero_()
        self._first.zero_()

    def state_dict(self) -> dict[str, Tensor]:
        """What is usual."""
        return {"squares": self._state}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        self._state.copy_(state["squares"])

    def without(self, reward: Tensor, shaped: Tensor) -> tuple[Tensor, Tensor]:
        """A step's rewards, as the environment gave them and after shaping, (N,) each; 0 in both
        where the shaped one is absurd. Those that are not finite stay."""
        if self._on_cpu is not None:  # asking is free, and none is if all together are small
            total, (square, weight, steps) = float(shaped.dot(shaped)), self._on_cpu
            if total <= ABSURD**2 * max(1.0, square / max(weight, 1e-9)):
                square += self._rate * (total / len(shaped) - square)
                self._on_cpu[:] = square, weight + self._rate * (1.0 - weight), steps + 1
                return reward, shaped
        size = shaped.abs().double()
        before = self._usual()
        counted = torch.where(size > ABSURD * before, ABSURD**0.5 * before, size)
        square, weight, steps = self._state
        square.lerp_(counted.square().mean(), self._rate)
        weight.lerp_(torch.ones_like(weight), self._rate)
        steps += 1
        usual = self._usual()
        absurd = (size > ABSURD * usual) & size.isfinite()
        env = absurd.long().argmax(0, keepdim=True)
        value = reward.double().gather(0, env)  # an index would be asked of the device
        found = torch.stack([env[0].double(), steps, value[0], before])
        new = absurd.any() & (self._first[1] == 0)
        self._first.copy_(torch.where(new, found, self._first))
        return torch.where(absurd, 0.0, reward), torch.where(absurd, 0.0, shaped)

    def report(self, epoch: int, steps: int, steps_of_run: int) -> str:
        """A sentence on the first one, empty if there is none. epoch: the iteration that has ended,
        of `steps` steps; steps_of_run: each environment's so far. Waits for the device."""
        env, at, value, usual = self._first.tolist()
        if not at:
            return ""
        ago = int(self._state[2] - at)
        when = f"iteration {epoch - ago // steps} (step {steps_of_run - ago} of the run)"
        when += f" on rank {ranks.rank()}" if ranks.size() > 1 else ""
        return (
            f"environment {env:.0f} gave a reward of {value:.4g} in {when}, where about {usual:.2g}"
            " is usual; such rewards count as 0, because one spoils a run; correct the environment,"
            " or if it means them, scale all down with params.config.reward_shaper.scale_value"
        )

    def _usual(self) -> Tensor:
        square, weight, _ = self._state
        return (square / weight.clamp(min=1e-9)).sqrt().clamp(min=1.0)
