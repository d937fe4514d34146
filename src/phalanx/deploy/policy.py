"""`Policy`: runs an exported policy at its rate, from a robot's state to targets for its joints.

    policy = Policy("Ant.pth.onnx")
    policy.reset()                              # at the start of an episode
    while True:
        command = policy.update(clock(), read_state)   # runs the network once per control_dt
        send(command.by_joint())
    print(policy.latency())

One object is for one robot: it keeps the recurrent state, the previous action and the clock.
`update` is the same as `step` at a control step, and holds the last command in between. The robot's
program is responsible for physical joint limits and a watchdog.
"""

import copy
import math
import time as clock
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phalanx.deploy.metadata import KEY, Metadata
from phalanx.deploy.network import Network, metadata_text, open_session
from phalanx.deploy.observe import Observer, RobotState
from phalanx.errors import PhalanxError, did_you_mean

Array = NDArray[Any]
KEPT = 16384
"""Number of most recent steps for the latency."""


@dataclass(frozen=True)
class Command:
    """The policy's command to the robot until the next control step."""

    action: Array
    """(A,) within the metadata's clip; integers if discrete."""
    targets: Array
    """(J,) of `joints`, in the metadata's unit and within its limits; empty for kind custom."""
    saturated: Array
    """(J,) bool: whether the target is at a limit. For kind custom (A,): whether the action is."""
    joints: tuple[str, ...]

    def by_joint(self) -> dict[str, float]:
        """Targets by joint name."""
        return dict(zip(self.joints, self.targets.tolist(), strict=True))


@dataclass(frozen=True)
class Latency:
    """Wall time of a step [ms], over `steps` steps: from the robot's state to targets, and of the
    network alone."""

    steps: int
    median: float
    p99: float
    network_median: float
    network_p99: float


class Policy:
    """The policy in the file at `path`, which `phalanx export` wrote.

    limits: {joint: (low, high)} for targets, narrower than the metadata's. threads: CPU threads of
    the network.
    Raises PhalanxError for any other file, or if onnxruntime is missing.
    """

    def __init__(
        self,
        path: str | Path,
        limits: Mapping[str, tuple[float, float]] | None = None,
        threads: int = 1,
    ) -> None:
        session = open_session(path, threads)
        text = metadata_text(session, KEY, path)
        if text is None:
            raise PhalanxError(
                f"{path} is an ONNX model without metadata under {KEY!r}, so it was not written by"
                " `phalanx export`; export the policy's checkpoint with it"
            )
        self.metadata = about = Metadata.from_json(text, path)
        self._network = Network(session, about)
        self._observer = Observer(about.observation, [j.name for j in about.joints])
        self._low, self._high = np.array(about.action.low), np.array(about.action.high)
        for joint, (low, high) in (limits or {}).items():
            if joint not in about.action.joints:
                raise PhalanxError(
                    f"limits are given for {joint!r}, which the policy does not move"
                    f"{did_you_mean(joint, about.action.joints)}; it moves:"
                    f" {', '.join(about.action.joints) or 'nothing by name'}"
                )
            if not _ordered(low, high):
                raise PhalanxError(
                    f"limits for {joint!r} are {low!r} .. {high!r}; they must be two numbers, the"
                    " lower one first"
                )
            k = about.action.joints.index(joint)
            self._low[k], self._high[k] = max(low, self._low[k]), min(high, self._high[k])
            if self._low[k] > self._high[k]:
                raise PhalanxError(
                    f"limits for {joint!r} are {low} .. {high}, outside the policy's range"
                    f" {about.action.low[k]} .. {about.action.high[k]}"
                )
        if about.action.joints:
            margin = 1e-6 * (self._high - self._low)
            self._at_low, self._at_high = self._low + margin, self._high - margin
        else:
            self._at_high = np.full(about.action.size, (about.action.clip or np.inf) * (1 - 1e-6))
            self._at_low = -self._at_high
        self.reset()
        self._forget_latency()

    def clone(self) -> "Policy":
        """A policy for another robot, reset, that shares this one's network in memory."""
        other = copy.copy(self)
        other._network = Network(self._network.session, self.metadata)
        other._observer = copy.deepcopy(self._observer)
        other.reset()
        other._forget_latency()
        return other

    def reset(self) -> None:
        """Begin an episode: zero the recurrent state and the previous action, restart the clock."""
        self._network.reset()
        self._action = np.zeros(self.metadata.action.size)
        self._due = -math.inf
        self._command: Command | None = None
        self._past: Array | None = None

    def update(self, time: float, state: RobotState | Callable[[], RobotState]) -> Command:
        """The command at `time` [s], from any clock that does not jump: a new one if a control step
        is due, otherwise the previous one. `state` may be a function, called only if it is needed.

        A late call does not shift later steps, unless it is a whole step late.
        Raises PhalanxError for an incomplete state.
        """
        dt = self.metadata.control_dt
        if self._command is None or time >= self._due - 1e-6 * dt:
            self._command = self.step(state() if callable(state) else state)
            late = self._due == -math.inf or time - self._due >= dt
            self._due = (time if late else self._due) + dt
        return self._command

    def step(self, state: RobotState) -> Command:
        """Compute the next command. Raises PhalanxError for an incomplete state."""
        return self.act(self.remember(self.observe(state)))

    def observe(self, state: RobotState) -> Array:
        """The observation (D,), float32, as the task computes it, clipped. Raises PhalanxError for
        an incomplete state."""
        start = clock.perf_counter_ns()
        observation = self._observer(state, self._action)
        self._observing = clock.perf_counter_ns() - start
        return observation

    def remember(self, observation: Array) -> Array:
        """The network's input: the observation, after those of the steps before, of policies that
        were trained with `history`."""
        length = self.metadata.observation.history
        if length == 1:
            return observation
        if self._past is None:
            self._past = np.tile(observation, length)
        else:
            self._past = np.concatenate([self._past[len(observation) :], observation])
        return self._past

    def act(self, observation: Array) -> Command:
        """The next command for the network's input (D,); updates recurrent state and previous
        action. Raises PhalanxError for a wrong size or an output that is not finite."""
        start = clock.perf_counter_ns()
        about = self.metadata
        if np.shape(observation) != (about.observation.size,):
            raise PhalanxError(
                f"the observation has shape {np.shape(observation)}; the policy takes"
                f" ({about.observation.size},)"
            )
        before = clock.perf_counter_ns()
        action, targets = self._network(observation)
        after = clock.perf_counter_ns()
        if not math.isfinite(action.dot(action) + targets.dot(targets)):
            raise PhalanxError(f"the policy's output is not finite: {action.tolist()}")
        self._action = action.astype(np.float64)
        if about.action.joints:
            targets = np.minimum(np.maximum(targets, self._low), self._high)
            at_limit = (targets <= self._at_low) | (targets >= self._at_high)
        else:
            at_limit = (self._action <= self._at_low) | (self._action >= self._at_high)
        k = self.steps % KEPT
        self._network_ns[k] = after - before
        self._total_ns[k] = self._observing + clock.perf_counter_ns() - start
        self._observing = 0
        self.steps += 1
        return Command(action, targets, at_limit, about.action.joints)

    def latency(self) -> Latency:
        """Latency of the last steps since the policy was loaded, at most 16384 of them."""
        if self.steps == 0:
            raise PhalanxError("the policy's latency is not known before its first step")
        kept = slice(min(self.steps, KEPT))
        total, network = self._total_ns[kept] / 1e6, self._network_ns[kept] / 1e6
        return Latency(
            self.steps,
            *np.percentile(total, (50, 99)).tolist(),
            *np.percentile(network, (50, 99)).tolist(),
        )

    def _forget_latency(self) -> None:
        self.steps = self._observing = 0
        self._total_ns, self._network_ns = np.zeros(KEPT), np.zeros(KEPT)


def _ordered(low: Any, high: Any) -> bool:
    """Whether these are numbers in this order; NaN, which would be a target, is none."""
    numbers = isinstance(low, (int, float, np.number)) and isinstance(high, (int, float, np.number))
    return numbers and bool(low <= high)
