"""What an exported policy says of itself: one JSON document, under the key `phalanx`.

    import json, onnxruntime
    session = onnxruntime.InferenceSession("Ant.pth.onnx")
    about = json.loads(session.get_modelmeta().custom_metadata_map["phalanx"])

Everybody can read it; the dataclasses here say what its fields mean. Lengths are in m, angles in
rad, time in s; null stands for "no limit" or "not known".
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
"""Of the document among an ONNX model's `metadata_props`."""
FORMAT = 1
"""Raised when a field's meaning changes; a reader refuses what is newer than itself."""


@dataclass(frozen=True)
class PolicyInfo:
    """Where the policy comes from."""

    kind: str
    """continuous, discrete or multi_discrete: what its actions are."""
    algorithm: str
    model: str
    network: str
    checkpoint: str
    """Name of the file."""
    epoch: int
    frame: int
    training_return: float | None
    """Best mean return of an episode in training, where actions are noisy."""


@dataclass(frozen=True)
class Joint:
    """One of the robot's joints, as the simulation had it."""

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
    """Most that its motor gives [N or N m]."""


@dataclass(frozen=True)
class Observation:
    """What goes in: terms one after the other, each (value - offset) * scale, then clipped."""

    size: int
    clip: float
    """Applied inside the model, too."""
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Action:
    """What comes out: `actions` within +-clip and, except for kind custom, `targets`, which are
    offset + scale * action within low .. high, or sums of rows of `choices`; all inside the
    model."""

    size: int
    kind: str
    """What a target is: position, velocity, effort; custom if the task does not say."""
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
    """One tensor of a recurrent network's state: give `input` what `output` had a step before."""

    input: str
    output: str
    shape: tuple[int, ...]
    """(layers, 1, units)."""
    initial: float
    """What it is filled with when an episode begins."""


@dataclass(frozen=True)
class Metadata:
    """The document."""

    format: int
    phalanx: str
    """Version that wrote it."""
    task: str
    env: dict[str, Any]
    """The task's settings, without texts that are the defaults: paths on the machine it was
    trained on."""
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
        """The document; numbers of the network's inputs and outputs are as precise as float32."""
        document = _finite(dataclasses.asdict(self))
        for key in ("joints", "observation", "action"):
            document[key] = _rounded(document[key])
        return json.dumps(document, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, source: object) -> "Metadata":
        """Raises PhalanxError, naming `source`, for what is not such a document."""
        try:
            document = json.loads(text)
        except ValueError as error:
            raise PhalanxError(f"the metadata of {source} is not JSON: {error}") from error
        version = document.get("format") if isinstance(document, dict) else None
        if version != FORMAT:
            raise PhalanxError(
                f"the metadata of {source} has format {version!r}, this version of Phalanx reads"
                f" {FORMAT}; export the policy again, or update Phalanx"
            )
        try:
            return read(cls, document, "metadata")
        except (PhalanxError, TypeError) as error:
            raise PhalanxError(f"the metadata of {source} is damaged: {error}") from error


def _finite(value: Any) -> Any:
    """JSON has no infinity; "inf" is read as one where a number is wanted."""
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
