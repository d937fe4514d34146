"""`Network`: an exported model in onnxruntime, one robot at a time."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phalanx.deploy.metadata import Metadata
from phalanx.errors import PhalanxError
from phalanx.gate import MB, read_bytes, reason, show

Array = NDArray[Any]
MAX_FILE = 2048 * MB
"""Bytes of a model, the most that an ONNX file can have."""


class Network:
    """The model in `session` with its recurrent state. Inputs and outputs are bound to fixed memory
    once, which takes less than half the time of passing them in every call. Raises PhalanxError if
    the model's inputs or outputs differ from its metadata."""

    def __init__(self, session: Any, about: Metadata) -> None:
        self.session = session
        feed = {s.input: np.full(s.shape, s.initial, np.float32) for s in about.recurrent}
        feed["obs"] = np.zeros((1, about.observation.size), np.float32)
        self._outputs = [o.name for o in session.get_outputs()]
        try:
            found = session.run(self._outputs, feed)
        except Exception as error:  # onnxruntime's own classes have no common base
            raise PhalanxError(
                f"the network does not take {', '.join(feed)} as described in its metadata"
                f" ({' '.join(str(error).split())}); export it again"
            ) from error
        results = _results(dict(zip(self._outputs, found, strict=True)), about)
        self._binding = session.io_binding()
        for name, x in feed.items():
            self._binding.bind_input(name, "cpu", 0, x.dtype, x.shape, x.ctypes.data)
        for name, x in results.items():
            self._binding.bind_output(name, "cpu", 0, x.dtype, x.shape, x.ctypes.data)
        self._obs = feed["obs"][0]
        self._action = results["actions"].reshape(-1)
        self._targets = results.get("targets", np.zeros((1, 0), np.float32)).reshape(-1)
        self._states = [(feed[s.input], results[s.output], s.initial) for s in about.recurrent]
        self._memory = feed, results  # onnxruntime stores only addresses

    def reset(self) -> None:
        """Begin an episode: reset the recurrent state to its initial value."""
        for state, _, initial in self._states:
            state.fill(initial)

    def __call__(self, observation: Array) -> tuple[Array, Array]:
        """Actions (A,) and targets (J,) for an observation (D,); advances the recurrent state."""
        self._obs[:] = observation
        self.session.run_with_iobinding(self._binding)
        for state, following, _ in self._states:
            state[...] = following
        return self._action.copy(), self._targets.copy()


def _results(found: dict[str, Any], about: Metadata) -> dict[str, Array]:
    """Copies of a model's outputs. Raises PhalanxError for others than the metadata says."""
    wanted = {"actions": (about.action.size, "fiu")}
    if about.action.joints:
        wanted["targets"] = (len(about.action.joints), "f")
    wanted |= {s.output: (math.prod(s.shape), "f") for s in about.recurrent}
    for name, (size, kinds) in wanted.items():
        value = found.get(name)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in kinds or value.size != size:
            raise PhalanxError(
                f"the network has no output {show(name)} of {size} numbers, which its metadata"
                " describes; export it again"
            )
    for s in about.recurrent:
        if found[s.output].shape != s.shape:
            raise PhalanxError(
                f"the network's {show(s.output)} has shape {found[s.output].shape}, not {s.shape}"
            )
    arrays = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
    numbers = all(value.dtype.kind in "fiub" for value in arrays.values())
    if not numbers or arrays.keys() != found.keys():
        raise PhalanxError("the network has an output that is not numbers; export it again")
    return {name: np.array(value) for name, value in arrays.items()}


def metadata_text(session: Any, key: str, source: object) -> str | None:
    """The text under `key` in a model's metadata; None if it has none. Raises PhalanxError for
    metadata that is not text."""
    try:
        text: str | None = session.get_modelmeta().custom_metadata_map.get(key)
    except Exception as error:  # onnxruntime decodes all of it
        raise PhalanxError(f"the metadata of {source} is not text: {reason(error)}") from error
    return text


def open_session(path: str | Path | bytes, threads: int = 1) -> Any:
    """An onnxruntime session for a path, or for a file's bytes. Raises PhalanxError if it is not an
    ONNX model, or if onnxruntime is missing."""
    try:
        import onnxruntime
    except ImportError as error:
        raise PhalanxError(
            "running an exported policy needs onnxruntime; install it with"
            " `pip install 'phalanx[deploy]'`"
        ) from error
    if isinstance(path, bytes):
        content = path
    elif Path(path).exists():
        content = read_bytes(path, MAX_FILE)
    else:
        raise PhalanxError(f"no policy at {path}; `phalanx export` makes one from a checkpoint")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Spinning threads would occupy cores that the robot's other programs need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes have no common base
        reason = " ".join(str(error).split())
        name = "the exported model" if isinstance(path, bytes) else path
        raise PhalanxError(
            f"{name} is not an ONNX model that onnxruntime {onnxruntime.__version__} can run:"
            f" {reason}"
        ) from error
