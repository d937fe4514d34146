"""RL Games' `use_diagnostics`: explained variance of the value, clip fractions of the ratio."""

from typing import Any

import torch
from torch import Tensor

from phalanx.rl.formulas import clip_fraction, explained_variance
from phalanx.rl.part import Part


class Diagnostics(Part):
    """A part of PPO that only logs, with RL Games' tags `diagnostics/*`."""

    name = "diagnostics"

    def __init__(self, learner: Any) -> None:
        c = self.config = learner.config
        self.minibatches = learner.batch_size // learner.minibatch_size
        self.normalizers = {
            "rms_value": (learner.critic.model.value_mean_std, "running_mean", "running_var"),
            "rms_advantage": (learner.advantage_mean_std, "mean", "var"),
        }
        self.explained = torch.zeros((), device=learner.device)
        self.clipped = torch.zeros(c.mini_epochs, device=learner.device)

    def change_config(self, config: Any) -> None:
        """See `Part`."""
        self.config = config
        if config.mini_epochs != len(self.clipped):  # graphs that know the old ones are forgotten
            self.clipped = torch.zeros(config.mini_epochs, device=self.clipped.device)

    def fit(self, dataset: dict[str, Any]) -> None:
        """Reset the means at the start of an update."""
        self.explained.zero_()
        self.clipped.zero_()

    @torch.no_grad()
    def after_minibatch(self, mini_epoch: int, batch: dict[str, Any], result: Any) -> None:
        """See `Part`."""
        share = 1.0 / self.minibatches
        variance = explained_variance(result["values"], batch["returns"])
        self.explained += variance * share / self.config.mini_epochs
        new, old = result["prev_neglogp"], batch["neglogpacs"]
        self.clipped[mini_epoch] += clip_fraction(old, new, self.config.e_clip) * share

    def statistics(self) -> dict[str, Tensor]:
        """See `Part`."""
        found = {"diagnostics/exp_var": self.explained}
        found |= {f"diagnostics/clip_frac/{k}": x for k, x in enumerate(self.clipped)}
        for name, (normalizer, mean, var) in self.normalizers.items():
            if normalizer is not None:
                found[f"diagnostics/{name}/mean"] = getattr(normalizer, mean).float().mean()
                found[f"diagnostics/{name}/var"] = getattr(normalizer, var).float().mean()
        return found
