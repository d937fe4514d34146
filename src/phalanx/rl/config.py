"""RL Games' YAML as typed dataclasses: every key of PPO, its default, unit and meaning.

Keys and formulas are RL Games' 1.6.5. Where Phalanx has more to offer, the default is RL Games'
own name with a new value (`value_bootstrap: reached`), and the field says so.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from phalanx.config import ranged
from phalanx.errors import PhalanxError

NO_EFFECT = frozenset(
    {
        "adv_rms_momentum",
        "asymmetric_obs",
        "bptt_length",
        "defer_summaries_sec",
        "device_name",
        "force_interval_writer",
        "ignore_dead_batches",
        "is_train",
        "learn_sigma",
        "log_path",
        "network_path",
        "num_seed_steps",
        "pbt_idx",
        "population_based_training",
        "ppo",
        "print_stats",
        "rnd_config",
        "self_play",
        "seq_len",
        "summaries_interval_sec_max",
        "summaries_interval_sec_min",
        "torch_compile",
        "use_diagnostics",
        "value_shape",
    }
)
"""Keys of published RL Games files that change nothing here; they are listed when a run starts."""


@dataclass(frozen=True)
class RewardShaper:
    """(reward + shift_value) * scale_value, clamped, then its logarithm if asked for."""

    scale_value: float = 1.0
    shift_value: float = 0.0
    min_val: float = -float("inf")
    max_val: float = float("inf")
    log_val: bool = False
    is_torch: bool = True


@dataclass(frozen=True)
class PlayerConfig:
    """`params.config.player`."""

    games_num: int = ranged(256, at_least=1)
    """Episodes to play."""
    deterministic: bool = True
    """Play the mean or most likely action; False samples."""
    render: bool = False
    render_sleep: float = 0.0
    print_stats: bool = True
    n_game_life: int = 1
    use_vecenv: bool = True
    env_config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AgentConfig:
    """`params.config`, as far as every agent reads it."""

    name: str
    """Stem of the run folder and of checkpoints."""
    env_name: str = "rlgpu"
    """Name under which the environment is registered (`phalanx.rl.vecenv.register`)."""
    env_config: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments for the environment."""
    num_actors: int | None = ranged(None, at_least=1)
    """Environments N; None takes the environment's own number."""
    device: str = "auto"
    """Device of the network and its training; auto is where the environment is."""
    sim_device: str | None = None
    """Device of the environment; None is the same."""
    multi_gpu: bool = False

    reward_shaper: RewardShaper = RewardShaper()
    gamma: float = ranged(0.99, at_least=0, at_most=1)
    """Discount."""
    normalize_input: bool = True
    normalize_value: bool = False
    clip_actions: bool = True
    """Clamp samples to +-1 and rescale to the action space's bounds; false passes them as are."""
    mixed_precision: bool = False
    """bfloat16 autocast in the training pass; the rollout stays in float32."""

    max_epochs: int = ranged(-1, at_least=-1)
    """Iterations, -1 for no limit."""
    max_frames: int = ranged(-1, at_least=-1)
    """Environment steps, -1 for no limit."""
    score_to_win: float = float("inf")
    """Stop at a new best mean return above this."""
    save_best_after: int = ranged(100, at_least=0)
    """First iteration at which <name>.pth may be written."""
    save_frequency: int = ranged(0, at_least=0)
    """Also keep a checkpoint every so many iterations; 0 for none."""
    games_to_track: int = ranged(100, at_least=1)
    """Finished episodes that mean returns and lengths are taken over."""
    train_dir: str = "runs"
    full_experiment_name: str | None = None
    """Name of the run folder; None takes the name with a time stamp."""
    player: PlayerConfig = PlayerConfig()
    features: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("max_epochs", "max_frames"):
            if getattr(self, key) == 0:
                raise PhalanxError(f"params.config.{key} is 0; give 1 or more, or -1 for no limit")
        if self.multi_gpu:
            raise PhalanxError("params.config.multi_gpu is true, but one device is used; set false")


@dataclass(frozen=True)
class CentralValueConfig:
    """`params.config.central_value_config`: a critic that sees what the policy does not."""

    NO_EFFECT: ClassVar[frozenset[str]] = frozenset(
        {"kl_threshold", "schedule_type", "gamma", "tau", "use_smooth_clamp", "critic_coef"}
        | {"normalize_value", "lr_multiplier", "entropy_coef", "mixed_precision"}
    )

    network: dict[str, Any]
    """Like params.network, with central_value: true and without a space."""
    model: dict[str, Any] = field(default_factory=lambda: {"name": "central_value"})
    normalize_input: bool = True
    minibatch_size: int | None = ranged(None, at_least=1)
    minibatch_size_per_env: int = ranged(0, at_least=0)
    mini_epochs: int = ranged(4, at_least=1)
    learning_rate: float = ranged(3e-4, above=0)
    lr_schedule: str | None = None
    """linear decays it to max_epochs; anything else keeps it."""
    clip_value: bool = True
    e_clip: float = ranged(0.2, above=0)
    truncate_grads: bool = False
    grad_norm: float = ranged(1.0, above=0)
    weight_decay: float = ranged(0.0, at_least=0)
    freeze_critic: bool = False
    """Do not train it."""


@dataclass(frozen=True)
class PPOConfig(AgentConfig):
    """`params.config` of the agents a2c_continuous and a2c_discrete."""

    # rollout
    horizon_length: int = ranged(16, at_least=1)
    """Steps T an iteration collects in every environment."""
    tau: float = ranged(0.95, at_least=0, at_most=1)
    """Lambda of GAE."""
    value_bootstrap: Literal["reached"] | bool = "reached"
    """What a time-out bootstraps from. "reached": the value of the state that was reached, before
    the reset, which is right. true: RL Games' rule, the value of the state before the step.
    false: nothing, a time-out counts as a termination."""
    normalize_advantage: bool = True
    use_action_masks: bool = False
    """Ask the environment for get_action_masks() before every step; discrete actions only."""
    seq_length: int = ranged(4, at_least=1)
    """Steps that a recurrent network is trained on at once; must divide horizon_length."""
    zero_rnn_on_done: bool = True
    """A recurrent state starts every episode at zero."""
    central_value_config: CentralValueConfig | None = None
    """Another network on the environment's `states` estimates the value."""
    use_experimental_cv: bool | None = None
    """With a central value: train the policy network's own value too; None is RL Games' choice,
    yes for continuous actions and no for discrete ones."""

    # update
    minibatch_size: int | None = ranged(None, at_least=1)
    """Samples of a minibatch; must divide N * T. None needs minibatch_size_per_env."""
    minibatch_size_per_env: int = ranged(0, at_least=0)
    """Minibatch = this * N, when minibatch_size is not given."""
    mini_epochs: int = ranged(4, at_least=1)
    """Passes over the batch."""
    learning_rate: float = ranged(3e-4, above=0)
    lr_schedule: str | None = None
    """adaptive (by KL), linear (to max_epochs or max_frames); None, constant, fixed and identity
    keep it."""
    schedule_type: Literal["legacy", "per_minibatch", "standard", "standard_epoch"] = "legacy"
    """When adaptive acts: after every minibatch (legacy) or every pass over the batch."""
    kl_threshold: float = ranged(0.008, above=0)
    min_lr: float = ranged(1e-6, above=0)
    max_lr: float = ranged(1e-2, above=0)
    e_clip: float = ranged(0.2, above=0)
    """Clip range of the ratio and of the value, the latter in normalised units."""
    clip_value: bool = True
    critic_coef: float = ranged(2.0, at_least=0)
    """Weight of half the value loss."""
    entropy_coef: float = 0.0
    schedule_entropy: bool = False
    """With linear: the entropy weight decays too, to 1e-4."""
    bounds_loss_coef: float | None = None
    """Weight of the penalty on mean actions beyond +-1.1; None is 0."""
    bound_loss_type: Literal["bound", "regularisation", "regularization"] = "bound"
    use_smooth_clamp: bool = False
    truncate_grads: bool = False
    grad_norm: float = ranged(1.0, above=0)
    """Largest gradient norm, if truncate_grads."""
    weight_decay: float = ranged(0.0, at_least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        known = (None, "adaptive", "linear", "constant", "fixed", "identity", "none")
        if self.lr_schedule not in known:
            raise PhalanxError(
                f"params.config.lr_schedule is {self.lr_schedule!r}, it must be adaptive, linear,"
                " constant or None"
            )

    def minibatch(self, num_envs: int) -> int:
        """Samples of a minibatch for `num_envs` environments. Raises PhalanxError if it does not
        divide the batch."""
        return minibatch_size(self, num_envs, self.horizon_length, "params.config")


def minibatch_size(
    config: PPOConfig | CentralValueConfig, num_envs: int, horizon: int, where: str
) -> int:
    """Samples of a minibatch of `num_envs` x `horizon`; PhalanxError if it does not divide."""
    batch = num_envs * horizon
    size = config.minibatch_size or config.minibatch_size_per_env * num_envs or batch
    if batch % size:
        near = min((d for d in range(1, batch + 1) if batch % d == 0), key=lambda d: abs(d - size))
        raise PhalanxError(
            f"{where}.minibatch_size {size} does not divide the batch of {batch} samples"
            f" ({num_envs} environments x horizon_length {horizon});"
            f" take {near}, or set minibatch_size_per_env"
        )
    return size
