"""Replay buffers: the last transitions of all environments, on the learner's device.

    replay = Replay(capacity, num_envs, obs_shape, (), torch.long, n_step=3, gamma=0.99, device=d)
    replay.write(obs=obs, actions=actions)       # before the step: `obs` may be a live buffer
    replay.write(rewards=..., next_obs=..., terminated=..., ended=...)
    replay.advance()
    batch = replay.sample(256)                   # y = batch["rewards"] + batch["discounts"] * V(s')

A ring of `capacity // num_envs` steps, each of N environments. Its write position and fill level
are device tensors, so that writing and sampling can be captured in a CUDA graph. The host keeps its
own count in `steps` and never reads them.
"""

from typing import Any

import torch
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.fits import check_finite, check_tensor, count, mapping, number


class Replay:
    """A ring of transitions, sampled uniformly with replacement.

    obs, next_obs (S, N, *shape): observations acted on, and those that the step reached, before any
    reset. rewards (S, N): shaped. terminated (S, N): the episode terminated; ended (S, N): it
    terminated or timed out. S = capacity // N. Raises PhalanxError if S is below `n_step`.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        obs_shape: tuple[int, ...],
        action_shape: tuple[int, ...],
        action_dtype: torch.dtype,
        device: torch.device,
        n_step: int = 1,
        gamma: float = 0.99,
    ) -> None:
        self.capacity = capacity // num_envs
        if self.capacity < n_step:
            raise PhalanxError(
                f"params.config.replay_buffer_size {capacity} holds {self.capacity} steps of"
                f" {num_envs} environments, but needs at least n_step, {n_step};"
                f" set it to {n_step * num_envs} or more"
            )
        self.num_envs, self.n_step, self.gamma, self.device = num_envs, n_step, gamma, device
        n = (self.capacity, num_envs)
        self.rows: dict[str, Tensor] = {
            "obs": torch.zeros(*n, *obs_shape, device=device),
            "next_obs": torch.zeros(*n, *obs_shape, device=device),
            "actions": torch.zeros(*n, *action_shape, dtype=action_dtype, device=device),
            "rewards": torch.zeros(*n, device=device),
            "terminated": torch.zeros(*n, dtype=torch.bool, device=device),
            "ended": torch.zeros(*n, dtype=torch.bool, device=device),
        }
        self.cursor = torch.zeros(1, dtype=torch.long, device=device)
        """Index of the next step to write, 0-d."""
        self.size = torch.zeros(1, dtype=torch.long, device=device)
        """Number of filled steps, at most S, 0-d."""
        self.steps = 0
        """Total number of steps written, counted on the host. Callers of `advance` in a captured
        graph must count here themselves."""

    def write(self, **values: Tensor) -> None:
        """Write values (N, ...) by name into the step at the cursor."""
        for name, value in values.items():
            rows = self.rows[name]
            rows.index_copy_(0, self.cursor, value[None].to(rows.dtype))

    def advance(self) -> None:
        """Complete the step at the cursor and move on."""
        self.cursor.add_(1).remainder_(self.capacity)
        self.size.add_(1).clamp_(max=self.capacity)

    def end_episodes(self) -> None:
        """New episodes begin in all environments: those of the newest step end with it."""
        newest = (self.cursor - 1) % self.capacity
        self.rows["ended"].index_fill_(0, newest, True)

    def sample(self, batch_size: int) -> dict[str, Tensor]:
        """Transitions over up to n steps, (B, ...): obs, actions, rewards, next_obs, discounts.

        rewards: r_0 + gamma r_1 + ..., up to n terms, none after the end of the episode. next_obs:
        the observation that the last of these steps reached. discounts: gamma^(number of terms),
        the factor of the value of next_obs; 0 if it terminated. As usual, without off-policy
        correction.
        """
        step, env = self.draw(batch_size)
        return self.gather(step, env)

    def draw(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """Step and environment, (B,) each, of random transitions followed by n - 1 more."""
        # Much larger than any ring, so that the remainder is practically uniform.
        number = torch.randint(0, 2**62, (batch_size,), device=self.device)
        number = number % ((self.size - self.n_step + 1) * self.num_envs)
        oldest = self.cursor - self.size
        step = (oldest + number // self.num_envs) % self.capacity
        return step, number % self.num_envs

    def gather(self, step: Tensor, env: Tensor) -> dict[str, Tensor]:
        """The transitions that begin at `step` in `env`, both (B,)."""
        row = step * self.num_envs + env
        first = last = row
        rewards = self._take("rewards", row)
        discounts = torch.full_like(rewards, self.gamma)
        alive = ~self._take("ended", row)
        for k in range(1, self.n_step):
            row = ((step + k) % self.capacity) * self.num_envs + env
            rewards = rewards + self.gamma**k * self._take("rewards", row) * alive
            last = torch.where(alive, row, last)
            discounts = torch.where(alive, self.gamma ** (k + 1), discounts)
            alive = alive & ~self._take("ended", row)
        return {
            "rows": first,
            "obs": self._take("obs", first),
            "actions": self._take("actions", first),
            "rewards": rewards,
            "next_obs": self._take("next_obs", last),
            "discounts": discounts * ~self._take("terminated", last),
        }

    def _take(self, name: str, row: Tensor) -> Tensor:
        return self.rows[name].flatten(0, 1).index_select(0, row)

    def state_dict(self) -> dict[str, Any]:
        """The filled part, which determines all samples."""
        filled = min(self.steps, self.capacity)
        rows = {k: v[:filled].clone() for k, v in self.rows.items()}
        return {"steps": self.steps, "rows": rows}

    def check_state(self, state: Any, actions: int | None) -> None:
        """Raise PhalanxError unless `state` is what `state_dict` returned, of any length and of
        steps of any shape; actions: the number of discrete ones."""
        steps = count(mapping(state, "replay").get("steps"), "replay.steps")
        rows = mapping(state.get("rows"), "replay.rows")
        filled = {len(v) if getattr(v, "ndim", 0) > 1 else -1 for v in rows.values()}
        if len(filled) != 1 or not min(steps, 1) <= max(filled) <= steps:
            raise PhalanxError(f"replay.rows has {filled} steps of {steps}")
        for name, own in self.rows.items():
            if name == "priorities" and name not in rows:
                continue  # of a replay without them
            value: Any = rows.get(name)
            where = f"replay.rows.{name}"
            check_tensor(value, where, getattr(value, "shape", ()), own.dtype)
            check_finite(value, where)
            if name == "priorities" and (value < 0).any():
                raise PhalanxError(f"{where} holds negative numbers")
        if actions is not None and not ((rows["actions"] >= 0) & (rows["actions"] < actions)).all():
            raise PhalanxError(f"replay.rows.actions holds numbers that are not 0 to {actions - 1}")
        if "largest" in state:
            number(state["largest"], "replay.largest", least=0)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; from a larger ring, only its last steps."""
        for name in state["rows"].keys() & self.rows.keys():
            there, here = (tuple(rows[name].shape[1:]) for rows in (state["rows"], self.rows))
            if there != here:
                raise PhalanxError(
                    f"its replay buffer has {name} of shape {there} per step, this run has {here};"
                    " the replay starts empty"
                )
        saved, steps = resize_ring(state["rows"], state["steps"], self.capacity)
        for name in saved.keys() & self.rows.keys():
            self.rows[name][: len(saved[name])].copy_(saved[name])
        self.rewind(steps)

    def rewind(self, steps: int) -> None:
        """Return to the point after `steps` written steps; steps overwritten since then stay."""
        self.steps = steps
        self.cursor.fill_(steps % self.capacity)
        self.size.fill_(min(steps, self.capacity))


class PrioritizedReplay(Replay):
    """Samples transitions with probability P proportional to priority = (|TD error| + eps)^alpha.

    New transitions get the largest priority so far. Sampling is stratified. Each sample has a
    weight (M P)^-beta, with M the number of transitions, divided by the largest weight of the
    batch. Sums run over the whole ring, which is faster on the device than a tree. Source:
    arXiv:1511.05952.
    """

    EPSILON = 1e-6

    def __init__(self, *args: Any, alpha: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.alpha = alpha
        self.rows["priorities"] = torch.zeros(self.capacity, self.num_envs, device=self.device)
        self.largest = torch.ones((), device=self.device)
        self.beta = torch.ones((), device=self.device)
        """Exponent of the weights, a tensor so that a schedule can change it between graphs."""
        self._places = torch.arange(self.capacity, device=self.device)

    def advance(self) -> None:
        self.write(priorities=self.largest.expand(self.num_envs))
        super().advance()

    def sample(self, batch_size: int) -> dict[str, Tensor]:
        """Like `Replay.sample`, with `weights` (B,)."""
        age = (self.cursor - 1 - self._places) % self.capacity  # 0: written last
        complete = (age >= self.n_step - 1) & (age < self.size)
        mass = torch.where(complete[:, None], self.rows["priorities"], 0.0).flatten()
        cumulative = mass.double().cumsum(0)
        total = cumulative[-1]
        strata = torch.arange(batch_size, device=self.device)
        strata = strata + torch.rand(batch_size, dtype=torch.float64, device=self.device)
        # Just below the total, so that rounding cannot reach past the last transition.
        at = (strata / batch_size * total).clamp(max=total * (1 - 1e-9))
        row = torch.searchsorted(cumulative, at, right=True)
        row = row.clamp(max=len(mass) - 1)  # priorities that are NaN make losses that the run names
        batch = self.gather(row // self.num_envs, row % self.num_envs)
        transitions = (self.size - self.n_step + 1) * self.num_envs
        weights = (transitions * mass[row] / total.float()) ** -self.beta
        return {**batch, "weights": weights / weights.max()}

    def update_priorities(self, rows: Tensor, td_errors: Tensor) -> None:
        """Set the priorities of a batch's transitions `rows` from their TD errors (B,)."""
        priorities = (td_errors.abs() + self.EPSILON) ** self.alpha
        self.rows["priorities"].flatten().index_copy_(0, rows, priorities)
        self.largest.copy_(torch.maximum(self.largest, priorities.max()))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "largest": self.largest.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        largest = state.get("largest", torch.ones(()))
        priorities = state["rows"].get("priorities", largest)
        if largest.shape != () or not all(_are_positive(x) for x in (largest, priorities)):
            raise PhalanxError(
                "its replay buffer has priorities that are not positive numbers; the replay starts"
                " empty"
            )
        self.rows["priorities"].fill_(1.0)  # as for new transitions, if `state` has none
        super().load_state_dict(state)
        self.largest.copy_(largest)


def _are_positive(numbers: Tensor) -> bool:
    return bool((numbers.isfinite() & (numbers > 0)).all())


def resize_ring(
    rows: dict[str, Tensor], written: int, capacity: int
) -> tuple[dict[str, Tensor], int]:
    """Convert a saved ring to one of `capacity`. rows: its filled part, (L, ...) each; written: the
    steps written to it. Returns the rows that fit and the corresponding count of steps."""
    filled = len(next(iter(rows.values())))
    if filled == min(written, capacity):
        return rows, written
    kept = min(filled, capacity)
    order = torch.arange(written - kept, written) % filled
    return {name: values[order.to(values.device)] for name, values in rows.items()}, kept
