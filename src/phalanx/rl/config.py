"""RL Games' YAML as typed dataclasses: every key of every agent with default, unit and meaning.

Keys and formulas are those of RL Games 1.6.5. Where Phalanx has an extension, the key is RL Games'
own with a new value (`value_bootstrap: reached`), and the field says so. An annotation names the
class that reads a mapping where that class is needed by few runs.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from phalanx.config import ranged
from phalanx.errors import PhalanxError

MOST_ENVS = 2**24
MOST_ROWS = 10**9
"""Rows of a buffer or of a minibatch; the memory of any machine is smaller."""

NO_EFFECT = frozenset(
    {
        "asymmetric_obs",
        "bptt_length",
        "capability_manifest",
        "central_value_config1",
        "defer_summaries_sec",
        "device_name",
        "force_interval_writer",
        "freeze_critic",
        "ignore_dead_batches",
        "is_train",
        "learn_sigma",
        "log_path",
        "lr_multiplier",
        "multi_gpu_sync_stats",
        "multi_gpu_sync_stats_mode",
        "network_path",
        "num_seed_steps",
        "pbt_idx",
        "population_based_training",
        "print_stats",
        "self_play",
        "seq_len",
        "summaries_interval_sec_max",
        "summaries_interval_sec_min",
        "value_shape",
        "vecenv_type",
    }
)
"""Keys of published RL Games files that have no effect here; they are listed when a run starts."""

OFF_POLICY_NO_EFFECT = NO_EFFECT | {
    *("clip_actions", "max_env_steps", "normalize_value", "torch_compile", "use_diagnostics"),
}


@dataclass(frozen=True)
class RewardShaper:
    """(reward + shift_value) * scale_value, clamped, then its logarithm if `log_val`."""

    scale_value: float = 1.0
    """Factor of rewards, after the shift."""
    shift_value: float = 0.0
    """Added to rewards."""
    min_val: float = -float("inf")
    """Smallest shaped reward."""
    max_val: float = float("inf")
    """Largest shaped reward."""
    log_val: bool = False
    """Whether to take the logarithm of shaped rewards."""

    NO_EFFECT: ClassVar[frozenset[str]] = frozenset({"is_torch"})


@dataclass(frozen=True)
class PlayerConfig:
    """`params.config.player`."""

    games_num: int = ranged(256, at_least=1)
    """Episodes to play."""
    deterministic: bool = True
    """Play the mean or most likely action; False samples actions."""

    NO_EFFECT: ClassVar[frozenset[str]] = frozenset(
        {"render", "render_sleep", "print_stats", "n_game_life", "use_vecenv", "env_config"}
        | {"evaluation", "update_checkpoint_freq", "dir_to_monitor", "balance_env_rewards"}
        | {"device_name", "determenistic"}
    )


@dataclass(frozen=True)
class AgentConfig:
    """The keys of `params.config` that all agents share."""

    NO_EFFECT: ClassVar[frozenset[str]] = NO_EFFECT
    """Keys that are accepted but have no effect."""

    name: str
    """Base name of the run folder and of checkpoints."""
    env_name: str = "rlgpu"
    """Name under which the environment is registered (`phalanx.rl.vecenv.register`)."""
    env_config: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments for the environment."""
    num_actors: int | None = ranged(None, at_least=-1, at_most=MOST_ENVS)
    """Number of environments N; None, or Isaac Lab's -1, takes the environment's own number."""
    device: str = "auto"
    """Device of the network and its training; auto is the environment's device."""
    sim_device: str | None = None
    """Device of the environment; None is the same."""
    multi_gpu: bool = False
    """Train with all ranks that torchrun has started, each with `num_actors` environments."""
    deterministic: bool = False
    """On a GPU, the same bits in every run: torch uses deterministic algorithms only. The task
    needs `deterministic` as well, which `phalanx train deterministic=true` sets."""

    reward_shaper: RewardShaper = RewardShaper()
    gamma: float = ranged(0.99, at_least=0, at_most=1)
    """Discount."""
    normalize_input: bool = True
    """Normalise observations by their moving mean and variance."""
    normalize_value: bool = False
    """Normalise returns for the value's loss."""
    clip_actions: bool = True
    """Clamp actions to +-1 and rescale them to the action space's bounds; false passes them
    unchanged."""
    mixed_precision: bool = False
    """On CUDA, bfloat16 autocast in the training pass; the rollout stays in float32. On a CPU,
    factors of a compiled perceptron are rounded to bfloat16, if the processor multiplies it (AMX,
    AVX512_BF16)."""

    max_epochs: int = ranged(-1, at_least=-1)
    """Iterations of the run, -1 for no limit."""
    max_frames: int = ranged(-1, at_least=-1)
    """Environment steps of the run, -1 for no limit."""
    max_steps: int = ranged(-1, at_least=-1)
    """RL Games' other name for max_frames; the larger one counts."""
    score_to_win: float = float("inf")
    """Stop at a new best mean return above this."""
    save_best_after: int = ranged(100, at_least=0)
    """First iteration at which <name>.pth may be written."""
    save_frequency: int = ranged(0, at_least=0)
    """Iterations between additional checkpoints that are kept; 0 for none."""
    games_to_track: int = ranged(100, at_least=1, at_most=MOST_ROWS)
    """Number of finished episodes for mean returns and lengths."""
    train_dir: str = "runs"
    """Folder for the run folders."""
    full_experiment_name: str | None = None
    """Name of the run folder; None takes the name with a time stamp."""
    player: PlayerConfig = PlayerConfig()
    algo_observer: Literal["default", "isaac"] | None = None
    """RL Games' observer for a Runner that was not given one."""
    features: dict[str, Any] = field(default_factory=dict)
    """Set by the Runner: {"observer": ...}."""
    self_play_config: Any = None
    """Not supported: there is no self play."""

    def __post_init__(self) -> None:
        if self.num_actors == 0:
            raise PhalanxError(
                "params.config.num_actors is 0; it must be at least 1, or -1 for the environment's"
                " own number"
            )
        if self.self_play_config:
            raise PhalanxError(
                "params.config.self_play_config requests self play, which Phalanx does not support;"
                " remove it to train in the environment without self play"
            )
        object.__setattr__(self, "max_frames", max(self.max_frames, self.max_steps))
        for key in ("max_epochs", "max_frames"):
            if getattr(self, key) == 0:
                raise PhalanxError(f"params.config.{key} is 0; give 1 or more, or -1 for no limit")

    def check_sizes(self, num_envs: int, recurrent: bool) -> None:
        """Raise PhalanxError unless sizes fit `num_envs` environments and, if `recurrent`, a
        policy with memory."""

    def limit_reached(self, epoch: int, frame: int) -> str:
        """The limit that ends training after `epoch` iterations and `frame` steps; empty if
        none."""
        if self.max_epochs != -1 and epoch >= self.max_epochs:
            return f"iteration {epoch} was the last"
        if self.max_frames != -1 and frame >= self.max_frames:
            return f"step {frame:,} was the last"
        return ""


@dataclass(frozen=True)
class CentralValueConfig:
    """`params.config.central_value_config`: a critic with privileged observations."""

    NO_EFFECT: ClassVar[frozenset[str]] = frozenset(
        {"kl_threshold", "schedule_type", "gamma", "tau", "use_smooth_clamp", "critic_coef"}
        | {"normalize_value", "lr_multiplier", "entropy_coef", "mixed_precision"}
    )

    network: dict[str, Any]
    """Like params.network, with central_value: true and without a space."""
    model: dict[str, Any] = field(default_factory=lambda: {"name": "central_value"})
    """RL Games' model of the central value; only its name."""
    normalize_input: bool = True
    """Normalise observations by their moving mean and variance."""
    minibatch_size: int | None = ranged(None, at_least=1, at_most=MOST_ROWS)
    """Samples per minibatch; null takes minibatch_size_per_env."""
    minibatch_size_per_env: int = ranged(0, at_least=0, at_most=100_000)
    """Samples per minibatch and environment; 0, without minibatch_size, is the whole batch."""
    mini_epochs: int = ranged(4, at_least=1, at_most=1000)
    """Passes over the batch."""
    learning_rate: float = ranged(3e-4, above=0)
    """Step size of Adam."""
    lr_schedule: str | None = None
    """linear decays it until max_epochs; anything else keeps it constant."""
    clip_value: bool = True
    """Clip the change of values by e_clip in their loss."""
    e_clip: float = ranged(0.2, above=0)
    """Clip range of the value, in normalised units."""
    truncate_grads: bool = False
    """Clip the norm of gradients to grad_norm."""
    grad_norm: float = ranged(1.0, above=0)
    """Largest gradient norm, if truncate_grads."""
    weight_decay: float = ranged(0.0, at_least=0)
    """Adam's weight decay."""
    freeze_critic: bool = False
    """Do not train the central value."""


@dataclass(frozen=True)
class PPOConfig(AgentConfig):
    """`params.config` of the agents a2c_continuous and a2c_discrete."""

    # rollout
    horizon_length: int = ranged(16, at_least=1, at_most=100_000)
    """Steps T per iteration in every environment."""
    tau: float = ranged(0.95, at_least=0, at_most=1)
    """Lambda of GAE."""
    value_bootstrap: Literal["reached"] | bool = "reached"
    """Bootstrap of a time-out. "reached": the value of the state that was reached, before the
    reset, which is correct. true: RL Games' rule, the value of the state before the step. false:
    none, a time-out counts as a termination."""
    normalize_advantage: bool = True
    """Normalise advantages to mean 0 and standard deviation 1."""
    normalize_rms_advantage: bool = False
    """Normalise advantages by moving statistics over iterations instead of the batch's own."""
    adv_rms_momentum: float = ranged(0.5, at_least=0, at_most=0.9999)
    """Fraction of the moving statistics that is kept in an iteration."""
    epochs_between_resets: int = ranged(0, at_least=0)
    """Iterations between resets of all environments; 0 for never."""
    use_action_masks: bool = False
    """Call the environment's get_action_masks() before every step; discrete actions only."""
    seq_length: int = ranged(4, at_least=1, at_most=100_000)
    """Length of the sequences that a recurrent network is trained on; must divide
    horizon_length."""
    zero_rnn_on_done: bool = True
    """Zero the recurrent state at the start of every episode."""
    central_value_config: CentralValueConfig | None = None
    """A second network that estimates the value from the environment's `states`."""
    use_experimental_cv: bool | None = None
    """With a central value: train the policy network's own value too; None is RL Games' choice,
    yes for continuous actions and no for discrete ones."""

    rnd_config: Annotated[dict[str, Any] | None, "phalanx.rl.curiosity:RNDConfig"] = None
    """Add a reward for novel states."""
    symmetry_config: Annotated[dict[str, Any] | None, "phalanx.rl.symmetry:SymmetryConfig"] = None
    """Learn with the mirror images of left and right."""
    torch_compile: bool | str | dict[str, Any] = True
    """On CUDA, fuse the many small kernels of task, policy and losses with torch.compile; false
    starts faster and runs slower. On a CPU, compute perceptrons in compiled functions instead of by
    torch and, of Phalanx's own tasks with 256 environments or more, observations, rewards and
    resets. RL Games' compile modes all mean true."""

    use_diagnostics: bool = False
    """Log explained variance, clip fractions and normaliser statistics as diagnostics/*."""

    # update
    minibatch_size: int | None = ranged(None, at_least=1, at_most=MOST_ROWS)
    """Samples per minibatch; must divide N * T. None needs minibatch_size_per_env."""
    minibatch_size_per_env: int = ranged(0, at_least=0, at_most=100_000)
    """Samples per minibatch and environment, if minibatch_size is not given."""
    mini_epochs: int = ranged(4, at_least=1, at_most=1000)
    """Passes over the batch."""
    learning_rate: float = ranged(3e-4, above=0)
    """Step size of Adam; where an adaptive schedule begins."""
    lr_schedule: str | None = None
    """adaptive (by KL) or linear (until max_epochs or max_frames); None, constant, fixed and
    identity keep the learning rate."""
    schedule_type: Literal["legacy", "per_minibatch", "standard", "standard_epoch"] = "legacy"
    """When the adaptive schedule acts: after every minibatch (legacy), after every pass over the
    batch (standard), or never (standard_epoch, as in RL Games; with AMP, as in IsaacGymEnvs, after
    all passes)."""
    kl_threshold: float = ranged(0.008, above=0)
    """KL divergence of an update that the adaptive schedule aims at."""
    min_lr: float = ranged(1e-6, above=0)
    """Smallest learning rate of the adaptive schedule."""
    max_lr: float = ranged(1e-2, above=0)
    """Largest learning rate of the adaptive schedule."""
    ppo: bool = True
    """false uses the plain policy gradient, without ratio and clipping (A2C)."""
    e_clip: float = ranged(0.2, above=0)
    """Clip range of the ratio and of the value, the latter in normalised units."""
    clip_value: bool = True
    """Clip the change of values by e_clip in their loss."""
    critic_coef: float = ranged(2.0, at_least=0)
    """Weight of the value loss, which is halved."""
    entropy_coef: float = 0.0
    """Weight of the entropy."""
    schedule_entropy: bool = False
    """With the linear schedule, the entropy weight decays too, to 1e-4."""
    bounds_loss_coef: float | None = None
    """Weight of the penalty on mean actions, see bound_loss_type; None is 0."""
    bound_loss_type: Literal["bound", "regularisation", "regularization"] = "bound"
    """What bounds_loss_coef weighs: bound, mean actions beyond +-1.1; regularisation, the squares
    of all mean actions."""
    use_smooth_clamp: bool = False
    """Clip the ratio smoothly, as RL Games offers."""
    truncate_grads: bool = False
    """Clip the norm of gradients to grad_norm."""
    grad_norm: float = ranged(1.0, above=0)
    """Largest gradient norm, if truncate_grads."""
    weight_decay: float = ranged(0.0, at_least=0)
    """Adam's weight decay."""

    def __post_init__(self) -> None:
        super().__post_init__()
        known = (None, "adaptive", "linear", "constant", "fixed", "identity", "none")
        old = ("polynom_decay",)  # RL Games 1.6.5 keeps the rate
        if self.lr_schedule not in known + old:
            raise PhalanxError(
                f"params.config.lr_schedule is {self.lr_schedule!r}; it must be adaptive, linear,"
                " constant or None"
            )

    def check_sequences(self, minibatch: int, where: str) -> None:
        """Raise PhalanxError unless seq_length divides horizon and minibatch, in samples."""
        sizes = {
            "params.config.horizon_length": self.horizon_length,
            f"{where}.minibatch_size": minibatch,
        }
        for name, size in sizes.items():
            if size % self.seq_length:
                raise PhalanxError(
                    f"params.config.seq_length {self.seq_length} does not divide {name} of {size},"
                    " which a recurrent network needs"
                )

    def check_sizes(self, num_envs: int, recurrent: bool) -> None:
        size = self.minibatch(num_envs)
        if recurrent:
            self.check_sequences(size, "params.config")
        if self.central_value_config is not None:
            where, own = "params.config.central_value_config", self.central_value_config
            size = minibatch_size(own, num_envs, self.horizon_length, where)
            if own.network.get("rnn"):
                self.check_sequences(size, where)

    def minibatch(self, num_envs: int) -> int:
        """Samples per minibatch for `num_envs` environments. Raises PhalanxError if they do not
        divide the batch."""
        return minibatch_size(self, num_envs, self.horizon_length, "params.config")


@dataclass(frozen=True)
class DistillationConfig(PPOConfig):
    """`params.config` of the agent distillation."""

    teacher: Annotated[dict[str, Any] | None, "phalanx.rl.distillation:TeacherConfig"] = None
    """The policy to learn from; required."""


@dataclass(frozen=True)
class AMPConfig(PPOConfig):
    """`params.config` of the agent amp_continuous; defaults are those of IsaacGymEnvs' HumanoidAMP.

    As there, time-outs always bootstrap from the value of the state that was reached, whatever
    `value_bootstrap` is.
    """

    NO_EFFECT: ClassVar[frozenset[str]] = NO_EFFECT | {"value_bootstrap", "amp_input_shape"}

    critic_coef: float = ranged(5.0, at_least=0)
    """Weight of the value loss, which is not halved."""
    bounds_loss_coef: float | None = 10.0
    """Weight of the penalty on mean actions beyond +-1; None is 0."""

    task_reward_w: float = 0.0
    """Weight of the environment's reward."""
    disc_reward_w: float = 1.0
    """Weight of the discriminator's reward."""
    disc_reward_scale: float = ranged(2.0, at_least=0)
    """Factor of the discriminator's reward, -log(1 - probability of being a demonstration)."""
    disc_coef: float = ranged(5.0, at_least=0)
    """Weight of the discriminator's loss."""
    disc_logit_reg: float = ranged(0.05, at_least=0)
    """Weight in the discriminator's loss of the squared weights of the last layer."""
    disc_grad_penalty: float = ranged(5.0, at_least=0)
    """Weight in the discriminator's loss of the squared gradient with respect to the normalised
    demonstrations."""
    disc_weight_decay: float = ranged(1e-4, at_least=0)
    """Weight in the discriminator's loss of the squared weights of all layers."""
    normalize_amp_input: bool = True
    """Normalise the discriminator's inputs by running statistics."""
    amp_obs_demo_buffer_size: int = ranged(200_000, at_least=1, at_most=MOST_ROWS)
    """Size of the buffer of demonstrations; it is filled before the first iteration."""
    amp_batch_size: int = ranged(512, at_least=1, at_most=MOST_ROWS)
    """Demonstrations added in each iteration."""
    amp_replay_buffer_size: int = ranged(1_000_000, at_least=1, at_most=MOST_ROWS)
    """Size of the buffer of the policy's past observations."""
    amp_replay_keep_prob: float = ranged(0.01, at_least=0, at_most=1)
    """Fraction of an iteration's observations that is stored once the buffer has been full."""
    amp_minibatch_size: int | None = ranged(None, at_least=1, at_most=MOST_ROWS)
    """Rows of a minibatch, of the replay and of the demonstrations, each, that the discriminator is
    trained on; None needs amp_minibatch_size_per_env."""
    amp_minibatch_size_per_env: int = ranged(0, at_least=0, at_most=MOST_ROWS)
    """The same per environment, if amp_minibatch_size is not given; 0 for whole minibatches."""
    save_replay_buffer: bool = False
    """Save both buffers in checkpoints, a gigabyte with IsaacGymEnvs' sizes, so that a run
    continues bit for bit; without them it continues with new demonstrations and an empty replay."""
    print_disc_prediction: bool = False
    """The player prints the discriminator's logit and reward for environment 0 in every step."""

    def check_sizes(self, num_envs: int, recurrent: bool) -> None:
        super().check_sizes(num_envs, recurrent)
        self.amp_minibatch(num_envs)

    def amp_minibatch(self, num_envs: int) -> int:
        """Rows per minibatch for the discriminator. Raises PhalanxError for too many."""
        minibatch = self.minibatch(num_envs)
        size = self.amp_minibatch_size or self.amp_minibatch_size_per_env * num_envs or minibatch
        if size > minibatch:
            raise PhalanxError(
                f"params.config.amp_minibatch_size {size} is larger than the minibatch of"
                f" {minibatch} samples; reduce it, or set amp_minibatch_size_per_env"
            )
        return size


def minibatch_size(
    config: PPOConfig | CentralValueConfig, num_envs: int, horizon: int, where: str
) -> int:
    """Samples per minibatch of a batch of `num_envs` x `horizon` samples. Raises PhalanxError if
    they do not divide it."""
    batch = num_envs * horizon
    size = config.minibatch_size or config.minibatch_size_per_env * num_envs or batch
    if batch % size:
        small = [d for d in range(1, math.isqrt(batch) + 1) if batch % d == 0]
        near = min([*small, *(batch // d for d in small)], key=lambda d: abs(d - size))
        raise PhalanxError(
            f"{where}.minibatch_size {size} does not divide the batch of {batch} samples"
            f" ({num_envs} environments x horizon_length {horizon});"
            f" use {near}, or set minibatch_size_per_env"
        )
    return size


@dataclass(frozen=True)
class OffPolicyConfig(AgentConfig):
    """The keys of `params.config` that sac and dqn share."""

    NO_EFFECT: ClassVar[frozenset[str]] = OFF_POLICY_NO_EFFECT

    normalize_input: bool = False
    """Normalise observations by their moving mean and variance."""
    save_best_after: int = ranged(500, at_least=0)
    """First iteration at which <name>.pth may be written."""

    # rollout and replay
    num_steps_per_episode: int = ranged(1, at_least=1, at_most=100_000)
    """Steps per iteration in every environment, each followed by its updates."""
    num_warmup_steps: int = ranged(1000, at_least=0)
    """Iterations before learning starts, with random actions."""
    num_warmup_frames: int | None = ranged(None, at_least=0)
    """The same in environment steps of all environments together; it takes precedence."""
    replay_buffer_size: int = ranged(1_000_000, at_least=1, at_most=MOST_ROWS)
    """Size of the replay buffer in transitions, of all environments together."""
    save_replay_buffer: bool = False
    """Save the replay buffer in checkpoints, so that a run continues bit for bit."""
    value_bootstrap: bool = True
    """Bootstrap a time-out from the value of the state that was reached; false counts it as a
    termination."""
    n_step: int = ranged(1, at_least=1, at_most=1000)
    """Steps n of n-step returns."""

    # update
    batch_size: int = ranged(256, at_least=1, at_most=MOST_ROWS)
    """Transitions per update, drawn with replacement."""
    num_updates_per_step: int = ranged(1, at_least=1, at_most=1000)
    """Updates after every step of all environments."""
    utd_ratio: float | None = ranged(None, above=0, at_most=1000)
    """Replaces it by updates per environment step: max(1, round(utd_ratio * N)) after every step of
    all N environments."""

    def updates_per_step(self, num_envs: int) -> int:
        """Updates after every step of `num_envs` environments."""
        if self.utd_ratio is None:
            return self.num_updates_per_step
        return max(1, round(self.utd_ratio * num_envs))

    def warmup_epochs(self, num_envs: int) -> int:
        """The first iteration that learns, as RL Games 1.6.5 counts them from 1."""
        if self.num_warmup_frames is None:
            return self.num_warmup_steps
        return math.ceil(self.num_warmup_frames / (num_envs * self.num_steps_per_episode))


@dataclass(frozen=True)
class SACConfig(OffPolicyConfig):
    """`params.config` of the agent sac."""

    NO_EFFECT: ClassVar[frozenset[str]] = OFF_POLICY_NO_EFFECT | {"weight_decay"}

    actor_lr: float = ranged(3e-4, above=0)
    """Step size of the actor's Adam."""
    critic_lr: float = ranged(3e-4, above=0)
    """Step size of the critics' Adam."""
    alpha_lr: float = ranged(3e-4, above=0)
    """Step size of the temperature's Adam."""
    actor_betas: tuple[float, ...] = ranged((0.9, 0.999), at_least=0, at_most=1)
    """Adam's betas of the actor."""
    critic_betas: tuple[float, ...] = ranged((0.9, 0.999), at_least=0, at_most=1)
    """Adam's betas of the critics."""
    alphas_betas: tuple[float, ...] = ranged((0.9, 0.999), at_least=0, at_most=1)
    """Adam's betas of the temperature."""
    critic_tau: float = ranged(0.005, above=0, at_most=1)
    """Polyak coefficient of the critics' targets, per update."""
    critic_grad_clip: float = ranged(5.0, at_least=0)
    """Largest norm of the critics' gradient; 0 for no limit."""
    policy_frequency: int = ranged(2, at_least=1)
    """Number of critic updates per update of actor and alpha."""
    clipped_double_q: bool = True
    """Use the smaller of the two critics' values; false uses their mean, as in FastSAC."""
    init_alpha: float = ranged(1.0, above=0)
    """Initial weight of the entropy, alpha."""
    learnable_temperature: bool = True
    """Learn alpha so that the entropy approaches target_entropy_coef * -(number of actions)."""
    target_entropy_coef: float = 1.0
    """Factor of the target entropy, with learnable_temperature."""
    min_alpha: float = ranged(0.01, at_least=0)
    """Smallest weight of the entropy in the actor's loss; RL Games' constant."""

    @property
    def learning_rate(self) -> float:
        """The one of the three learning rates that is displayed."""
        return self.actor_lr


@dataclass(frozen=True)
class DQNConfig(OffPolicyConfig):
    """`params.config` of the agent dqn."""

    learning_rate: float = ranged(1e-3, above=0)
    """Step size of Adam."""
    grad_norm: float = ranged(10.0, at_least=0)
    """Largest gradient norm; 0 for no limit."""
    target_tau: float = ranged(0.005, above=0, at_most=1)
    """Polyak coefficient of the target network, per update."""
    is_double: bool = True
    """Double DQN: the network chooses the next action, the target network evaluates it."""
    epsilon: float = ranged(1.0, at_least=0, at_most=1)
    """Initial fraction of random actions."""
    min_epsilon: float = ranged(0.05, at_least=0, at_most=1)
    """Fraction of random actions from epsilon_decay_frames on."""
    epsilon_decay_frames: int = ranged(100_000, at_least=1)
    """Environment steps, of all environments together, over which epsilon decays linearly."""
    replay_buffer_type: Literal["normal", "prioritized"] = "normal"
    """normal draws samples uniformly, prioritized by their TD errors."""
    priority_alpha: float = ranged(0.6, at_least=0, at_most=1)
    """Exponent of the TD error in a priority; 0 draws uniformly."""
    priority_beta: float = ranged(0.4, at_least=0, at_most=1)
    """Initial exponent of the importance weights; it rises to 1."""
    beta_decay_frames: int = ranged(100_000, at_least=1)
    """Environment steps, of all environments together, over which it rises to 1."""
