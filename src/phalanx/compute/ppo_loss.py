"""PPO's loss of a Gaussian policy and its gradient, in one compiled pass over a minibatch on a CPU.
torch takes about fifty operations forwards and seventy backwards."""

import ctypes
import math
from collections.abc import Mapping
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
        self._coefficients = [
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
        rows = [mu.contiguous(), value.contiguous(), *(batch[k].contiguous() for k in _ROWS)]
        sigma, old = log_std.exp(), batch["sigmas"][0]
        old_variance = 2 * (old**2 + 1e-5)
        small = [1 / sigma, 1 / old_variance]
        kl = (torch.log(old / sigma + 1e-5) - 0.5 + sigma**2 / old_variance).sum()
        gradients = [torch.empty_like(x) for x in (rows[0], rows[1])]
        constant = float(log_std.sum()) + _HALF_LOG_2PI * log_std.numel()
        inputs = np.array([*mu.shape, *(x.data_ptr() for x in (*rows, *small))], np.int64)
        outputs = np.array([x.data_ptr() for x in gradients], np.int64)
        numbers = np.array([constant, *self._coefficients], np.float64)
        fields = np.concatenate([inputs, numbers.view(np.int64), outputs])
        count, width = mu.shape
        threads = max(1, min(self._threads, count * width // _FEWEST))
        sums = torch.empty(threads, 4 + -(-3 * width // 2), dtype=torch.float64)  # `struct Sums`
        ends = [count * i // threads for i in range(threads + 1)]
        parts = [(sums[i].data_ptr(), ends[i], ends[i + 1]) for i in range(threads)]
        team.run(self._run, fields.ctypes.data, np.array(parts, np.int64))
        of_log_std = sums[:, 4:].view(torch.float32)[:, :width].sum(0)
        return (sums[:, :4].sum(0) / count).float(), kl, [*gradients, of_log_std]


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
