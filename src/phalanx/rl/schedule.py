"""Schedules of the learning rate and the entropy weight."""

from typing import Any

import torch
from torch import Tensor

from phalanx.fits import check_fits, number
from phalanx.rl.config import PPOConfig
from phalanx.rl.formulas import adaptive_lr, linear_decay


class Schedule:
    """Learning rate and entropy weight as tensors that captured graphs read, with the schedules of
    RL Games 1.6.5.

    lr, entropy_coef: current scalars; last_lr: learning rate of the last minibatch.
    `per_minibatch`: with schedule_type legacy, whether to change after every minibatch instead of
    every pass. `per_update`: with standard_epoch, whether to change after all passes instead of
    never.
    """

    def __init__(
        self, config: PPOConfig, lr: Tensor, per_minibatch: bool, per_update: bool
    ) -> None:
        self.config = config
        self.lr, self.last_lr = lr, lr.clone()
        self.entropy_coef = torch.tensor(config.entropy_coef, device=lr.device)
        self._next_lr, self._next_entropy = lr.clone(), self.entropy_coef.clone()
        kind = config.schedule_type
        legacy = kind in ("legacy", "per_minibatch")
        self._when = "update" if per_update else "never"
        if kind != "standard_epoch":
            self._when = "minibatch" if legacy and per_minibatch else "pass"
        if not per_minibatch:
            self._when = "pass"  # RL Games' discrete agent has no other

    def change_config(self, config: PPOConfig) -> None:
        """Continue with these settings."""
        self.config = config
        self.entropy_coef.fill_(config.entropy_coef)
        if config.lr_schedule not in ("adaptive", "linear"):
            self.lr.fill_(config.learning_rate)

    def begin_iteration(self, epoch: int, frame: int) -> None:
        """Compute a linear schedule's values for this iteration, on the host."""
        c = self.config
        if c.lr_schedule == "linear":
            past = (epoch, c.max_epochs) if c.max_epochs != -1 else (frame, c.max_frames)
            self._next_lr.fill_(linear_decay(c.learning_rate, c.min_lr, *past))
            if c.schedule_entropy:
                self._next_entropy.fill_(linear_decay(c.entropy_coef, 1e-4, *past))

    def after(self, what: str, kl: Tensor) -> None:
        """Called after each "minibatch", "pass" and "update" with its mean KL, a scalar; changes
        the learning rate if the schedule acts then."""
        c = self.config
        if what != self._when:
            return
        if c.lr_schedule == "adaptive":
            self.lr.copy_(adaptive_lr(self.lr, kl, c.kl_threshold, c.min_lr, c.max_lr))
        elif c.lr_schedule == "linear":
            self.lr.copy_(self._next_lr)
            self.entropy_coef.copy_(self._next_entropy)

    def load_lr(self, saved: float) -> None:
        """Use the learning rate of a checkpoint if this run has a schedule; a constant learning
        rate stays the config's."""
        if self.config.lr_schedule in ("adaptive", "linear"):
            self.lr.fill_(saved)

    def state_dict(self) -> dict[str, Any]:
        """The current values, and the settings that they started from."""
        c = self.config
        start = {"learning_rate": c.learning_rate, "entropy_coef": c.entropy_coef}
        return {"start": start, "lr": self.lr, "entropy_coef": self.entropy_coef}

    def check_state(self, state: Any) -> None:
        """Raise PhalanxError unless `state` is what `state_dict` returned."""
        check_fits(self.state_dict(), state, "schedule")
        for key in ("lr", "entropy_coef"):
            number(state[key], f"schedule.{key}", least=0)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from these values; a setting that the user has changed starts from its new
        value."""
        c = self.config
        if state["start"]["learning_rate"] == c.learning_rate:
            self.load_lr(float(state["lr"]))
        else:
            self.lr.fill_(c.learning_rate)
        same = state["start"]["entropy_coef"] == c.entropy_coef
        if same and c.lr_schedule == "linear":
            self.entropy_coef.copy_(state["entropy_coef"])
