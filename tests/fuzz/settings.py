"""YAML files: of a run folder, of a project's task and of its training; and randomisation."""

import os

import torch
import yaml

from fuzz import mutate
from phalanx import tasks
from phalanx.cli.config import as_settings, compose_config, resolved, train_params
from phalanx.errors import PhalanxError
from phalanx.rl import Runner

SMALL = ("num_envs=2", "sim_device=cpu", "rl_device=cpu", "engine=mujoco")
LARGEST = 300
"""Larger whole numbers than this are right settings, but too large to run here."""
TASK = """
from phalanx.tasks.cartpole import Cartpole, CartpoleConfig

class Mine(Cartpole):
    pass
"""
ENV = {
    "env": {"episode_length": 100, "dt": 0.0166, "substeps": 2, "clip_actions": 1.0},
    "randomize": False,
    "randomization_params": {"frequency": 1},
}
TRAIN = {
    "params": {
        "seed": "${...seed}",
        "algo": {"name": "a2c_continuous"},
        "model": {"name": "continuous_a2c_logstd"},
        "load_checkpoint": "${if:${...checkpoint},True,False}",
        "network": {
            "name": "actor_critic", "separate": False,
            "space": {"continuous": {
                "mu_activation": "None", "sigma_activation": "None", "fixed_sigma": True,
                "mu_init": {"name": "default"},
                "sigma_init": {"name": "const_initializer", "val": 0},
            }},
            "mlp": {"units": [8, 8], "activation": "elu", "initializer": {"name": "default"}},
        },
        "config": {
            "name": "${resolve_default:Mine,${....experiment}}", "env_name": "rlgpu",
            "normalize_input": True, "normalize_value": True, "reward_shaper": {"scale_value": 0.1},
            "gamma": 0.99, "tau": 0.95, "learning_rate": 3e-4, "lr_schedule": "adaptive",
            "kl_threshold": 0.008, "e_clip": 0.2, "clip_value": True, "critic_coef": 4,
            "entropy_coef": 0.0, "grad_norm": 1.0, "truncate_grads": True, "horizon_length": 8,
            "minibatch_size": 16, "mini_epochs": 2, "max_epochs": 10, "bounds_loss_coef": 1e-4,
            "num_actors": "${....task.env.numEnvs}", "score_to_win": 20000,
        },
    }
}  # fmt: skip


class Settings:
    """A project and a run folder; what is accepted makes an agent, which trains for an iteration
    if it is small."""

    def __init__(self, folder):
        torch.set_num_threads(1)
        self.folder = folder / "project"
        for place in ("cfg/task", "cfg/train", "tasks/mine", "runs/Mine/nn"):
            (self.folder / place).mkdir(parents=True)
        (self.folder / "tasks/mine/mine.py").write_text(TASK)
        os.chdir(self.folder)
        self.good = {
            "cfg/task/Mine.yaml": yaml.safe_dump(ENV),
            "cfg/train/MinePPO.yaml": yaml.safe_dump(TRAIN, sort_keys=False),
        }
        self.write("", b"")
        options = resolved(compose_config(["task=Mine", *SMALL]))
        self.good["runs/Mine/config.yaml"] = yaml.safe_dump(as_settings(options), sort_keys=False)

    def write(self, changed, data):
        for name, text in self.good.items():
            (self.folder / name).write_bytes(data if name == changed else text.encode())

    def case(self, rng):
        name = rng.choice(list(self.good))
        if rng.randrange(2):
            return name, mutate.of_text(rng, self.good[name].encode())
        changed = mutate.of_structure(rng, yaml.safe_load(self.good[name]))
        try:
            return name, yaml.safe_dump(changed).encode()
        except (yaml.YAMLError, ValueError):
            return name, b"{}"

    def __call__(self, argument):
        name, data = argument
        self.write(name, data)
        given = ["checkpoint=runs/Mine"] if name.startswith("runs") else ["task=Mine"]
        options = resolved(compose_config([*given, *SMALL]))
        params = train_params(options)
        runner = Runner()
        runner.load({"params": params})
        if largest(params) <= LARGEST:
            run_once(runner)


def run_once(runner):
    try:
        _run_once(runner)
    except RuntimeError as error:
        if "allocate memory" in str(error):
            raise PhalanxError("not enough memory, as the command line says") from None
        raise


def _run_once(runner):
    agent = runner.algo_factory.create(runner.algo_name, base_name="run", params=runner.params)
    agent.reset(agent.hooked_env)
    agent.run.epoch_num += 1
    agent.run.iterate(lambda: None)
    assert agent.obs["obs"].isfinite().all(), "an observation is not finite"
    if not all(v.isfinite().all() for v in agent.statistics().values()):
        raise PhalanxError("the losses became NaN, as a run would say")


def largest(value):
    """The largest whole number in nested settings that could be a size."""
    if isinstance(value, dict):
        skip = ("seed", "num_envs", "max_epochs", "max_frames", "score_to_win", "frequency")
        return max([largest(v) for k, v in value.items() if k not in skip], default=0)
    if isinstance(value, (list, tuple)):
        return max(map(largest, value), default=0)
    if hasattr(value, "__dataclass_fields__"):
        return largest(vars(value))
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


class CommandLine:
    """Arguments of `phalanx train`, up to the settings of a run."""

    GOOD = """task=Cartpole num_envs=8 seed=3 train.params.config.learning_rate=1e-3
    train.params.network.mlp.units=[8,8] train.params.config.max_epochs=10 experiment=a
    task.env.episode_length=100 task.randomize=true sim_device=cpu engine=mujoco checkpoint=a.pth
    train.params.config={gamma: 0.9} train=CartpoleLSTM videos=1 target=10""".split()

    def __init__(self, folder):
        torch.set_num_threads(1)
        os.chdir(folder)

    def case(self, rng):
        words = ["task=Cartpole", *rng.sample(self.GOOD, rng.randrange(5))]
        at = rng.randrange(len(words))
        words[at] = mutate.of_text(rng, words[at].encode()).decode("utf8", "replace")
        return words

    def __call__(self, words):
        params = train_params(resolved(compose_config(words)))
        Runner().load({"params": params})


RANDOMIZATION = {
    "frequency": 2,
    "observations": {"range": [0, 0.002], "operation": "additive", "distribution": "gaussian",
                     "schedule": "linear", "schedule_steps": 10, "range_correlated": [0, 0.1]},
    "actions": {"range": [0, 0.02], "operation": "additive", "distribution": "gaussian"},
    "sim_params": {"gravity": {"range": [0, 0.4], "operation": "additive",
                               "distribution": "gaussian"}},
    "actor_params": {"ant": {
        "color": True,
        "scale": {"range": [0.9, 1.1], "operation": "scaling", "distribution": "uniform",
                  "setup_only": True},
        "rigid_body_properties": {
            "mass": {"range": [0.5, 1.5], "operation": "scaling", "distribution": "uniform"}},
        "rigid_shape_properties": {
            "friction": {"range": [0.5, 1.5], "operation": "scaling", "distribution": "uniform"},
            "restitution": {"range": [0, 0.4], "operation": "additive",
                            "distribution": "uniform"}},
        "dof_properties": {
            "damping": {"range": [0.5, 1.5], "operation": "scaling", "distribution": "loguniform"},
            "stiffness": {"range": [0.5, 1.5], "operation": "scaling", "distribution": "uniform"},
            "lower": {"range": [0, 0.01], "operation": "additive", "distribution": "gaussian"},
            "upper": {"range": [0, 0.01], "operation": "additive", "distribution": "gaussian"}}}},
    "pushes": {"ant": {"interval_s": [0.1, 0.2], "lin_vel": [-0.5, 0.5], "ang_vel": [-0.5, 0.5]}},
    "latency": {"actions": [0, 2], "observations": [0, 1]},
}  # fmt: skip


class Randomization:
    """Ant with broken randomisation; what is accepted keeps limits in order and values finite."""

    def __init__(self, folder):
        torch.set_num_threads(1)
        if folder:
            os.chdir(folder)

    def case(self, rng):
        return mutate.of_structure(rng, RANDOMIZATION)

    def __call__(self, params):
        task = tasks.make("Ant", 2, "cpu", randomize=True, randomization_params=params, substeps=1)
        task.reset()
        for _ in range(3):
            obs, reward, *_ = task.step(torch.ones(2, 8))
            assert obs["obs"].isfinite().all(), "an observation is not finite"
            assert reward.isfinite().all(), "a reward is not finite"
        for env in range(2):
            model = task.sim.model_of(env)
            limited = model.jnt_limited.astype(bool)
            low, high = model.jnt_range[limited].T
            assert (low <= high).all(), "a lower limit above its upper limit"
            assert (model.body_mass[1:] > 0).all(), "a mass that is not positive"
            assert (model.dof_damping >= 0).all(), "a negative damping"
            assert (model.geom_friction >= 0).all(), "a negative friction"
        if task.randomizer:
            task.randomizer.table()
