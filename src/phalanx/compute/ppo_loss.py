"""PPO's loss of a Gaussian policy and its gradient, in one compiled pass over a minibatch on a CPU.
torch takes about fifty operations forwards and seventy backwards."""

import ctypes
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from phalanx.compute import clang, team

_SOURCE = Path(__file__).with_name("ppo_loss.h")
_ROWS = ("actions", "neglogpacs", "advantages", "old_values", "returns", "mus")
_FEWEST = 10_000  # numbers of a thread, about 50 us; fewer are not worth another one
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class PPOLoss:
    """The loss for these weights and bounds, see `PPO.calc_losses`. clip_value: None leaves values
    free. soft_bound: 0 for a penalty on all means. Raises PhalanxError if Warp's clang does not
    compile it."""

    def __init__(
        self,
        clip: float,
        clip_value: float | None,
        value_weight: float,
        bounds_weight: float,
        soft_bound: float,
        threads: int = 1,
    ) -> None:
        self.coefficients = [
            *(clip, -1.0 if clip_value is None else clip_value),
            *(value_weight, bounds_weight, soft_bound),
        ]
        self.value_weight = value_weight
        self.weights = torch.tensor([1.0, value_weight, bounds_weight])
        self._threads = threads
        word, long = ctypes.c_void_p, ctypes.c_long
        signature = {"ppo_loss": (None, word, word, long, long)}
        compiled = clang.functions(_SOURCE.read_text("utf-8"), signature)
        self._run = clang.address(compiled["ppo_loss"])

    def __call__(
        self, mu: Tensor, log_std: Tensor, value: Tensor, batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss without entropy, a scalar, with the gradients of means `mu` (B, A), `log_std`
        (A,) and `value` (B, 1); actor, value and bounds loss, (3,); the KL from the old policy, a
        scalar. batch: "actions", "mus", "sigmas" (B, A), the last the same in all rows;
        "neglogpacs", "advantages" (B,); "old_values", "returns" (B, 1)."""
        found: tuple[Tensor, Tensor, Tensor] = _Loss.apply(self, mu, log_std, value, batch)
        return found

    def run(
        self, mu: Tensor, log_std: Tensor, value: Tensor, batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Sums of the losses and of the KL's part that depends on means, (4,), divided by B; the
        rest of the KL; the gradients."""
        mu, value = mu.contiguous(), value.contiguous()
        gradients = [torch.empty_like(mu), torch.empty_like(value)]
        loss = LossOf(self, log_std, batch, (mu, value), gradients)
        count, width = mu.shape
        threads = max(1, min(self._threads, count * width // _FEWEST))
        sums = torch.empty(threads, sums_width(width), dtype=torch.float64)
        parts = team.parts(count, [row.data_ptr() for row in sums])
        team.run(self._run, loss.address, parts)
        means, of_log_std = added_up(sums, width, count)
        return means, loss.kl, [*gradients, of_log_std]


class LossOf:
    """`struct Loss` of the C code for one minibatch; `address` is valid as long as this object
    exists. kl: the part of the KL that depends on no means."""

    def __init__(
        self,
        own: PPOLoss,
        log_std: Tensor,
        batch: Mapping[str, Tensor],
        outputs: Sequence[Tensor] = (),
        gradients: Sequence[Tensor] = (),
    ) -> None:
        rows = [batch[k].contiguous() for k in _ROWS]
        sigma, old = log_std.exp(), batch["sigmas"][0]
        old_variance = 2 * (old**2 + 1e-5)
        small = [1 / sigma, 1 / old_variance]
        self.kl = (torch.log(old / sigma + 1e-5) - 0.5 + sigma**2 / old_variance).sum()
        self.old_mus = rows[-1]
        constant = float(log_std.sum()) + _HALF_LOG_2PI * log_std.numel()
        before, after = ([x.data_ptr() for x in xs] or [0, 0] for xs in (outputs, gradients))
        inputs = [*batch["actions"].shape, *before, *(x.data_ptr() for x in (*rows, *small))]
        numbers = np.array([constant, *own.coefficients], np.float64).view(np.int64)
        self._fields = np.concatenate([np.array(inputs, np.int64), numbers, np.array(after)])
        self._kept = (rows, small, outputs, gradients)
        self.address = self._fields.ctypes.data


def sums_width(actions: int) -> int:
    """Of `struct Sums`, in float64."""
    return 4 + -(-3 * actions // 2)


def added_up(sums: Tensor, actions: int, count: int) -> tuple[Tensor, Tensor]:
    """Of the threads' `struct Sums`, (threads, sums_width(A)): the first four, divided by `count`,
    and the gradient of log sigma, (A,)."""
    means = (sums[:, :4].sum(0) / count).float()
    return means, sums[:, 4:].view(torch.float32)[:, :actions].sum(0)


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, own: PPOLoss, mu: Tensor, log_std: Tensor, value: Tensor, batch: Any
    ) -> Any:
        means, kl, ctx.gradients = own.run(mu, log_std, value, batch)
        ctx.trains_value = own.value_weight != 0  # by a gradient of zero weights would decay
        losses, kl = means[:3], kl + means[3]
        ctx.mark_non_differentiable(losses, kl)
        return (losses * own.weights).sum(), losses, kl

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> Any:
        mu, value, log_std = (gradient * g for g in ctx.gradients)
        return None, mu, log_std, value if ctx.trains_value else None, None
