"""Keys of the command line that are treated specially."""

TEXTS = (
    "checkpoint",
    "experiment",
    "train_dir",
    "sim_device",
    "rl_device",
    "task.env.asset",
    "host",
)
"""Keys whose value is used as typed, without YAML: mostly paths."""

DECIDED = {
    "name": "task",
    "env_name": "task",
    "device": "rl_device",
    "sim_device": "sim_device",
    "train_dir": "train_dir",
    "full_experiment_name": "experiment",
    "multi_gpu": "multi_gpu",
    "player.games_num": "games",
}
"""Keys of train.params.config that an option sets."""

ELSEWHERE = {
    "test": "`phalanx play` plays a checkpoint",
    "capture_video": "`phalanx play video=true` writes a video",
    "device": "give sim_device= and rl_device=",
    "video": "video_every= films training, and `phalanx play video=true` a policy",
    "graphics_device_id": "browsers draw view=true, and a process of its own video_every=",
    "max_epochs": "give max_iterations=",
    "lr": "give train.params.config.learning_rate=",
    "multi_gpu": "only `phalanx train` uses several GPUs",
    "pipeline": "give sim_device= and rl_device=",
    "physics_engine": "sim_device= chooses: MuJoCo on cpu, MuJoCo Warp on cuda",
    "sigma": "give train.params.network.space.continuous.sigma_init.val=",
    "wandb_activate": "runs are logged to TensorBoard",
    "wandb_project": "runs are logged to TensorBoard",
}
"""Options of IsaacGymEnvs and RL Games that have another name or no counterpart here."""
