"""The metadata of an exported policy: one JSON document, under the key `phalanx`.

    import json, onnxruntime
    session = onnxruntime.InferenceSession("Ant.pth.onnx")
    about = json.loads(session.get_modelmeta().custom_metadata_map["phalanx"])

Any program can read it; the dataclasses here define its fields. Lengths are in m, angles in rad,
time in s; null means "no limit" or "not known".
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from phalanx.config import read
from phalanx.errors import PhalanxError
from phalanx.layout import Term

KEY = "phalanx"
"""Key of the document in an ONNX model's `metadata_props`."""
FORMAT = 1
"""Version of the format, increased when a field's meaning changes; readers refuse newer formats."""


@dataclass(frozen=True)
class PolicyInfo:
    """The origin of the policy."""

    kind: str
    """Kind of its actions: continuous, discrete or multi_discrete."""
    algorithm: str
    model: str
    network: str
    checkpoint: str
    """Name of the checkpoint file."""
    epoch: int
    frame: int
    training_return: float | None
    """Best mean return of an episode in training, with sampled actions."""


@dataclass(frozen=True)
class Joint:
    """One of the robot's joints, as in the simulation."""

    name: str
    unit: str
    """m or rad."""
    default_pos: float
    lower: float | None
    upper: float | None
    stiffness: float
    """Proportional gain of its controller [N/m or N m/rad], 0 if it has none."""
    damping: float
    """Derivative gain [N s/m or N m s/rad]."""
    effort_limit: float | None
    """Largest effort of its motor [N or N m]."""


@dataclass(frozen=True)
class Observation:
    """The policy's input: concatenated terms, each (value - offset) * scale, then clipped."""

    size: int
    clip: float
    """Bound of the observation's absolute value; the model also applies it."""
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Action:
    """The policy's output: `actions` within +-clip and, except for kind custom, `targets`. These
    are offset + scale * action within low .. high, or sums of rows of `choices`; the model computes
    them."""

    size: int
    kind: str
    """Kind of the targets: position, velocity, effort; custom if the task does not define it."""
    unit: str
    clip: float | None
    """None for discrete actions."""
    joints: tuple[str, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    choices: tuple[tuple[tuple[float, ...], ...], ...]


@dataclass(frozen=True)
class State:
    """One tensor of a recurrent network's state: `input` takes the previous step's `output`."""

    input: str
    output: str
    shape: tuple[int, ...]
    """(layers, 1, units)."""
    initial: float
    """Value of all elements at the start of an episode."""


@dataclass(frozen=True)
class Metadata:
    """The document."""

    format: int
    phalanx: str
    """Version of Phalanx that wrote it."""
    task: str
    env: dict[str, Any]
    """The task's settings, without strings at their defaults, which are paths on the training
    machine."""
    control_dt: float
    """Time between two actions [s]."""
    control_hz: float
    policy: PolicyInfo
    joints: tuple[Joint, ...]
    """In the robot's order."""
    observation: Observation
    action: Action
    recurrent: tuple[State, ...]
    opset: int

    def to_json(self) -> str:
        """The document; numbers for the network's inputs and outputs have float32 precision."""
        document = _finite(dataclasses.asdict(self))
        for key in ("joints", "observation", "action"):
            document[key] = _rounded(document[key])
        return json.dumps(document, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, source: object) -> "Metadata":
        """Parse a document. Raises PhalanxError, naming `source`, if `text` is not one."""
        try:
            document = json.loads(text)
        except ValueError as error:
            raise PhalanxError(f"the metadata of {source} is not JSON: {error}") from error
        version = document.get("format") if isinstance(document, dict) else None
        if version != FORMAT:
            raise PhalanxError(
                f"the metadata of {source} has format {version!r}; this version of Phalanx reads"
                f" {FORMAT}; export the policy again, or update Phalanx"
            )
        try:
            return read(cls, document, "metadata")
        except (PhalanxError, TypeError) as error:
            raise PhalanxError(f"the metadata of {source} is damaged: {error}") from error


def _finite(value: Any) -> Any:
    """Replace infinities by strings: JSON has none, and "inf" is read as a number."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, (list, tuple)) else value
