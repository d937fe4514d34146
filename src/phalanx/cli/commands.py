"""The commands of `phalanx`: purpose, function and keys of each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command."""

    goal: str
    """Its purpose in a few words."""
    function: str
    """"module:function", which takes the arguments that follow the command. It returns the exit
    code, or None for success. Imported only when it runs."""
    usage: str
    """Arguments that may follow the command."""
    examples: tuple[str, ...]
    options: str = ""
    """"module:Class", the dataclass with its keys; empty for a command without any."""
    takes_task: bool = False
    """Whether it also takes the keys below `task.` and `train.`."""


COMMANDS = {
    "new": Command(
        "create a project for your own robots, or a task for a robot's file",
        "phalanx.cli.new:new",
        "<folder> [robot=<file or name>] [task=<Name>]",
        (
            "new my_robots                            with a worked example",
            "new my_robots robot=dog.xml task=DogWalk  with a task for this robot",
        ),
        "phalanx.cli.new:NewOptions",
    ),
    "train": Command(
        "train a policy for a task",
        "phalanx.cli.train:train",
        "[-m] [--cfg] [key=value ...]",
        (
            "train task=Cartpole seed=1 num_envs=1024",
            "train checkpoint=runs/Cartpole           continue where a run stopped",
            "train -m seed=1,2,3                      one run after the other, then a summary",
            "train --cfg task=Ant                     print the configuration and stop",
        ),
        "phalanx.cli.options:TrainOptions",
        takes_task=True,
    ),
    "play": Command(
        "evaluate a policy, show it, or record a video of it",
        "phalanx.cli.play:play",
        "[checkpoint=<file or run folder>] [--cfg] [key=value ...]",
        (
            "play checkpoint=runs/Cartpole/nn/Cartpole.pth games=64 video=true",
            "play checkpoint=runs/Cartpole view=true  in a web page",
            "play task=Go2Velocity view=true          without a policy: random actions",
        ),
        "phalanx.cli.options:PlayOptions",
        takes_task=True,
    ),
    "export": Command(
        "write a policy as one file that runs without Phalanx",
        "phalanx.cli.export:export_checkpoint",
        "checkpoint=<file or run folder> [--cfg] [key=value ...]",
        ("export checkpoint=runs/Ant/nn/Ant.pth",),
        "phalanx.cli.options:ExportOptions",
        takes_task=True,
    ),
    "sim2sim": Command(
        "run an exported policy in plain MuJoCo and write a report",
        "phalanx.cli.sim2sim:sim2sim",
        "<file>.onnx [key=value ...]",
        (
            "sim2sim runs/Ant/nn/Ant.pth.onnx",
            "sim2sim runs/Ant/nn/Ant.pth.onnx window=true task.env.episode_length=500",
        ),
        "phalanx.cli.sim2sim:Sim2SimOptions",
    ),
    "bench": Command(
        "measure speed and memory on this machine",
        "phalanx.cli.bench:bench",
        "[key=value ...]",
        (
            "bench task=Ant,Humanoid num_envs=256,1024,4096 out=bench.json",
            "bench task=Ant returns=3000 seeds=0,1,2  time to a mean return of 3000",
            "bench task=Ant against=rl_games,rsl_rl   also measure other trainers",
        ),
        "phalanx.cli.bench:BenchOptions",
        takes_task=True,
    ),
    "tune": Command(
        "search for good settings of a task with many runs",
        "phalanx.cli.tune:tune",
        "[key=value,value ...] [key=loguniform(a,b) ...]",
        (
            "tune task=Ant train.params.config.learning_rate=1e-4,3e-4,1e-3 seed=1,2",
            "tune task=Ant 'train.params.config.gamma=uniform(0.97,0.999)' scheduler=asha",
            "tune task=Ant scheduler=pbt samples=8 gpus=0.25",
            "tune study=studies/Ant                   continue where a study stopped",
        ),
        "phalanx.cli.tune:TuneOptions",
        takes_task=True,
    ),
    "warmup": Command(
        "compile the GPU kernels before the first run",
        "phalanx.cli.warmup:warmup",
        "[task=all] [key=value ...]",
        ("warmup task=all",),
        "phalanx.cli.options:WarmupOptions",
        takes_task=True,
    ),
    "list": Command("list the tasks", "phalanx.cli.list:list_tasks", "", ("list",)),
    "motion": Command(
        "show, check or convert a motion clip",
        "phalanx.cli.motion:motion",
        "show|check <clip> [key=value ...]  or  convert <clip> <file>.json [key=value ...]",
        (
            "motion show walk out=walk.mp4            a table, and a video of the robot",
            "motion check run.npy                     exit code 1 if anything is wrong",
            "motion convert 07_01.bvh walk.json start=0.5 end=3",
        ),
        "phalanx.cli.motion:MotionOptions",
    ),
    "robot": Command(
        "show what a robot's file contains, and the robot",
        "phalanx.cli.robot:robot",
        "<file or name> [key=value ...]",
        (
            "robot go2.xml                            its parts, and two seconds on the ground",
            "robot unitree_go2 view=true              from MuJoCo Menagerie, in a web page",
            "robot arm.urdf out=arm.xml picture=arm.png",
        ),
        "phalanx.cli.robot:RobotOptions",
    ),
    "doctor": Command(
        "check what a repository for Isaac Gym needs to run here",
        "phalanx.cli.doctor:doctor",
        "<path> [all=true] [json=<file>]",
        ("doctor ~/legged_gym", "doctor ~/legged_gym all=true json=report.json"),
        "phalanx.cli.doctor:DoctorOptions",
    ),
    "completion": Command(
        "complete commands, keys and tasks in bash, zsh or fish",
        "phalanx.cli.completion:completion",
        "bash|zsh|fish",
        (
            'completion bash                          put eval "$(phalanx completion bash)" into'
            " ~/.bashrc",
            'completion zsh                           put eval "$(phalanx completion zsh)" into'
            " ~/.zshrc",
            "completion fish                          put phalanx completion fish | source into"
            " config.fish",
        ),
    ),
}

ALGORITHMS = {
    "a2c_continuous": "phalanx.rl.config:PPOConfig",
    "a2c_discrete": "phalanx.rl.config:PPOConfig",
    "sac": "phalanx.rl.config:SACConfig",
    "dqn": "phalanx.rl.config:DQNConfig",
    "amp_continuous": "phalanx.rl.config:AMPConfig",
    "distillation": "phalanx.rl.config:DistillationConfig",
}
"""The class of `train.params.config` by `algo.name`."""

NETWORKS = {
    "actor_critic": "phalanx.rl.networks:ActorCriticConfig",
    "resnet_actor_critic": "phalanx.rl.networks:ActorCriticConfig",
    "amp": "phalanx.rl.amp_network:AMPNetworkConfig",
    "soft_actor_critic": "phalanx.rl.sac_network:SACNetworkConfig",
    "q_network": "phalanx.rl.q_network:QNetworkConfig",
}
"""The class of `train.params.network` by `network.name`."""
