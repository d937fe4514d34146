"""The options of `train`, `play`, `export` and `warmup` as typed dataclasses.

The docstring under a field is its line in `phalanx <command> --help`.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from phalanx.cli.keys import without_effect
from phalanx.config import ranged
from phalanx.errors import PhalanxError
from phalanx.tasks.task import TaskConfig


@dataclass(frozen=True)
class TaskChoice:
    """The task chosen by `task=`, configured by the keys below `task.`."""

    name: str
    config: TaskConfig


@dataclass(frozen=True)
class TaskSections:
    """The same as in YAML, before `tasks.configure` converts the settings to their types."""

    name: str
    env: dict[str, Any] = dataclasses.field(default_factory=dict)
    randomize: Any = False
    randomization_params: Any = dataclasses.field(default_factory=dict)
    actuators: Any = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class TrainParams:
    """`params` of an RL Games file. `phalanx.rl` reads the content of each section."""

    algo: dict[str, Any]
    network: dict[str, Any]
    config: dict[str, Any]
    model: dict[str, Any] = dataclasses.field(default_factory=dict)
    seed: int | None = ranged(None, at_least=-1, at_most=2**63 - 1)
    """Seed, if seed= gives none."""
    torch_threads: int | str | None = ranged(None, at_least=-1, at_most=1024)
    """CPU threads of PyTorch; null, 0 or auto leaves the number unchanged."""
    load_checkpoint: bool = False
    """If true, checkpoint= is required; otherwise it has no effect."""
    load_path: str | None = None
    """Has no effect: use checkpoint= instead."""


@dataclass(frozen=True)
class TrainFile:
    """The train config chosen by `train=`, a file of cfg/train."""

    params: TrainParams


@dataclass(frozen=True)
class RunOptions:
    """Options of every command that makes environments and an agent."""

    RESUMED: ClassVar[tuple[str, ...]] = ("task", "train")
    """Options that are taken from the checkpoint's run folder, unless given."""

    task: TaskChoice
    """Name of the task, see `phalanx list`; its settings are the keys below task."""
    train: TrainFile
    """Train config, the name of a file in cfg/train; null takes <task>PPO, or a general one."""
    num_envs: int | None = ranged(None, at_least=1, at_most=2**24)
    """Number of environments; null takes the task's default for the device."""
    seed: int = ranged(42, at_least=-1, at_most=2**63 - 1)
    """Seed of all random numbers; -1 draws a new one."""
    sim_device: str = "auto"
    """Device of the simulation: auto, cpu or cuda:<index>; auto is the GPU if there is one."""
    rl_device: str = "auto"
    """Device of the network; auto is the simulation's."""
    engine: str = "auto"
    """Physics engine: auto, mujoco, warp or fused; auto is fused if that has what the task needs,
    otherwise mujoco on a CPU and warp on a GPU."""
    checkpoint: str | None = None
    """Checkpoint file, or a run folder, which means its last checkpoint."""


@dataclass(frozen=True)
class ViewOptions(RunOptions):
    """Options of commands that can show environments in a web page."""

    view: bool = False
    """Show the first environments in a web page, as they move."""
    headless: bool | None = None
    """IsaacGymEnvs' word for view: false means view=true."""
    view_envs: int = ranged(9, at_least=1, at_most=64)
    """Environments in the page of view=true."""
    host: str = "127.0.0.1"
    """Address that serves the page; 127.0.0.1 is for this machine only, 0.0.0.0 for others, too."""
    port: int | None = ranged(None, at_least=1, at_most=65535)
    """Port of the page; null takes the first free one from 8080."""

    @property
    def watched(self) -> bool:
        """Whether there is a page."""
        return self.view or self.headless is False

    @property
    def idle(self) -> list[str]:
        """Options that are given and have no effect, with what they need."""
        return without_effect(self, {"view": self.watched}) + self.task.config.idle_keys()


@dataclass(frozen=True)
class TrackingOptions(ViewOptions):
    """Where else a run is logged, besides TensorBoard."""

    wandb: bool = False
    """Also log to Weights & Biases; WANDB_MODE=offline works without a network."""
    wandb_activate: bool = False
    """IsaacGymEnvs' word for wandb."""
    wandb_project: str = "phalanx"
    """Project in Weights & Biases."""
    wandb_entity: str | None = None
    """User or team in Weights & Biases; null is your own."""
    wandb_group: str | None = None
    """Group of the run in Weights & Biases."""
    wandb_name: str | None = None
    """Name of the run in Weights & Biases; null is that of the run folder."""
    wandb_tags: tuple[str, ...] = ()
    """Tags of the run in Weights & Biases."""
    mlflow: bool = False
    """Also log to MLflow, where MLFLOW_TRACKING_URI says."""
    mlflow_experiment: str | None = None
    """Experiment in MLflow; null takes the task's name."""

    @property
    def idle(self) -> list[str]:
        """The same."""
        wandb = self.wandb or self.wandb_activate
        on = {"view": self.watched, "wandb": wandb, "mlflow": self.mlflow}
        return without_effect(self, on) + self.task.config.idle_keys()


@dataclass(frozen=True)
class TrainOptions(TrackingOptions):
    """Options of `phalanx train`."""

    RESUMED = (
        *("task", "train", "num_envs", "seed", "max_iterations", "sim_device", "rl_device"),
        *("engine", "deterministic"),
    )

    max_iterations: int | None = ranged(None, at_least=1)
    """Number of iterations; null takes max_epochs of the train config."""
    deterministic: bool = False
    """On a GPU, the same bits in every run, but slower; CPU runs are always deterministic."""
    multi_gpu: bool = False
    """Train with all processes that torchrun has started, num_envs environments in each."""
    devices: int = ranged(1, at_least=1, at_most=1024)
    """Processes that train together on this machine, one for each GPU, or on the CPU; each has
    num_envs environments."""
    experiment: str | None = None
    """Name of the run folder; null takes the task's name, with a number if that is taken."""
    train_dir: str = "runs"
    """Folder for the run folders."""
    video_every: int | None = ranged(None, at_least=1)
    """Iterations between two films of 5 s, written to videos/ and TensorBoard; null for none."""


@dataclass(frozen=True)
class PlayOptions(ViewOptions):
    """Options of `phalanx play`."""

    actions: Literal["policy", "random", "zero"] | None = None
    """Who acts: null is the policy of checkpoint=, or random actions without one."""

    games: int = ranged(256, at_least=1)
    """Episodes to play."""
    video: bool = False
    """Also write an mp4 of one environment, to videos/ in the run folder."""
    command: tuple[float, ...] | None = None
    """Command to all robots, as in [0.5,0,0]; null draws them as in training."""

    def __post_init__(self) -> None:
        if self.watched and self.video:
            raise PhalanxError("view=true shows a page and video=true writes a film; give only one")


@dataclass(frozen=True)
class ExportOptions(RunOptions):
    """Options of `phalanx export`."""

    format: str = "onnx"
    """File format of the policy: onnx, torchscript or pt2."""
    out: str | None = None
    """File to write; null is the checkpoint's name with .onnx, .pt or .pt2 after it."""


@dataclass(frozen=True)
class WarmupOptions(RunOptions):
    """Options of `phalanx warmup`; `task=all` takes every task in turn."""


RUN_OPTIONS: dict[str, type[RunOptions]] = {
    "train": TrainOptions,
    "play": PlayOptions,
    "export": ExportOptions,
    "warmup": WarmupOptions,
}
