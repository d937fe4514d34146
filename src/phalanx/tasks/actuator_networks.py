"""Networks of actuator models: a perceptron or an LSTM, read from a file of weights."""

import json
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.gate import MB, check_zip, open_file, read_bytes, reason, show
from phalanx.npy_file import read_numbers

if TYPE_CHECKING:
    from phalanx.tasks.actuators import ActuatorSettings

MAX_FILE, MAX_HEADER = 64 * MB, MB
MAX_NUMBER = 1e9
"""Weights are below this, so that no product of a few layers overflows."""
MAX_AGE = 1000
"""Physics steps that a network may look back."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": torch.nn.functional.elu,
    "relu": torch.relu,
    "softsign": torch.nn.functional.softsign,
    "tanh": torch.tanh,
}


class Network:
    """A learned motor: (B,) errors and velocities to (B,) efforts, B = environments x joints."""

    state: dict[str, Tensor]
    """Its state between physics steps: buffers that are written in place."""

    def __init__(self, s: "ActuatorSettings", linear: list[tuple[Tensor, Tensor]]) -> None:
        self.settings = s
        self.linear = linear

    def __call__(self, error: Tensor, vel: Tensor) -> Tensor:
        raise NotImplementedError

    def reset(self, rows: Tensor) -> None:
        """Clear the history in `rows` (B,) bool."""
        for tensor in self.state.values():
            tensor.masked_fill_(rows[None, :, None], 0.0)

    def head(self, x: Tensor) -> Tensor:
        """Efforts (B,) from the inputs (B, width) of the linear layers."""
        activation = ACTIVATIONS[self.settings.activation]
        for k, (weight, bias) in enumerate(self.linear):
            x = torch.nn.functional.linear(activation(x) if k else x, weight, bias)
        return x[:, 0] * self.settings.effort_scale

    def scaled(self, error: Tensor, vel: Tensor) -> Tensor:
        """The network's inputs (B, 2) of one physics step."""
        s = self.settings
        return torch.stack([error * s.pos_scale, vel * s.vel_scale], 1)


class Perceptron(Network):
    """Linear layers on the inputs of several physics steps."""

    def __init__(
        self, s: "ActuatorSettings", linear: list[Any], rows: int, device: torch.device
    ) -> None:
        super().__init__(s, linear)
        self.state = {"past": torch.zeros(max(s.history) + 1, rows, 2, device=device)}
        self._seen = torch.tensor(s.history, device=device)

    def __call__(self, error: Tensor, vel: Tensor) -> Tensor:
        past = self.state["past"]
        past.copy_(torch.cat([self.scaled(error, vel)[None], past[:-1]]))
        return self.head(past[self._seen].permute(1, 2, 0).flatten(1))


class Recurrent(Network):
    """LSTM layers, then linear ones."""

    def __init__(
        self, s: "ActuatorSettings", linear: list[Any], layers: list[list[Tensor]], rows: int
    ) -> None:
        super().__init__(s, linear)
        self.layers = layers
        width = layers[0][1].shape[1]
        zeros = layers[0][0].new_zeros(len(layers), rows, width)
        self.state = {"hidden": zeros, "cell": zeros.clone()}

    def __call__(self, error: Tensor, vel: Tensor) -> Tensor:
        x = self.scaled(error, vel)
        for k, (w_ih, w_hh, b_ih, b_hh) in enumerate(self.layers):
            hidden, cell = self.state["hidden"][k], self.state["cell"][k]
            gates = x @ w_ih.T + b_ih + hidden @ w_hh.T + b_hh
            entry, forget, new, out = gates.chunk(4, 1)
            cell.copy_(forget.sigmoid() * cell + entry.sigmoid() * new.tanh())
            hidden.copy_(out.sigmoid() * cell.tanh())
            x = hidden
        return self.head(x)


def read_network(s: "ActuatorSettings", rows: int, device: torch.device, where: str) -> Network:
    """The network in `s.file`. Raises PhalanxError for a file that holds none."""
    if s.file is None:
        raise PhalanxError(
            f"{where}: a network needs file=, an .npz or .safetensors file with its weights"
        )
    arrays = {k: v.to(device) for k, v in read_arrays(Path(s.file), where).items()}
    layers: list[list[Tensor]] = []
    while keys := [k for k in arrays if re.search(rf"(weight|bias)_[ih]h_l{len(layers)}$", k)]:
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        layer = [arrays.pop(k) for kind in kinds for k in keys if re.search(f"{kind}_l[0-9]+$", k)]
        shapes = [tuple(x.shape) for x in layer]
        units = shapes[1][-1] if len(layer) == 4 and len(shapes[1]) == 2 else 0
        gates = 4 * units
        fits = shapes[1:] == [(gates, units), (gates,), (gates,)] and len(shapes[0]) == 2
        if not units or not fits or shapes[0][0] != gates:
            raise PhalanxError(f"{where}: {s.file} has an incomplete LSTM layer {len(layers)}")
        layers.append(layer)
    names = sorted((k.removesuffix(".weight") for k in arrays if k.endswith(".weight")), key=_order)
    linear = [(arrays.pop(f"{n}.weight"), arrays.pop(f"{n}.bias", None)) for n in names]
    if arrays or not linear:
        found = next(iter(arrays), "nothing")
        raise PhalanxError(
            f"{where}: {s.file} is not a network of LSTM and linear layers; it holds {found}"
        )
    if not s.history or not 0 <= min(s.history) <= max(s.history) <= MAX_AGE:
        raise PhalanxError(
            f"{where}.history is {list(s.history)}; it must be steps ago, as in [0], at most"
            f" {MAX_AGE}"
        )
    width = 2 * len(s.history) if not layers else 2
    for weight in [layer[0] for layer in layers] + [weight for weight, _ in linear]:
        if weight.dim() != 2 or weight.shape[1] != width:
            takes = weight.shape[-1] if weight.dim() else "no"
            raise PhalanxError(
                f"{where}: a layer in {s.file} takes {takes} numbers, but gets {width}"
            )
        width = weight.shape[0] // 4 if any(weight is layer[0] for layer in layers) else len(weight)
    if width != 1:
        raise PhalanxError(
            f"{where}: the network in {s.file} gives {width} numbers, it must give 1"
        )
    complete = [(w, w.new_zeros(len(w)) if b is None else b) for w, b in linear]
    if any(b.shape != (len(w),) for w, b in complete):
        raise PhalanxError(f"{where}: a bias in {s.file} has another length than its layer")
    if layers:
        return Recurrent(s, complete, layers, rows)
    return Perceptron(s, complete, rows, device)


def _order(name: str) -> list[Any]:
    """Sorts `2.weight` before `10.weight`."""
    parts = re.split(r"([0-9]{1,9})", name)
    return [(0, int(t), "") if k % 2 else (1, 0, t) for k, t in enumerate(parts)]


def read_arrays(path: Path, where: str) -> dict[str, Tensor]:
    """float32 tensors by name from an `.npz` or `.safetensors` file; nothing in it is executed.
    Raises PhalanxError for any other file, and for numbers that are not finite or far too large."""
    try:
        if path.suffix == ".npz":
            arrays = _npz(path)
        elif path.suffix == ".safetensors":
            arrays = _safetensors(read_bytes(path, MAX_FILE))
        else:
            raise PhalanxError(
                f"{path} is neither .npz nor .safetensors; save the network's state_dict in one of"
                " these; files that may hold code are not loaded"
            )
    except PhalanxError as error:
        raise PhalanxError(f"{where}: {error}") from error
    except Exception as error:  # zipfile and zlib raise many kinds for a damaged file
        raise PhalanxError(f"{where}: cannot read {path}: {reason(error)}") from error
    for name, values in arrays.items():
        if values.dtype.kind not in "fiu" or not (np.abs(values) < MAX_NUMBER).all():
            raise PhalanxError(
                f"{where}: {path}: {show(name)} must hold finite numbers below {MAX_NUMBER:g}"
            )
    return {k: torch.from_numpy(v.astype(np.float32)) for k, v in arrays.items()}


def _npz(path: Path) -> dict[str, np.ndarray]:
    with open_file(path) as file, zipfile.ZipFile(file) as archive:
        check_zip(archive, path, MAX_FILE, compressed=True)
        return {
            member.filename.removesuffix(".npy"): read_numbers(archive.read(member))
            for member in archive.infolist()
        }


def _safetensors(data: bytes) -> dict[str, np.ndarray]:
    """Parse a file: 8 bytes with the length of a JSON header, the header, then the arrays'
    bytes."""
    (size,) = struct.unpack("<Q", data[:8])
    if size > min(MAX_HEADER, len(data)):
        raise ValueError(f"its header has {size} bytes")
    header = json.loads(data[8 : 8 + size])
    types = {"F16": np.float16, "F32": np.float32, "F64": np.float64}
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        shape = entry["shape"]
        if not all(type(n) is int and 0 <= n <= len(data) for n in (start, end, *shape)):
            raise ValueError(f"{show(name)} has a size that is no size")
        values = np.frombuffer(data[8 + size + start : 8 + size + end], types[entry["dtype"]])
        arrays[name] = values.reshape(shape)
    return arrays
