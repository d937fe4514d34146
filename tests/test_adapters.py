"""Phalanx tasks in other libraries: the same transitions, and their own trainers learn from them.

The reference is the task itself, run in parallel from the same seed: on the CPU engine the same
seed gives the same numbers.
"""

import contextlib
import os
import signal
import subprocess
import sys
import types
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from phalanx import tasks
from phalanx.errors import PhalanxError

N = 8
# Episodes end after 5 steps unless the cart leaves its tiny rail before.
TASK = {"num_envs": N, "device": "cpu", "episode_length": 5, "reach": 0.2}
STEPS = 12


@pytest.fixture(autouse=True)
def one_thread():
    """Torch's threads wait for each other if other processes use the cores, too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def actions(k):
    return torch.linspace(-1, 1, N).roll(k)[:, None]


@pytest.fixture(scope="module")
def truth():
    """The task's own transitions: (obs, reward, terminated, truncated, reached) of every step."""
    torch.manual_seed(0)
    task = tasks.make("Cartpole", **TASK)
    steps = [(task.reset()["obs"].clone(), None, None, None, None)]
    for k in range(STEPS):
        obs, *rest, infos = task.step(actions(k))
        steps.append(tuple(x.clone() for x in (obs["obs"], *rest, infos["terminal"]["obs"])))
    assert sum(s[2].sum() for s in steps[1:]) > 3
    assert sum(s[3].sum() for s in steps[1:]) > 3
    return steps


def needs(*modules):
    for module in modules:
        pytest.importorskip(module, reason=f"{module} is not installed: an optional extra")


def gymnasium_steps(output):
    from phalanx.adapters.gymnasium import PhalanxVectorEnv

    env = PhalanxVectorEnv("Cartpole", output=output, **TASK)
    torch.manual_seed(0)
    obs, infos = env.reset()
    yield obs, None, None, None, None
    for k in range(STEPS):
        a = actions(k) if output == "torch" else actions(k).numpy()
        obs, reward, terminated, truncated, infos = env.step(a)
        ended = terminated | truncated
        assert ("final_obs" in infos) == (output == "torch" or ended.any())
        reached = obs.clone() if output == "torch" else torch.as_tensor(obs).clone()
        if ended.any():
            assert infos["_final_obs"].tolist() == ended.tolist()
            for i in ended.nonzero() if output == "torch" else ended.nonzero()[0]:
                reached[i] = torch.as_tensor(infos["final_obs"][i])
        yield obs, reward, terminated, truncated, reached


@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_gymnasium_sees_what_the_task_does(truth, output):
    needs("gymnasium")
    kind = torch.Tensor if output == "torch" else np.ndarray
    steps = list(gymnasium_steps(output))  # first all, then look: none may be overwritten
    assert all(isinstance(x, kind) for x in steps[-1][:4])
    for got, want in zip(steps, truth, strict=True):
        for x, y in zip(got, want, strict=True):
            assert y is None or torch.equal(torch.as_tensor(x), y)


def test_gymnasiums_own_checks_pass():
    needs("gymnasium")
    import gymnasium
    from gymnasium.utils import env_checker

    env = gymnasium.make_vec("phalanx.adapters.gymnasium:phalanx/Cartpole-v0", num_envs=4)
    env_checker.check_reset_seed_determinism(env)
    env_checker.check_reset_return_type(env)
    env_checker.check_seed_deprecation(env)
    one = gymnasium.make_vec("phalanx/Cartpole-v0", num_envs=1)  # it asks `if terminated`
    env_checker.check_returned_data_not_reused(one)
    env_checker.check_space_limit(env.single_action_space, "action")
    env.reset(seed=0)
    obs, reward, terminated, truncated, _ = env.step(env.action_space.sample())
    assert obs in env.observation_space
    assert {x.shape for x in (reward, terminated, truncated)} == {(4,)}
    with pytest.raises(PhalanxError, match="no reset options"):
        env.reset(options={"reset_mask": np.ones(4, bool)})
    # a wrapper that relies on the autoreset mode
    env = gymnasium.wrappers.vector.RecordEpisodeStatistics(
        gymnasium.make_vec("phalanx/Cartpole-v0", num_envs=4, episode_length=5, reach=100.0)
    )
    env.reset()
    lengths = [
        infos["episode"]["l"].tolist()
        for *_, infos in (env.step(np.zeros((4, 1), np.float32)) for _ in range(10))
        if "episode" in infos
    ]
    assert lengths == [[5] * 4] * 2


def test_a_single_gymnasium_environment_passes_gymnasiums_checker(recwarn):
    needs("gymnasium")
    import gymnasium
    from gymnasium.utils import env_checker

    import phalanx.adapters.gymnasium

    where = {"device": "cpu", "engine": "mujoco", "episode_length": 5, "reach": 100.0}
    # Others begin at any age, so that not all end together.
    env = gymnasium.make("phalanx/Cartpole-v0", **where, spread_starts=True)
    env_checker.check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=1)
    for k in range(5):
        obs, _, terminated, truncated, _ = env.step(np.zeros(1, np.float32))
        assert (terminated, truncated) == (False, k == 4)
    assert obs == pytest.approx(env.unwrapped.task.terminal_obs_buf[0].numpy())  # the one reached
    with pytest.raises(PhalanxError, match=r"num_envs is 4, but .* one environment; use gymna"):
        gymnasium.make("phalanx/Cartpole-v0", num_envs=4)
    with pytest.raises(PhalanxError, match="render_mode is 'human'; it must be 'rgb_array'"):
        phalanx.adapters.gymnasium.PhalanxVectorEnv("Cartpole", 2, render_mode="human")


ASYNC = """
import gymnasium, phalanx.adapters.gymnasium, torch
torch.ones(9999).sum()  # torch's threads exist before the processes fork
env = gymnasium.make_vec("phalanx/Cartpole-v0", num_envs=2, vectorization_mode="async")
env.reset(seed=1)
print(env.step(env.action_space.sample())[1].shape)
env.close()
"""


def test_gymnasiums_own_processes_step():
    with subprocess.Popen(
        [sys.executable, "-c", ASYNC], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.communicate(timeout=100)[0] == "(2,)\n"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # children that hang, too


def test_gymnasium_records_a_film(tmp_path, monkeypatch):
    needs("gymnasium")
    import gymnasium

    import phalanx.adapters.gymnasium  # noqa: F401

    class Clip:  # in place of moviepy's
        def __init__(self, frames, fps):
            film.append((len(frames), frames[0].shape, fps))

        def write_videofile(self, path, logger):
            pass

    film = []
    for name in ("moviepy", "moviepy.video", "moviepy.video.io"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    writer = types.ModuleType("moviepy.video.io.ImageSequenceClip")
    writer.ImageSequenceClip = Clip
    monkeypatch.setitem(sys.modules, writer.__name__, writer)
    env = gymnasium.make_vec(
        "phalanx/Ant-v0", num_envs=2, device="cpu", engine="mujoco", render_mode="rgb_array"
    )
    env = gymnasium.wrappers.vector.RecordVideo(
        env, str(tmp_path), video_length=4, record_first_only=True, disable_logger=True
    )
    env.reset(seed=0)
    pictures = [env.render()[1]]
    for _ in range(5):
        env.step(env.action_space.sample())
    pictures.append(env.render()[1])
    env.close()
    assert [p.shape for p in pictures] == [(240, 320, 3)] * 2
    changed = np.abs(pictures[0].astype(int) - pictures[1]).max(2) > 40
    assert 0.001 < changed.mean() < 0.5
    assert film == [(5, (240, 320, 3), 60)]


def test_pictures_show_the_sizes_and_colours_of_their_environment():
    needs("gymnasium")
    from phalanx.adapters.gymnasium import PhalanxVectorEnv

    env = PhalanxVectorEnv("Ant", 2, "cpu", engine="mujoco", render_mode="rgb_array")
    sim = env.task.sim
    env.reset()
    sim.qpos[:] = sim.qpos[0].clone()
    body = sim.model.geom_bodyid != 0
    sim.model_field("geom_rgba")[-1, body] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    pictures = [x.astype(int) for x in env.render()]
    blue = [(x[..., 2] > 80) & (x[..., 2] > 2 * x[..., :2].max(-1)) for x in pictures]
    env.close()
    assert [x.mean() > 0.01 for x in blue] == [False, True]


def test_spaces_become_gymnasiums():
    needs("gymnasium")
    from gymnasium import spaces

    from phalanx.adapters.gymnasium import to_gymnasium
    from phalanx.spaces import Box, Discrete, MultiDiscrete

    assert to_gymnasium(Discrete(3)) == spaces.Discrete(3)
    assert to_gymnasium(MultiDiscrete((2, 3))) == spaces.MultiDiscrete([2, 3])
    low, high = np.array([-1, 0], np.float32), np.array([1, 2], np.float32)
    assert to_gymnasium(Box((2,), (-1.0, 0.0), (1.0, 2.0))) == spaces.Box(low, high)


def test_rl_games_sees_what_the_task_does(truth):
    needs("rl_games")
    from rl_games.common import vecenv

    import phalanx.adapters.rl_games  # noqa: F401, registers the tasks

    config = {k: v for k, v in TASK.items() if k != "num_envs"}
    env = vecenv.create_vec_env("Cartpole", N, **config)
    torch.manual_seed(0)
    steps = [(env.reset(), None, None, None), *(env.step(actions(k)) for k in range(STEPS))]
    for (obs, reward, done, infos), want in zip(steps, truth, strict=True):
        assert torch.equal(obs, want[0])
        if reward is not None:
            assert torch.equal(reward, want[1])
            assert torch.equal(done, want[2] | want[3])
            assert torch.equal(infos["time_outs"], want[3])


def test_rl_games_trains_a_task_by_name(tmp_path):
    needs("rl_games")
    from rl_games.common.algo_observer import AlgoObserver
    from rl_games.torch_runner import Runner

    import phalanx.adapters.rl_games  # noqa: F401, registers the tasks
    from phalanx.cli.config import compose_config, train_params

    class Lengths(AlgoObserver):
        def after_init(self, algo):
            self.algo, self.means = algo, []

        def after_print_stats(self, *args):
            self.means.append(self.algo.game_lengths.get_mean())

    arguments = ["train=CartpolePPO", "num_envs=128", "sim_device=cpu", f"train_dir={tmp_path}"]
    params = train_params(compose_config([*arguments, "seed=0", "max_iterations=25"]))
    params["torch_threads"] = 1
    params["config"] |= {
        "env_name": "Cartpole",
        "env_config": {"device": "cpu"},
        "num_actors": 128,
        "device": "cpu",
        "minibatch_size": 2048,
        "learning_rate": 3e-3,
        "torch_compile": False,
        "value_bootstrap": True,
    }
    observer = Lengths()
    runner = Runner(observer)
    runner.load({"params": params})
    runner.run({"train": True})
    assert observer.means[2] < 60
    assert observer.means[-1] > 1.5 * observer.means[2]


def test_rsl_rl_sees_what_the_task_does(truth):
    needs("rsl_rl")
    from phalanx.adapters.rsl_rl import RslRlVecEnv

    torch.manual_seed(0)
    env = RslRlVecEnv("Cartpole", **TASK)
    obs = [env.get_observations()["policy"]]
    steps = [env.step(actions(k)) for k in range(STEPS)]
    obs += [step[0]["policy"] for step in steps]
    assert all(torch.equal(x, want[0]) for x, want in zip(obs, truth, strict=True))
    for (_, reward, dones, extras), want in zip(steps, truth[1:], strict=True):
        assert torch.equal(reward, want[1])
        assert torch.equal(dones > 0, want[2] | want[3])
        assert torch.equal(extras["time_outs"] > 0, want[3])
    with pytest.raises(PhalanxError, match="continuous actions only"):
        RslRlVecEnv("Cartpole", num_envs=2, device="cpu", discrete_actions=3)


def test_rsl_rl_trains_a_task(tmp_path):
    needs("rsl_rl")
    from rsl_rl.runners import OnPolicyRunner

    from phalanx.adapters.rsl_rl import RslRlVecEnv

    torch.manual_seed(0)
    mlp = {"class_name": "MLPModel", "hidden_dims": [32, 32], "obs_normalization": True}
    gaussian = {"class_name": "GaussianDistribution", "init_std": 1.0}
    config = {
        "num_steps_per_env": 16,
        "save_interval": 1000,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "algorithm": {"class_name": "PPO", "learning_rate": 3e-3, "schedule": "adaptive"},
        "actor": {**mlp, "distribution_cfg": gaussian},
        "critic": mlp,
    }
    env = RslRlVecEnv("Cartpole", num_envs=128, device="cpu")
    runner = OnPolicyRunner(env, config, str(tmp_path), device="cpu")
    means = []
    for _ in range(2):
        runner.learn(15, init_at_random_ep_len=not means)
        means.append(np.mean(runner.logger.lenbuffer))
    assert means[1] > 1.3 * means[0]


def test_stable_baselines3_sees_what_the_task_does(truth):
    needs("stable_baselines3")
    from phalanx.adapters.stable_baselines3 import SB3VecEnv

    torch.manual_seed(0)
    env = SB3VecEnv("Cartpole", **TASK)
    assert torch.equal(torch.from_numpy(env.reset()), truth[0][0])
    for k, (obs, reward, terminated, truncated, reached) in enumerate(truth[1:]):
        got, got_reward, done, infos = env.step(actions(k).numpy())
        assert torch.equal(torch.from_numpy(got), obs)
        assert torch.equal(torch.from_numpy(got_reward), reward)
        assert done.tolist() == (terminated | truncated).tolist()
        for i, said in enumerate(infos):
            assert bool(said) == done[i]
            if said:
                assert said["TimeLimit.truncated"] == bool(truncated[i])
                assert torch.equal(torch.from_numpy(said["terminal_observation"]), reached[i])


def test_stable_baselines3_trains_a_task():
    needs("stable_baselines3")
    from stable_baselines3 import PPO

    from phalanx.adapters.stable_baselines3 import SB3VecEnv

    env = SB3VecEnv("Cartpole", num_envs=64, device="cpu")
    options = {"n_steps": 16, "batch_size": 256, "n_epochs": 4, "learning_rate": 3e-3}
    agent = PPO("MlpPolicy", env, device="cpu", seed=0, gamma=0.99, **options)

    def length():
        """Mean steps upright, of 150 at most, with what the agent does without exploring."""
        steps, ended, obs = torch.zeros(64), [], env.reset()
        for _ in range(150):
            obs, _, done, _ = env.step(agent.predict(obs, deterministic=True)[0])
            steps += 1
            ended += steps[torch.from_numpy(done)].tolist()
            steps[torch.from_numpy(done)] = 0
        return np.mean(ended + steps.tolist())

    before, after = length(), []
    for _ in range(6):  # at these settings, what was learned may be lost for a while
        agent.learn(15 * 16 * 64, reset_num_timesteps=False)
        after.append(length())
    assert max(after) > 1.5 * before, (before, after)


def test_skrl_sees_what_the_task_does(truth):
    needs("skrl")
    from phalanx.adapters.skrl import SkrlWrapper, bootstrap_from_final

    torch.manual_seed(0)
    env = SkrlWrapper("Cartpole", **TASK)

    class Agent:
        """Replaces skrl's agents, which learn from these transitions."""

        def __init__(self):
            self.reached = []

        def record_transition(self, *, next_observations, **kwargs):
            self.reached.append(next_observations)

    agent = bootstrap_from_final(Agent())
    steps = [
        (env.reset()[0], None, None, None, None),
        *(env.step(actions(k)) for k in range(STEPS)),
    ]
    for (obs, reward, terminated, truncated, infos), want in zip(steps, truth, strict=True):
        assert torch.equal(obs, want[0])
        if reward is not None:
            for got, value in zip((reward, terminated, truncated), want[1:4], strict=True):
                assert torch.equal(got, value[:, None])
            agent.record_transition(
                next_observations=obs, terminated=terminated, truncated=truncated, infos=infos
            )
            assert torch.equal(agent.reached[-1], want[4])


def test_skrl_trains_a_task(tmp_path):
    needs("skrl")
    from skrl.agents.torch.ppo import PPO
    from skrl.memories.torch import RandomMemory
    from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
    from skrl.resources.preprocessors.torch import RunningStandardScaler
    from skrl.trainers.torch import SequentialTrainer

    from phalanx.adapters.skrl import SkrlWrapper, bootstrap_from_final

    torch.manual_seed(0)
    env = SkrlWrapper("Cartpole", num_envs=128, device="cpu")
    spaces = {
        "observation_space": env.observation_space,
        "action_space": env.action_space,
        "device": env.device,
    }

    class Policy(GaussianMixin, Model):
        def __init__(self):
            Model.__init__(self, **spaces)
            GaussianMixin.__init__(self)
            self.net = mlp()
            self.log_std = nn.Parameter(torch.zeros(1))

        def compute(self, inputs, role):
            return self.net(inputs["observations"]), {"log_std": self.log_std}

    class Value(DeterministicMixin, Model):
        def __init__(self):
            Model.__init__(self, **spaces)
            DeterministicMixin.__init__(self)
            self.net = mlp()

        def compute(self, inputs, role):
            return self.net(inputs["observations"]), {}

    def mlp():
        sizes = (4, 32, 32, 1)
        layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ELU())]
        return nn.Sequential(*layers[:-1])

    def scaler(size):
        return {"size": size, "device": env.device}

    agent = PPO(
        models={"policy": Policy(), "value": Value()},
        memory=RandomMemory(memory_size=16, num_envs=128, device=env.device),
        cfg={
            "rollouts": 16,
            "mini_batches": 4,
            "learning_rate": 3e-3,
            "time_limit_bootstrap": True,
            "observation_preprocessor": RunningStandardScaler,
            "observation_preprocessor_kwargs": scaler(env.observation_space),
            "value_preprocessor": RunningStandardScaler,
            "value_preprocessor_kwargs": scaler(1),
            "experiment": {
                "directory": str(tmp_path),
                "write_interval": 10**6,
                "checkpoint_interval": 0,
            },
        },
        **spaces,
    )
    quiet = {"disable_progressbar": True, "headless": True, "close_environment_at_exit": False}
    trainer = SequentialTrainer(
        env=env, agents=bootstrap_from_final(agent), cfg={"timesteps": 16 * 8, **quiet}
    )
    means = []
    for _ in range(4):
        trainer.train()
        means.append(np.mean(agent._track_timesteps))  # of the last 100 episodes that ended
    assert means[-1] > 1.5 * means[0]


def test_torchrl_sees_what_the_task_does(truth):
    needs("torchrl")
    from tensordict import TensorDict
    from torchrl.envs import check_env_specs

    from phalanx.adapters.torchrl import TorchRLEnv

    env = TorchRLEnv("Cartpole", **TASK)
    torch.manual_seed(0)
    now = env.reset()
    assert torch.equal(now["observation"], truth[0][0])
    for k, (obs, reward, terminated, truncated, reached) in enumerate(truth[1:]):
        step, now = env.step_and_maybe_reset(now.set("action", actions(k)))
        assert torch.equal(step["next", "observation"], reached)
        assert torch.equal(now["observation"], obs)
        flags = {"terminated": terminated, "truncated": truncated, "done": terminated | truncated}
        for name, value in {"reward": reward, **flags}.items():
            assert torch.equal(step["next", name], value[:, None])
    env._ended.fill_(False)
    some = torch.arange(N)[:, None] > 0
    with pytest.raises(PhalanxError, match="all together"):
        env.reset(TensorDict({"_reset": some}, (N,)))
    check_env_specs(env)
    other = TorchRLEnv("Cartpole", num_envs=N, device="cpu", discrete_actions=3)
    every = TensorDict({"_reset": torch.ones(N, 1, dtype=torch.bool)}, (N,))
    assert other.reset(every)["observation"].any(1).all()  # they had not begun
    check_env_specs(other)


def test_torchrl_trains_a_task():
    needs("torchrl")
    from tensordict.nn import NormalParamExtractor, TensorDictModule
    from torchrl.collectors import Collector
    from torchrl.modules import ProbabilisticActor, TanhNormal, ValueOperator
    from torchrl.objectives import ClipPPOLoss
    from torchrl.objectives.value import GAE

    from phalanx.adapters.torchrl import TorchRLEnv

    torch.manual_seed(0)
    env = TorchRLEnv("Cartpole", num_envs=64, device="cpu")

    def mlp(outputs):
        return nn.Sequential(nn.Linear(4, 32), nn.ELU(), nn.Linear(32, 32), nn.ELU(), outputs)

    mean = TensorDictModule(
        nn.Sequential(mlp(nn.Linear(32, 2)), NormalParamExtractor()),
        ["observation"],
        ["loc", "scale"],
    )
    actor = ProbabilisticActor(
        mean,
        in_keys=["loc", "scale"],
        distribution_class=TanhNormal,
        return_log_prob=True,
    )
    critic = ValueOperator(mlp(nn.Linear(32, 1)), in_keys=["observation"])
    gae, loss = GAE(gamma=0.99, lmbda=0.95, value_network=critic), ClipPPOLoss(actor, critic)
    optimizer = torch.optim.Adam(loss.parameters(), lr=3e-3)
    returns = []
    for data in Collector(env, actor, frames_per_batch=64 * 32, total_frames=64 * 32 * 25):
        for _ in range(4):
            with torch.no_grad():
                gae(data)
            for rows in data.flatten().split(512):
                losses = loss(rows)
                sum(losses[k] for k in ("loss_objective", "loss_critic", "loss_entropy")).backward()
                optimizer.step()
                optimizer.zero_grad()
        returns.append(float(data["next", "reward"].mean()))
    assert np.mean(returns[-3:]) > 1.2 * np.mean(returns[:3])


@pytest.mark.parametrize(
    ("adapter", "missing"),
    [
        (name, name)
        for name in ("gymnasium", "rl_games", "rsl_rl", "skrl", "stable_baselines3", "torchrl")
    ],
)
def test_a_missing_library_is_said_in_one_sentence(monkeypatch, adapter, missing):
    for name in list(sys.modules):
        if name.split(".")[0] == missing or name == f"phalanx.adapters.{adapter}":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(PhalanxError, match="pip install"):
        __import__(f"phalanx.adapters.{adapter}")
