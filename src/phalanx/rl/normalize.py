"""Running mean and variance, as RL Games 1.6.5 keeps them."""

import torch
from torch import Tensor, nn


class RunningMeanStd(nn.Module):
    """Normalises (B, *shape) by statistics over the first dimension.

    In training mode a forward pass first merges the batch into the statistics, which are float64;
    in evaluation mode they stay. The result is clamped to +-5. Source of the merge: Chan, Golub
    and LeVeque 1979; population variance and eps 1e-5 as in RL Games 1.6.5.
    """

    running_mean: Tensor
    running_var: Tensor
    count: Tensor

    def __init__(self, shape: tuple[int, ...], epsilon: float = 1e-5) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.register_buffer("running_mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("running_var", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("count", torch.ones((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Merge the batch `x`, (B, *shape)."""
        var, mean = torch.var_mean(x, dim=0, correction=0)
        n = x.shape[0]
        delta = mean - self.running_mean
        total = self.count + n
        merged = self.running_var * self.count + var * n + delta**2 * self.count * n / total
        self.running_var.copy_(merged / total)
        self.running_mean.add_(delta * n / total)
        self.count.copy_(total)

    def forward(self, x: Tensor, denorm: bool = False) -> Tensor:
        """Normalised x, or with `denorm` the inverse for values in normalised units."""
        if self.training and not denorm:
            self.update(x)
        mean = self.running_mean.float()
        std = torch.sqrt(self.running_var.float() + self.epsilon)
        if denorm:
            return x.clamp(-5.0, 5.0) * std + mean
        return ((x - mean) / std).clamp(-5.0, 5.0)
