"""RL Games' YAML as typed dataclasses: every key of every agent, its default, unit and meaning.

Keys and formulas are RL Games' 1.6.5. Where Phalanx has more to offer, the default is RL Games'
own name with a new value (`value_bootstrap: reached`), and the field says so.
"""

import math
import os
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from phalanx.config import ranged
from phalanx.errors import PhalanxError

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
"""Keys of published RL Games files that change nothing here; they are listed when a run starts."""

OFF_POLICY_NO_EFFECT = NO_EFFECT | {
    *("clip_actions", "max_env_steps", "normalize_value", "torch_compile", "use_diagnostics"),
}


@dataclass(frozen=True)
class RewardShaper:
    """(reward + shift_value) * scale_value, clamped, then its logarithm if asked for."""

    scale_value: float = 1.0
    shift_value: float = 0.0
    min_val: float = -float("inf")
    max_val: float = float("inf")
    log_val: bool = False

    NO_EFFECT: ClassVar[frozenset[str]] = frozenset({"is_torch"})


@dataclass(frozen=True)
class PlayerConfig:
    """`params.config.player`."""

    games_num: int = ranged(256, at_least=1)
    """Episodes to play."""
    deterministic: bool = True
    """Play the mean or most likely action; False samples."""

    NO_EFFECT: ClassVar[frozenset[str]] = frozenset(
        {"render", "render_sleep", "print_stats", "n_game_life", "use_vecenv", "env_config"}
        | {"evaluation", "update_checkpoint_freq", "dir_to_monitor", "balance_env_rewards"}
        | {"device_name", "determenistic"}
    )


@dataclass(frozen=True)
class AgentConfig:
    """`params.config`, as far as every agent reads it."""

    NO_EFFECT: ClassVar[frozenset[str]] = NO_EFFECT
    """Keys that are accepted and change nothing."""

    name: str
    """Stem of the run folder and of checkpoints."""
    env_name: str = "rlgpu"
    """Name under which the environment is registered (`phalanx.rl.vecenv.register`)."""
    env_config: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments for the environment."""
    num_actors: int | None = ranged(None, at_least=-1)
    """Environments N; None, and -1 as Isaac Lab writes it, takes the environment's own number."""
    device: str = "auto"
    """Device of the network and its training; auto is where the environment is."""
    sim_device: str | None = None
    """Device of the environment; None is the same."""
    multi_gpu: bool = False
    """One process trains, whatever this says."""
    deterministic: bool = False
    """On a GPU, the same bits in every run: torch takes only algorithms that repeat. The task needs
    `deterministic` as well, which `phalanx train deterministic=true` sets."""

    reward_shaper: RewardShaper = RewardShaper()
    gamma: float = ranged(0.99, at_least=0, at_most=1)
    """Discount."""
    normalize_input: bool = True
    normalize_value: bool = False
    clip_actions: bool = True
    """Clamp samples to +-1 and rescale to the action space's bounds; false passes them as are."""
    mixed_precision: bool = False
    """On CUDA, bfloat16 autocast in the training pass; the rollout stays in float32."""

    max_epochs: int = ranged(-1, at_least=-1)
    """Iterations, -1 for no limit."""
    max_frames: int = ranged(-1, at_least=-1)
    """Environment steps, -1 for no limit."""
    max_steps: int = ranged(-1, at_least=-1)
    """RL Games' other name for max_frames; the larger one counts."""
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
    algo_observer: Literal["default", "isaac"] | None = None
    """RL Games' observer that a Runner without one of its own takes."""
    features: dict[str, Any] = field(default_factory=dict)
    """Set by the Runner: `observer`."""
    self_play_config: Any = None
    """Refused: there is no self play."""

    def __post_init__(self) -> None:
        if self.num_actors == 0:
            raise PhalanxError(
                "params.config.num_actors is 0; it must be at least 1, or -1 for the environment's"
                " own number"
            )
        if self.self_play_config:
            raise PhalanxError(
                "params.config.self_play_config asks for self play, which Phalanx does not have;"
                " leave it out to train against the environment as it is"
            )
        object.__setattr__(self, "max_frames", max(self.max_frames, self.max_steps))
        for key in ("max_epochs", "max_frames"):
            if getattr(self, key) == 0:
                raise PhalanxError(f"params.config.{key} is 0; give 1 or more, or -1 for no limit")
        if self.multi_gpu and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise PhalanxError(
                "params.config.multi_gpu is true in one of several processes, but training runs in"
                " one; start it without torchrun"
            )


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
    normalize_rms_advantage: bool = False
    """Normalise by moving statistics over iterations instead of the batch's own."""
    adv_rms_momentum: float = ranged(0.5, at_least=0, at_most=0.9999)
    """Share of the moving statistics that an iteration leaves in place."""
    epochs_between_resets: int = ranged(0, at_least=0)
    """Start all episodes anew every so many iterations; 0 for never."""
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

    rnd_config: dict[str, Any] | None = None
    """Add a reward for what is new; see `phalanx.rl.curiosity.RNDConfig`."""

    torch_compile: bool | str | dict[str, Any] = True
    """On CUDA, merge the many small kernels of task, policy and losses with torch.compile; false
    starts faster and runs slower. RL Games' compile modes all mean true."""

    use_diagnostics: bool = False
    """Log explained variance, clip fractions and normaliser statistics as diagnostics/*."""

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
    """When adaptive acts: after every minibatch (legacy), every pass over the batch (standard), or
    never (standard_epoch, as in RL Games; with AMP, as in IsaacGymEnvs, after all passes)."""
    kl_threshold: float = ranged(0.008, above=0)
    min_lr: float = ranged(1e-6, above=0)
    max_lr: float = ranged(1e-2, above=0)
    ppo: bool = True
    """false: the plain policy gradient, without ratio and clipping (A2C)."""
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
        old = ("polynom_decay",)  # RL Games 1.6.5 keeps the rate
        if self.lr_schedule not in known + old:
            raise PhalanxError(
                f"params.config.lr_schedule is {self.lr_schedule!r}; it must be adaptive, linear,"
                " constant or None"
            )

    def check_sequences(self, minibatch: int, where: str) -> None:
        """PhalanxError unless a recurrent network's sequences divide horizon and minibatch."""
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

    def minibatch(self, num_envs: int) -> int:
        """Samples of a minibatch for `num_envs` environments. Raises PhalanxError if it does not
        divide the batch."""
        return minibatch_size(self, num_envs, self.horizon_length, "params.config")


@dataclass(frozen=True)
class AMPConfig(PPOConfig):
    """`params.config` of the agent amp_continuous; defaults are IsaacGymEnvs' HumanoidAMP's.

    Time-outs always bootstrap from the value of the state that was reached, whatever
    `value_bootstrap` says, as there.
    """

    NO_EFFECT: ClassVar[frozenset[str]] = NO_EFFECT | {"value_bootstrap", "amp_input_shape"}

    critic_coef: float = ranged(5.0, at_least=0)
    """Weight of the value loss, the whole of it."""
    bounds_loss_coef: float | None = 10.0
    """Weight of the penalty on mean actions beyond +-1; None is 0."""

    task_reward_w: float = 0.0
    """Weight of the environment's reward."""
    disc_reward_w: float = 1.0
    """Weight of the discriminator's reward."""
    disc_reward_scale: float = ranged(2.0, at_least=0)
    """Of the discriminator's reward, -log(1 - probability of being a demonstration)."""
    disc_coef: float = ranged(5.0, at_least=0)
    """Weight of the discriminator's loss."""
    disc_logit_reg: float = ranged(0.05, at_least=0)
    """Weight, in that, of the squared weights of the last layer."""
    disc_grad_penalty: float = ranged(5.0, at_least=0)
    """Weight, in that, of the squared gradient by the demonstrations, normalised."""
    disc_weight_decay: float = ranged(1e-4, at_least=0)
    """Weight, in that, of the squared weights of all layers."""
    normalize_amp_input: bool = True
    """Normalise what the discriminator sees by running statistics."""
    amp_obs_demo_buffer_size: int = ranged(200_000, at_least=1)
    """Demonstrations to draw from; filled before the first iteration."""
    amp_batch_size: int = ranged(512, at_least=1)
    """Demonstrations that an iteration adds."""
    amp_replay_buffer_size: int = ranged(1_000_000, at_least=1)
    """Observations of the policy's past to draw from."""
    amp_replay_keep_prob: float = ranged(0.01, at_least=0, at_most=1)
    """Share of an iteration's observations that are kept once that many have been."""
    amp_minibatch_size: int | None = ranged(None, at_least=1)
    """Rows of a minibatch that the discriminator sees, as many of the replay, and as many
    demonstrations; None needs amp_minibatch_size_per_env."""
    amp_minibatch_size_per_env: int = ranged(0, at_least=0)
    """The same = this * N, when amp_minibatch_size is not given; 0 for whole minibatches."""
    save_replay_buffer: bool = False
    """Checkpoints hold both buffers, a gigabyte in IsaacGymEnvs' sizes, so that a run continues bit
    for bit; without them it continues with new demonstrations and an empty replay."""
    print_disc_prediction: bool = False
    """The player prints the discriminator's logit and reward for environment 0 in every step."""

    def amp_minibatch(self, num_envs: int) -> int:
        """Rows of a minibatch for the discriminator. Raises PhalanxError for too many."""
        minibatch = self.minibatch(num_envs)
        size = self.amp_minibatch_size or self.amp_minibatch_size_per_env * num_envs or minibatch
        if size > minibatch:
            raise PhalanxError(
                f"params.config.amp_minibatch_size {size} is larger than the minibatch of"
                f" {minibatch} samples; give at most that, or set amp_minibatch_size_per_env"
            )
        return size


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


@dataclass(frozen=True)
class OffPolicyConfig(AgentConfig):
    """`params.config`, as far as both sac and dqn read it."""

    NO_EFFECT: ClassVar[frozenset[str]] = OFF_POLICY_NO_EFFECT

    normalize_input: bool = False
    save_best_after: int = ranged(500, at_least=0)
    """First iteration at which <name>.pth may be written."""

    # rollout and replay
    num_steps_per_episode: int = ranged(1, at_least=1)
    """Steps that an iteration takes in every environment, each followed by its updates."""
    num_warmup_steps: int = ranged(1000, at_least=0)
    """Iterations until learning starts; before, actions are random."""
    num_warmup_frames: int | None = ranged(None, at_least=0)
    """The same in environment steps, all environments together; it comes first."""
    replay_buffer_size: int = ranged(1_000_000, at_least=1)
    """Transitions to remember, all environments together."""
    save_replay_buffer: bool = False
    """Checkpoints hold what is remembered, so that a run continues bit for bit."""
    value_bootstrap: bool = True
    """A time-out bootstraps from the value of the state that was reached; false: it counts as a
    termination."""
    n_step: int = ranged(1, at_least=1)
    """Rewards in a return before the value takes over."""

    # update
    batch_size: int = ranged(256, at_least=1)
    """Transitions of an update, drawn with replacement."""
    num_updates_per_step: int = ranged(1, at_least=1)
    """Updates after every step of all environments."""
    utd_ratio: float | None = ranged(None, above=0)
    """Updates per environment step instead: max(1, round(utd_ratio * N)) after every step of all N
    environments."""

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
    critic_lr: float = ranged(3e-4, above=0)
    alpha_lr: float = ranged(3e-4, above=0)
    actor_betas: tuple[float, ...] = ranged((0.9, 0.999), at_least=0, at_most=1)
    critic_betas: tuple[float, ...] = ranged((0.9, 0.999), at_least=0, at_most=1)
    alphas_betas: tuple[float, ...] = ranged((0.9, 0.999), at_least=0, at_most=1)
    critic_tau: float = ranged(0.005, above=0, at_most=1)
    """Share of the critic that goes into its target with every update."""
    critic_grad_clip: float = ranged(5.0, at_least=0)
    """Largest norm of the critics' gradient; 0 for any."""
    policy_frequency: int = ranged(2, at_least=1)
    """The actor and alpha learn with every so many-th update."""
    clipped_double_q: bool = True
    """Of two values the smaller counts; false: their mean, as FastSAC."""
    init_alpha: float = ranged(1.0, above=0)
    """Weight of the entropy at the start."""
    learnable_temperature: bool = True
    """It steers the entropy towards target_entropy_coef * -(number of actions)."""
    target_entropy_coef: float = 1.0
    min_alpha: float = ranged(0.01, at_least=0)
    """The actor's loss weighs entropy at least so much; RL Games' constant."""

    @property
    def learning_rate(self) -> float:
        """What is shown of the three."""
        return self.actor_lr


@dataclass(frozen=True)
class DQNConfig(OffPolicyConfig):
    """`params.config` of the agent dqn."""

    learning_rate: float = ranged(1e-3, above=0)
    grad_norm: float = ranged(10.0, at_least=0)
    """Largest gradient norm; 0 for any."""
    target_tau: float = ranged(0.005, above=0, at_most=1)
    """Share of the network that goes into its target with every update."""
    is_double: bool = True
    """The network chooses the next action, the target only judges it."""
    epsilon: float = ranged(1.0, at_least=0, at_most=1)
    """Share of random actions at the start."""
    min_epsilon: float = ranged(0.05, at_least=0, at_most=1)
    """Share of random actions from epsilon_decay_frames on."""
    epsilon_decay_frames: int = ranged(100_000, at_least=1)
    """Environment steps, all environments together, in which epsilon falls, linearly."""
    replay_buffer_type: Literal["normal", "prioritized"] = "normal"
    priority_alpha: float = ranged(0.6, at_least=0, at_most=1)
    """Exponent of the TD error in a priority; 0 draws uniformly."""
    priority_beta: float = ranged(0.4, at_least=0, at_most=1)
    """Exponent of the importance weights at the start; it rises to 1."""
    beta_decay_frames: int = ranged(100_000, at_least=1)
    """Environment steps, all environments together, in which it does."""
