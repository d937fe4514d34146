"""Symmetry of left and right as a part of PPO: mirrored samples, and a loss on asymmetric actions.

    params.config.symmetry_config: {augment: true, mirror_loss_coef: 0.0}

The environment gives the mirror images: `env.mirrors()` returns two functions, of observations and
of actions. With `augment`, every minibatch holds each sample and its mirror image, with the same
advantage, return and old probability. The mirror loss is the mean square of the mirrored mean
action minus that of the mirrored observation. Sources: arXiv:1801.08093 (loss), arXiv:2403.04359
(augmentation).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from phalanx.config import ranged
from phalanx.errors import PhalanxError
from phalanx.rl.part import Part
from phalanx.spaces import Box


@dataclass(frozen=True)
class SymmetryConfig:
    """`params.config.symmetry_config`."""

    augment: bool = True
    """Whether minibatches also hold the mirror images of their samples."""
    mirror_loss_coef: float = ranged(0.0, at_least=0)
    """Weight of the mirror loss."""


def _misfit(env: Any, mirrors: Any) -> str:
    """What is wrong with the sizes of mirror images, empty if nothing is. Tried on zeros: a wrong
    one would fail only in the first minibatch."""
    spaces = {"observations": env.observation_space, "actions": env.action_space}
    for (name, space), mirror in zip(spaces.items(), mirrors, strict=True):
        row = torch.zeros(1, *space.shape, device=env.device)
        try:
            fits = mirror(row).shape == row.shape
        except (RuntimeError, IndexError):
            fits = False
        if not fits:
            sizes = " x ".join(map(str, space.shape))
            return (
                f"{type(env).__name__}.mirrors gives a mirror image of {name} for another number"
                f" than {sizes}"
            )
    return ""


def _mirrors(env: Any, model: Any) -> Any:
    """The environment's mirror images of observations and of actions. Raises PhalanxError if it or
    the model has none."""
    if not hasattr(env, "mirrors"):
        problem = "the environment has no `mirrors`"
    elif not isinstance(env.action_space, Box):
        space = env.action_space
        problem = f"only continuous actions have mirror images; this environment has {space}"
    elif model.is_rnn():
        problem = "a recurrent network has none"
    else:
        try:
            mirrors = env.mirrors()
        except PhalanxError as error:
            problem = str(error)
        else:
            problem = _misfit(env, mirrors)
            if not problem:
                return mirrors
    raise PhalanxError(
        f"params.config.symmetry_config: {problem};"
        " train.params.config.symmetry_config=null trains without mirror images"
    )


class Symmetry(Part):
    """See the module."""

    name = "symmetry"

    def __init__(self, config: SymmetryConfig, env: Any, model: Any) -> None:
        self.config, self.model = config, model
        self.of_observations, self.of_actions = _mirrors(env, model)
        self.mean_loss = torch.zeros((), device=torch.device(env.device))
        self._own: dict[str, Tensor] = {}

    def extend(self, batch: dict[str, Any], rows: Any) -> None:
        """Add the mirror images to the minibatch."""
        if not self.config.augment:
            return
        self._own = {name: batch[name] for name in ("mus", "sigmas") if name in batch}
        images = {"obs": self.of_observations(batch["obs"])}
        images |= {n: self.of_actions(batch[n]) for n in ("actions", "mus") if n in batch}
        if "sigmas" in batch:
            images["sigmas"] = self.of_actions(batch["sigmas"]).abs()
        for name, values in batch.items():
            if isinstance(values, Tensor):
                batch[name] = torch.cat([values, images.get(name, values)])

    def loss(self, loss: Tensor, batch: dict[str, Any]) -> Tensor:
        """Add the mirror loss."""
        if not self.config.mirror_loss_coef:
            return loss
        obs = batch["obs"][: len(batch["obs"]) // 2] if self.config.augment else batch["obs"]
        inputs = {**batch, "obs": torch.cat([obs, self.of_observations(obs)]), "is_train": False}
        inputs.pop("obs_moments", None)  # of the minibatch alone
        own, image = self.model.run(inputs)[0].chunk(2)
        apart = (image - self.of_actions(own)).square().sum(1).mean()
        self.mean_loss.copy_(apart.detach())
        return loss + self.config.mirror_loss_coef * apart

    def after_minibatch(self, mini_epoch: int, batch: dict[str, Any], result: Any) -> None:
        """Keep the new policy as the old one of the next pass, as without symmetry."""
        for name, values in self._own.items():
            values.copy_(batch[name][: len(values)])

    def statistics(self) -> dict[str, Tensor]:
        """See `Part`."""
        return {"losses/mirror": self.mean_loss} if self.config.mirror_loss_coef else {}
