"""`Policy`: an exported policy at its rate, from a robot's state to targets for its joints.

    policy = Policy("Ant.pth.onnx")
    policy.reset()                              # where an episode begins
    while True:
        command = policy.update(clock(), read_state)   # at most every control_dt runs the network
        send(command.by_joint())
    print(policy.latency())

One object is one robot: it keeps the recurrent state, the previous action and the clock.
What may surprise: `update` holds the last command between two control steps, and is the same as
`step` at a control step. Physical joint limits and a watchdog are the robot program's business.
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
from phalanx.deploy.observe import RobotState, reader
from phalanx.errors import PhalanxError, did_you_mean

Array = NDArray[Any]
KEPT = 16384
"""Latest steps that latency is measured over."""


@dataclass(frozen=True)
class Command:
    """What the policy wants of the robot until its next step."""

    action: Array
    """(A,) within the metadata's clip; integers if discrete."""
    targets: Array
    """(J,) of `joints`, in the metadata's unit and within its limits; empty for kind custom."""
    saturated: Array
    """(J,) bool: the target is at a limit. For kind custom (A,): the action is."""
    joints: tuple[str, ...]

    def by_joint(self) -> dict[str, float]:
        """Targets by name."""
        return dict(zip(self.joints, self.targets.tolist(), strict=True))


@dataclass(frozen=True)
class Latency:
    """Wall time of `steps` steps [ms]: from the robot's state to targets, and the network alone."""

    steps: int
    median: float
    p99: float
    network_median: float
    network_p99: float


class Policy:
    """The policy in the file at `path`, which `phalanx export` wrote.

    limits: {joint: (low, high)} for targets, narrower than the metadata's. threads: of the
    network's arithmetic.
    Raises PhalanxError for a file that is no such policy, or if onnxruntime is missing.
    """

    def __init__(
        self,
        path: str | Path,
        limits: Mapping[str, tuple[float, float]] | None = None,
        threads: int = 1,
    ) -> None:
        self.session = open_session(path, threads)
        props = self.session.get_modelmeta().custom_metadata_map
        if KEY not in props:
            raise PhalanxError(
                f"{path} is an ONNX model, but it has no metadata under {KEY!r} and so was not"
                " written by `phalanx export`; export the policy's checkpoint with it"
            )
        self.metadata = about = Metadata.from_json(props[KEY], path)
        joints = [j.name for j in about.joints]
        self._readers = [
            None if t.quantity == "previous_action" else reader(t, joints)
            for t in about.observation.terms
        ]
        self._scale = np.concatenate([t.scale for t in about.observation.terms])
        self._offset = np.concatenate([t.offset for t in about.observation.terms])
        self._low, self._high = np.array(about.action.low), np.array(about.action.high)
        for joint, (low, high) in (limits or {}).items():
            if joint not in about.action.joints:
                raise PhalanxError(
                    f"limits for {joint!r}, which the policy does not move"
                    f"{did_you_mean(joint, about.action.joints)}; it moves:"
                    f" {', '.join(about.action.joints) or 'nothing by name'}"
                )
            k = about.action.joints.index(joint)
            self._low[k], self._high[k] = max(low, self._low[k]), min(high, self._high[k])
            if self._low[k] > self._high[k]:
                raise PhalanxError(
                    f"limits for {joint!r} are {low} .. {high}, outside the policy's"
                    f" {about.action.low[k]} .. {about.action.high[k]}"
                )
        self._margin = 1e-6 * (self._high - self._low)
        self._outputs = [o.name for o in self.session.get_outputs()]
        self.reset()
        self._forget_latency()

    def twin(self) -> "Policy":
        """Another robot's policy with the same network in memory, reset."""
        other = copy.copy(self)
        other.reset()
        other._forget_latency()
        return other

    def reset(self) -> None:
        """A new episode: recurrent state and previous action zero, the clock free."""
        states = self.metadata.recurrent
        self._feed = {s.input: np.full(s.shape, s.initial, np.float32) for s in states}
        self._action = np.zeros(self.metadata.action.size)
        self._due = -math.inf
        self._command: Command | None = None

    def update(self, time: float, state: RobotState | Callable[[], RobotState]) -> Command:
        """The command at `time` [s], of any clock that does not jump: a new one if a control step
        is due, else the one before. `state` may be a function, called only if it is needed.

        A late call does not shift the steps after it, unless it is a whole step late.
        Raises PhalanxError for a state that lacks something.
        """
        dt = self.metadata.control_dt
        if self._command is None or time >= self._due - 1e-6 * dt:
            self._command = self.step(state() if callable(state) else state)
            late = self._due == -math.inf or time - self._due >= dt
            self._due = (time if late else self._due) + dt
        return self._command

    def step(self, state: RobotState) -> Command:
        """The next command, now. Raises PhalanxError for a state that lacks something."""
        start = clock.perf_counter_ns()
        command = self.act(self.observe(state))
        self._total[(self.steps - 1) % KEPT] = clock.perf_counter_ns() - start
        return command

    def observe(self, state: RobotState) -> Array:
        """(D,) float32, the observation as the task computes it, clipped."""
        parts = [self._action if read is None else read(state) for read in self._readers]
        values = np.concatenate(parts)
        if not np.isfinite(values).all():
            named = zip(self.metadata.observation.terms, parts, strict=True)
            term, part = next((t, p) for t, p in named if not np.isfinite(p).all())
            raise PhalanxError(f"robot state: {term.name} is {part.tolist()}, which is not finite")
        clip = self.metadata.observation.clip
        scaled = (values - self._offset) * self._scale
        return np.minimum(np.maximum(scaled, -clip), clip).astype(np.float32)

    def act(self, observation: Array) -> Command:
        """The next command for an observation, (D,); recurrent state and previous action move on.
        Raises PhalanxError for a wrong size or an output that is not finite."""
        about = self.metadata
        if np.shape(observation) != (about.observation.size,):
            raise PhalanxError(
                f"the observation has shape {np.shape(observation)}, the policy takes"
                f" ({about.observation.size},)"
            )
        self._feed["obs"] = np.asarray(observation, np.float32)[None]
        start = clock.perf_counter_ns()
        results = self.session.run(None, self._feed)
        self._network[self.steps % KEPT] = clock.perf_counter_ns() - start
        self.steps += 1
        named = dict(zip(self._outputs, results, strict=True))
        for state in about.recurrent:
            self._feed[state.input] = named[state.output]
        action = named["actions"][0]
        targets = named["targets"][0] if about.action.joints else np.zeros(0, np.float32)
        if not (np.isfinite(action).all() and np.isfinite(targets).all()):
            raise PhalanxError(f"the policy's output is not finite: {action.tolist()}")
        self._action = np.atleast_1d(action).astype(np.float64)
        if about.action.joints:
            targets = np.minimum(np.maximum(targets, self._low), self._high)
            at_limit = (targets <= self._low + self._margin) | (
                targets >= self._high - self._margin
            )
        else:
            clip = about.action.clip
            at_limit = np.abs(self._action) >= (clip or np.inf) * (1 - 1e-6)
        return Command(action, targets, at_limit, about.action.joints)

    def latency(self) -> Latency:
        """Of the steps since the policy was loaded, the last 16384 of them."""
        if self.steps == 0:
            raise PhalanxError("the policy's latency is not known before its first step")
        total, network = (x[: min(self.steps, KEPT)] / 1e6 for x in (self._total, self._network))
        total = total[total > 0] if (total > 0).any() else network
        return Latency(
            self.steps,
            *np.percentile(total, (50, 99)).tolist(),
            *np.percentile(network, (50, 99)).tolist(),
        )

    def _forget_latency(self) -> None:
        self.steps = 0
        self._total, self._network = np.zeros(KEPT), np.zeros(KEPT)


def open_session(path: str | Path | bytes, threads: int = 1) -> Any:
    """onnxruntime's session for a file, or for what is in one. Raises PhalanxError for what is not
    an ONNX model, or if onnxruntime is missing."""
    try:
        import onnxruntime
    except ImportError as error:
        raise PhalanxError(
            "running an exported policy needs onnxruntime; install it with"
            " `pip install 'phalanx[deploy]'`"
        ) from error
    if isinstance(path, bytes):
        content = path
    elif Path(path).is_file():
        content = Path(path).read_bytes()
    else:
        raise PhalanxError(f"no policy at {path}; `phalanx export` makes one of a checkpoint")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes have no common base
        reason = " ".join(str(error).split())
        name = "what was exported" if isinstance(path, bytes) else path
        raise PhalanxError(
            f"{name} is not an ONNX model that onnxruntime {onnxruntime.__version__} can run:"
            f" {reason}"
        ) from error
