"""The agent in Gymnasium's environments: one with known arithmetic in every autoreset mode.

Environment i has episodes of 2 + i steps. Its observation is (episodes before this one, steps in
this one), its reward the number of steps plus a0 + 100 a1; even ones terminate, odd ones are
truncated. So everything that a step must return has a closed form, below in `expected`.
"""

import importlib
import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from phalanx.errors import PhalanxError
from phalanx.rl import Runner, vecenv
from phalanx.rl.gymnasium_env import GymnasiumEnv
from phalanx.spaces import Box, Dict, Discrete, MultiDiscrete
from recorder import Recorder

N = 3
OBSERVATIONS = spaces.Box(0, np.inf, (2,), np.float64)
ACTIONS = spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32))


@pytest.fixture(autouse=True)
def one_thread():
    """Torch's threads wait for each other where other processes want the cores too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Counting(gymnasium.Env):
    observation_space = OBSERVATIONS
    action_space = ACTIONS

    def __init__(self, length=None):
        self.length = length

    def reset(self, *, seed=None, options=None):
        if seed is not None:  # Gymnasium seeds environment i with seed + i
            self.index, self.episode = seed, -1
        self.episode, self.t = self.episode + 1, 0
        return np.array([self.episode, 0.0]), {}

    def step(self, action):
        self.t += 1
        end = self.t == (self.length or 2 + self.index)
        even = self.index % 2 == 0
        reward = self.t + action[0] + 100 * action[1]
        return np.array([self.episode, self.t], float), reward, end and even, end and not even, {}


class CountingVector(VectorEnv):
    """The same in one object, with any autoreset mode; it writes into arrays it has given out."""

    def __init__(self, num_envs, mode, knows_mask=True, length=None):
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode[mode]}
        self.knows_mask = knows_mask
        self.single_observation_space, self.single_action_space = OBSERVATIONS, ACTIONS
        self.observation_space = batch_space(OBSERVATIONS, num_envs)
        self.action_space = batch_space(ACTIONS, num_envs)
        self.lengths = np.full(num_envs, length) if length else 2 + np.arange(num_envs)
        self.obs = np.full((num_envs, 2), -1.0)
        self.ended = np.ones(num_envs, bool)

    def reset(self, *, seed=None, options=None):
        mask = (options or {}).get("reset_mask") if self.knows_mask else None
        self._start(np.ones(self.num_envs, bool) if mask is None else mask)
        return self.obs, {}

    def _start(self, mask):
        self.obs[mask, 0] += 1
        self.obs[mask, 1] = 0
        self.ended &= ~mask

    def step(self, actions):
        mode, dead = self.metadata["autoreset_mode"], self.ended.copy()
        assert mode is AutoresetMode.NEXT_STEP or not dead.any()
        self.obs[~dead, 1] += 1
        reward = np.where(dead, 0, self.obs[:, 1] + actions @ [1, 100])
        self._start(dead)
        self.ended = (self.obs[:, 1] == self.lengths) & ~dead
        even, infos, ended = np.arange(self.num_envs) % 2 == 0, {}, self.ended
        if mode is AutoresetMode.SAME_STEP and ended.any():
            infos = {"final_obs": self.obs.copy(), "_final_obs": ended}
            self._start(ended.copy())
            ended = infos["_final_obs"] = self.obs[:, 1] == 0
        return self.obs, reward, ended & even, ended & ~even, infos


gymnasium.register("Counting-v0", entry_point=Counting)
gymnasium.register("CountingVector-v0", vector_entry_point=CountingVector)


def expected(k):
    """Observations, rewards without action, terminated, truncated, reached, all of step k >= 1."""
    length, even = 2 + np.arange(N), np.arange(N) % 2 == 0
    episode, t = (k - 1) // length, (k - 1) % length + 1
    reached, end = np.stack([episode, t], 1), t == length
    obs = np.where(end[:, None], np.stack([episode + 1, 0 * t], 1), reached)
    return obs, t, end & even, end & ~even, reached


def make(num_envs=N, **env_config):
    return vecenv.create("gymnasium", name="t", num_envs=num_envs, device="cpu", **env_config)


@pytest.mark.parametrize(
    "env_config",
    [
        {"id": "Counting-v0"},
        {"id": "Counting-v0", "vectorization_mode": "async"},
        {"id": "CountingVector-v0", "mode": "SAME_STEP"},
        {"id": "CountingVector-v0", "mode": "NEXT_STEP"},
        {"id": "CountingVector-v0", "mode": "DISABLED"},
    ],
    ids=["sync", "async", "own_same_step", "own_next_step", "own_disabled"],
)
def test_every_step_is_a_transition_of_one_episode(env_config):
    env = make(seed=0, **env_config)
    assert env.reset()["obs"].tolist() == [[0, 0]] * N
    actions = torch.tensor([[0.5, 1.0], [-2.0, 0.0], [0.0, 10.0]])
    kept = []
    for _ in range(29):
        obs, reward, terminated, truncated, infos = env.step(actions)
        kept.append((obs["obs"], reward, terminated, truncated, infos["terminal"]["obs"]))
        assert env.observations is obs
        assert (obs["obs"].dtype, reward.dtype) == (torch.float32, torch.float32)
    for k, (obs, reward, *rest) in enumerate(kept, 1):  # later steps wrote into none of them
        want = expected(k)
        assert obs.tolist() == want[0].tolist()
        assert (reward - torch.tensor([100.5, -2.0, 1000.0])).tolist() == want[1].tolist()
        for got, value in zip(rest, want[2:], strict=True):
            assert got.tolist() == value.tolist()
    env.close()


def test_an_environment_that_cannot_be_kept_from_a_dead_step_is_refused():
    env = make(id="CountingVector-v0", mode="NEXT_STEP", knows_mask=False)
    env.reset()
    env.step(torch.zeros(N, 2))
    with pytest.raises(PhalanxError, match="ignores reset"):
        env.step(torch.zeros(N, 2))
    # alone, or where all end together, resetting everything is right
    env = make(id="CountingVector-v0", mode="NEXT_STEP", knows_mask=False, length=2)
    env.reset()
    steps = [env.step(torch.zeros(N, 2))[0]["obs"][0].tolist() for _ in range(4)]
    assert steps == [[0, 1], [1, 0], [1, 1], [2, 0]]


def configuration(folder, env_config, discrete=False, **changes):
    continuous = {"fixed_sigma": True}
    config = {
        "name": "t",
        "env_name": "gymnasium",
        "env_config": env_config,
        "num_actors": 4,
        "device": "cpu",
        "normalize_value": True,
        "learning_rate": 1e-3,
        "e_clip": 0.2,
        "horizon_length": 16,
        "mini_epochs": 4,
        "minibatch_size": 32,
        "max_epochs": 2,
        "train_dir": str(folder),
        "full_experiment_name": "run",
    }
    return {
        "seed": 3,
        "algo": {"name": "a2c_discrete" if discrete else "a2c_continuous"},
        "model": {"name": "discrete_a2c" if discrete else "continuous_a2c_logstd"},
        "network": {
            "name": "actor_critic",
            "space": {"discrete": {}} if discrete else {"continuous": continuous},
            "mlp": {"units": [32, 32], "activation": "elu"},
        },
        "config": {**config, **changes},
    }


def train(params, **args):
    recorder = Recorder()
    runner = Runner(recorder)
    runner.load({"params": params})
    runner.run({"train": True, **args})
    return recorder


@pytest.mark.parametrize("mode", ["SAME_STEP", "NEXT_STEP", "DISABLED"])
def test_the_agent_counts_no_dead_step(tmp_path, mode):
    env_config = {"id": "CountingVector-v0", "mode": mode, "length": 4}
    agent = train(configuration(tmp_path, env_config)).agent
    # 2 iterations of 16 steps of 4 environments
    assert (agent.mean_lengths.mean, agent.mean_lengths.size) == (4.0, 2 * 16 * 4 / 4)


def test_cartpole_learns_and_continues_with_fresh_episodes(tmp_path):
    params = configuration(
        tmp_path,
        {"id": "CartPole-v1"},  # whose own vector environment has dead steps: not the default
        discrete=True,
        num_actors=8,
        learning_rate=3e-3,
        games_to_track=20,
        max_epochs=50,
    )
    recorder = train(params)
    assert recorder.lengths[3] < 40
    assert recorder.lengths[-1] > 45
    params["config"]["max_epochs"] += 1
    again = train(params, checkpoint=recorder.agent.nn_dir / "last_t.pth").agent
    assert again.epoch_num == 51
    assert "the state of Gymnasium's CartPole-v1 cannot be saved" in again.warnings[0]


def test_a_seed_repeats_a_mujoco_run(tmp_path):
    runs = [train(configuration(tmp_path, {"id": "Hopper-v5"})).agent for _ in range(2)]
    first, second = (run.model.state_dict() for run in runs)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert runs[0].vec_env.action_space == Box((3,), -1.0, 1.0)


class Told(VectorEnv):
    """Any spaces; remembers what it was told and shows samples."""

    def __init__(self, observation_space, action_space):
        self.num_envs = 2
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space, self.single_action_space = observation_space, action_space
        self.observation_space = batch_space(observation_space, 2)
        self.action_space = batch_space(action_space, 2)

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}

    def step(self, actions):
        assert actions in self.action_space
        self.actions = actions
        final = np.array([self.single_observation_space.sample(), None], dtype=object)
        flags = np.array([True, False]), np.array([True, False])  # time ran out on the last step
        infos = {"final_obs": final, "_final_obs": np.array([True, False])}
        return self.observation_space.sample(), np.zeros(2), *flags, infos


VECTOR = spaces.Box(-1, 1, (3,))


@pytest.mark.parametrize(
    ("theirs", "ours", "action", "told"),
    [
        (
            spaces.Box(np.array([[-2.0], [0.0]]), np.array([[2.0], [10.0]]), dtype=np.float64),
            Box((2,), (-2.0, 0.0), (2.0, 10.0)),
            [[1.0, 2.0], [2.0, 10.0]],
            [[[1], [2]], [[2], [10]]],
        ),
        (spaces.Discrete(3, start=5), Discrete(3), [0, 2], [5, 7]),
        (spaces.MultiDiscrete([2, 4]), MultiDiscrete((2, 4)), [[0, 3], [1, 2]], [[0, 3], [1, 2]]),
        (
            spaces.Tuple([spaces.Discrete(2), spaces.Discrete(4)]),
            MultiDiscrete((2, 4)),
            [[0, 3], [1, 2]],
            [[0, 1], [3, 2]],
        ),
    ],
    ids=["Box", "Discrete", "MultiDiscrete", "Tuple"],
)
def test_actions_reach_the_environment_in_its_own_space(theirs, ours, action, told):
    inner = Told(VECTOR, theirs)
    env = GymnasiumEnv(inner)
    assert env.action_space == ours
    env.reset()
    env.step(torch.tensor(action))
    assert [np.asarray(a).tolist() for a in inner.actions] == told


def test_actions_are_rescaled_dimension_by_dimension():
    unit = torch.tensor([[1.0, -1.0], [0.0, 0.5]])
    assert Box((2,), (-2.0, 0.0), (2.0, 10.0)).rescale(unit).tolist() == [[2.0, 0.0], [0.0, 7.5]]
    assert Box((2,), -2.0, 4.0).rescale(unit).tolist() == [[4.0, -2.0], [1.0, 2.5]]
    assert Box((2,), -1.0, 1.0).rescale(unit) is unit
    with pytest.raises(PhalanxError, match="clip_actions: false"):
        Box((2,), (-1.0, 0.0), (1.0, float("inf"))).rescale(unit)


def test_observations_by_name_are_passed_on():
    inner = Told(spaces.Dict(a=VECTOR, b=spaces.Box(0, 255, (4, 4), np.uint8)), ACTIONS)
    env = GymnasiumEnv(inner)
    assert isinstance(env.observation_space, Dict)
    assert env.observation_space.shape == {"a": (3,), "b": (4, 4)}
    assert {k: v.shape for k, v in env.reset()["obs"].items()} == {"a": (2, 3), "b": (2, 4, 4)}
    assert 0.5 < env.observations["obs"]["b"].max() <= 1.0  # bytes
    obs, _, terminated, truncated, infos = env.step(torch.zeros(2, 2))
    assert (terminated.tolist(), truncated.tolist()) == ([True, False], [False, False])
    for name in "ab":
        same = (obs["obs"][name] == infos["terminal"]["obs"][name]).flatten(1).all(1)
        assert same.tolist() == [False, True]  # only the first episode ended
        assert obs["obs"][name].dtype == torch.float32

    env = GymnasiumEnv(Told(spaces.Dict(obs=VECTOR, states=spaces.Box(-1, 1, (5,))), ACTIONS))
    assert env.observation_space == Box((3,), -1.0, 1.0)
    assert env.state_space == Box((5,), -1.0, 1.0)
    assert {k: v.shape for k, v in env.reset().items()} == {"obs": (2, 3), "states": (2, 5)}


@pytest.mark.parametrize(
    ("env_config", "sentence"),
    [
        ({}, "env_config.id is missing"),
        ({"id": "HalfCheeta-v5"}, "HalfCheetah"),
        ({"id": "nowhere:X-v0"}, "No module named 'nowhere'"),
        ({"id": "CartPole-v1", "gravity": 1}, "unexpected keyword argument 'gravity'"),
        ({"id": "CartPole-v1", "vectorization_mode": "threads"}, "sync"),
        ({"id": "CartPole-v1", "wrappers": ["FlatenObservation"]}, "FlatenObservation"),
        ({"id": "FrozenLake-v1"}, "FlattenObservation"),
        ({"id": "Counting-v0", "num_envs": None}, "num_actors is missing"),
    ],
)
def test_an_environment_that_cannot_be_made_gives_one_sentence(env_config, sentence):
    with pytest.raises(PhalanxError, match=sentence):
        make(**env_config)


def test_wrappers_are_found_by_name():
    env = make(id="FrozenLake-v1", wrappers=["FlattenObservation"])
    assert env.reset()["obs"].sum(1).tolist() == [1.0] * N


def test_a_missing_gymnasium_is_said_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    monkeypatch.delitem(sys.modules, "phalanx.rl.gymnasium_env")
    with pytest.raises(PhalanxError, match=r"pip install 'phalanx\[gymnasium\]'"):
        importlib.import_module("phalanx.rl.gymnasium_env")
