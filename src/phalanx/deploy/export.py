"""Exports a player with a checkpoint's weights to one file that runs without Phalanx.

    export(player, "runs/Ant/nn/Ant.pth")       # writes runs/Ant/nn/Ant.pth.onnx

The exported model takes the task's observations and returns the targets of its joints:

    obs (batch, D), state_0 (L, batch, U), ...
    -> actions (batch, A), targets (batch, J), next_state_0 (L, batch, U), ...

It includes clipping and normalisation of observations, and clipping and scaling of actions. Actions
are the player's deterministic ones; this file does not depend on the algorithm.
"""

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import phalanx
from phalanx.deploy.describe import OPSET, describe
from phalanx.deploy.metadata import KEY, Metadata
from phalanx.deploy.network import open_session
from phalanx.errors import PhalanxError, did_you_mean
from phalanx.files import check_place, write_atomically
from phalanx.tasks import Task

TOLERANCE = 1e-5
"""Largest difference between torch and the written file, for actions, and for targets in units of
their scale."""
SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt", "pt2": ".pt2"}


def export(
    player: Any, checkpoint: str | Path, format: str = "onnx", out: str | Path | None = None
) -> tuple[Path, float]:
    """Write `out`, or `<checkpoint>.onnx` (.pt, .pt2 for format torchscript or pt2) next to it.

    player: a player of the checkpoint's task and network, on the CPU; the weights are loaded into
    it. Returns the file and the largest difference from torch on random inputs. Raises
    PhalanxError, and writes nothing, if that is above 1e-5, for an unknown format, for a file that
    cannot be written, for a policy that cannot be exported and if a package is missing.
    """
    path = place(checkpoint, format, out)
    if not isinstance(player.env, Task):
        raise PhalanxError(
            f"only policies of Phalanx's tasks can be exported, not of {player.config.env_name}"
        )
    if player.uses_masks:
        raise PhalanxError(
            "a policy with use_action_masks cannot be exported: a robot's program has no masks"
        )
    player.restore(checkpoint)
    about = describe(player, Path(checkpoint))
    module = ExportedPolicy(player, about).eval()
    with torch.no_grad(), _quiet():
        if format == "onnx":
            content = _onnx(_program(module), about)
            run = _onnx_runner(content)
        elif format == "torchscript":
            content = _torchscript(module, about)
            run = _torch_runner(torch.jit.load(io.BytesIO(content)))
        else:
            content = _pt2(_program(module), about)
            run = _torch_runner(torch.export.load(io.BytesIO(content)).module())
        with torch.random.fork_rng(devices=[]):
            difference = _difference(module, run)
    if not difference <= TOLERANCE:
        raise PhalanxError(
            f"the exported policy differs from the trained one by {difference:.2g}, more than"
            f" {TOLERANCE}; nothing was written; please report this with the train config"
        )
    write_atomically(path, content)
    return path, difference


def place(checkpoint: str | Path, format: str, out: str | Path | None) -> Path:
    """The file that `export` writes. Raises PhalanxError if it cannot write one."""
    if format not in SUFFIXES:
        raise PhalanxError(
            f"unknown format {format!r}{did_you_mean(format, SUFFIXES)};"
            f" formats: {', '.join(SUFFIXES)}"
        )
    path = Path(out or f"{checkpoint}{SUFFIXES[format]}")
    if path.suffix != SUFFIXES[format] and not path.is_dir():
        raise PhalanxError(f"out is {str(out)!r}; for {format} it must end in {SUFFIXES[format]}")
    check_place(path, "out=")
    if format == "onnx":
        _check_packages()
    return path


class ExportedPolicy(nn.Module):
    """The player's policy with its pre- and post-processing: (obs, *states) to a tuple of
    outputs."""

    scale: Tensor
    offset: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, player: Any, about: Metadata) -> None:
        super().__init__()
        self.model = player.model
        self.about = about
        self._choose: Callable[[dict[str, Tensor]], Tensor] = lambda result: player.to_env(
            player.choose(result, True)
        )
        action = about.action
        self.register_buffer("scale", torch.tensor(action.scale), persistent=False)
        self.register_buffer("offset", torch.tensor(action.offset), persistent=False)
        self.register_buffer("low", torch.tensor(action.low), persistent=False)
        self.register_buffer("high", torch.tensor(action.high), persistent=False)
        for k, table in enumerate(action.choices):
            self.register_buffer(f"choices_{k}", torch.tensor(table), persistent=False)
        self.output_names = [
            "actions",
            *(["targets"] if action.joints else []),
            *(s.output for s in about.recurrent),
        ]

    def forward(self, obs: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        clip = self.about.observation.clip
        inputs: dict[str, Any] = {"is_train": False, "policy_only": True}
        inputs["obs"] = obs.clamp(-clip, clip)
        if states:
            inputs["rnn_states"] = states
        result = self.model(inputs)
        actions = self._choose(result)
        if self.about.action.clip is not None:
            actions = actions.clamp(-self.about.action.clip, self.about.action.clip)
        targets = (self.targets(actions),) if self.about.action.joints else ()
        return (actions, *targets, *(result["rnn_states"] if states else ()))

    def targets(self, actions: Tensor) -> Tensor:
        """Joint targets (B, J) for actions (B, A)."""
        tables = [getattr(self, f"choices_{k}") for k in range(len(self.about.action.choices))]
        if not tables:
            wanted = self.offset + self.scale * actions
            return torch.minimum(torch.maximum(wanted, self.low), self.high)
        chosen = actions.view(-1, len(tables))
        return torch.stack([table[chosen[:, k]] for k, table in enumerate(tables)]).sum(0)

    def example(self, batch: int = 3) -> tuple[Tensor, ...]:
        """Random observations (batch, D) in the range seen in training, and zero states."""
        size = self.about.observation.size
        seen = getattr(self.model, "running_mean_std", None)
        obs = 3 * torch.randn(batch, size)
        if seen is not None:
            obs = seen.running_mean.float() + seen.running_var.float().sqrt() * obs
        states = (torch.zeros(s.shape[0], batch, s.shape[2]) for s in self.about.recurrent)
        return (obs, *states)


# -- writing ---------------------------------------------------------------------------------------


def _program(module: ExportedPolicy) -> Any:
    """torch.export's program, without the parts that only sampling needs."""
    example = module.example()
    batch = torch.export.Dim("batch", min=1, max=2**20)
    shapes: tuple[Any, ...] = ({0: batch},)
    if len(example) > 1:
        shapes = ({0: batch}, tuple({1: batch} for _ in example[1:]))
    program = torch.export.export(module, example, dynamic_shapes=shapes)
    return program.run_decompositions({})


def _onnx(program: Any, about: Metadata) -> bytes:
    inputs = ["obs", *(s.input for s in about.recurrent)]
    outputs = ["actions", *(["targets"] if about.action.joints else [])]
    outputs += [s.output for s in about.recurrent]
    written = torch.onnx.export(
        program, dynamo=True, opset_version=OPSET, input_names=inputs, output_names=outputs,
        verbose=False,
    )  # fmt: skip
    assert written is not None
    model = written.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, about.to_json()
    model.producer_name, model.producer_version = "phalanx", phalanx.__version__
    return model.SerializeToString()


def _torchscript(module: ExportedPolicy, about: Metadata) -> bytes:
    buffer = io.BytesIO()
    traced = torch.jit.trace(module, module.example(), check_trace=False)
    torch.jit.save(traced, buffer, _extra_files={f"{KEY}.json": about.to_json()})
    return buffer.getvalue()


def _pt2(program: Any, about: Metadata) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={f"{KEY}.json": about.to_json()})
    return buffer.getvalue()


# -- checking --------------------------------------------------------------------------------------

Run = Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]


def _difference(module: ExportedPolicy, run: Run, steps: int = 8, batch: int = 16) -> float:
    """Largest difference between torch and `run` over a sequence of random observations, each with
    its own recurrent state; targets in units of their scale. Infinite if shapes differ."""
    worst = 0.0
    torch.seed()  # different inputs every time
    ours = theirs = module.example(batch)[1:]
    for _ in range(steps):
        obs = module.example(batch)[0]
        expected, got = module(obs, *ours), run((obs, *theirs))
        for name, a, b in zip(module.output_names, expected, got, strict=True):
            if a.shape != b.shape or not bool(torch.isfinite(b.double()).all()):
                return math.inf
            apart = (a.double() - b.double()).abs()
            if name == "targets" and not module.about.action.choices:
                apart = apart / module.scale.abs().clamp(min=1.0)
            worst = max(worst, float(apart.max()))
        count = len(module.about.recurrent)
        ours = expected[len(expected) - count :]
        theirs = got[len(got) - count :]
    return worst


def _onnx_runner(content: bytes) -> Run:
    session = open_session(content)
    names = [i.name for i in session.get_inputs()]

    def run(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        feed = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        return tuple(torch.from_numpy(np.asarray(x)) for x in session.run(None, feed))

    return run


def _torch_runner(module: Any) -> Run:
    return lambda inputs: tuple(module(*inputs))


def _check_packages() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise PhalanxError(
                f"exporting to ONNX needs {package}; install it with"
                " `pip install 'phalanx[export]'`, or choose format=pt2"
            ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's messages during export, which are not about the user's policy."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
