"""Players in loops of their users, in episodes that do not end, and under another name."""

import pytest
import torch

from clockwork import Clockwork, N
from phalanx import environments, tasks
from phalanx.cli.config import compose_config
from phalanx.cli.export import make_player
from phalanx.cli.play import record
from phalanx.cli.play_source import PlaySource
from phalanx.errors import PhalanxError, PhalanxWarning
from phalanx.rl import Runner
from phalanx.rl.runner import ALGORITHMS
from phalanx.spaces import Discrete
from phalanx.tasks.cartpole import Cartpole
from test_rl_games import configuration, our_agent
from test_rl_games_checkpoints import LSTM

pytestmark = pytest.mark.usefixtures("one_thread")


def player_of(params):
    runner = Runner()
    runner.load({"params": params})
    return runner.create_player()


def test_it_plays_in_the_loop_of_isaac_labs_play_script(tmp_path):
    """get_batch_size, init_rnn, then obs_to_torch and get_action in every step, with the states of
    ended episodes zeroed in place, gives what `run` plays."""
    params = configuration(tmp_path, network={"rnn": LSTM}, player={"games_num": N})
    _, agent = our_agent(params)
    player, other = player_of(params), player_of(params)
    for one in (player, other):
        one.model.load_state_dict(agent.model.state_dict())
    other.run()

    env = Clockwork()
    player.reset()
    obs = env.reset()
    obs = obs["obs"]
    assert player.get_batch_size(obs, 1) == N
    assert player.has_batch_dimension
    player.init_rnn()
    for _ in other.env.played:
        obs = player.obs_to_torch(obs)
        actions = player.get_action(obs, is_deterministic=player.is_deterministic)
        obs, _, terminated, truncated, _ = env.step(actions)
        for s in player.states:
            s[:, terminated | truncated, :] = 0.0
    assert len(env.played) > 5
    torch.testing.assert_close(torch.stack(env.played), torch.stack(other.env.played))


def test_one_observation_without_a_batch_gets_one_action(tmp_path):
    player = player_of(configuration(tmp_path))
    obs = torch.randn(N, 3)
    assert player.get_batch_size({"obs": obs[0]}, 1) == 1
    assert not player.has_batch_dimension
    one = player.get_action(player.obs_to_torch(obs[0].numpy()))
    torch.testing.assert_close(one, player.get_action(obs)[0])


class Endless(Clockwork):
    def step(self, actions):
        obs, _, _, _, infos = super().step(actions)
        ended = (torch.arange(N) == 0) & (self.t == 4)  # one episode, in environment 0
        return obs, torch.ones(N), ended, ended & False, infos


def test_episodes_that_do_not_end_count_as_they_stand(tmp_path, monkeypatch):
    monkeypatch.setitem(environments._creators, "endless", lambda **kwargs: Endless())
    player = player_of(configuration(tmp_path, env_name="endless", player={"games_num": N}))
    assert player.max_steps == 27_000  # RL Games' constant
    player.max_steps = 10
    with pytest.warns(PhalanxWarning, match="15 of 16 environments have an episode"):
        result = player.run()
    assert (result.games, result.mean_return) == (N, (4 + 15 * 10) / 16)


def test_a_policy_of_another_name_plays_if_it_fits_and_says_so(tmp_path):
    _, agent = our_agent(configuration(tmp_path, max_epochs=1))
    agent.train()
    file = tmp_path / "ours" / "nn" / "last_t.pth"
    player = player_of(configuration(tmp_path, name="other"))
    with pytest.warns(PhalanxWarning, match="a checkpoint of 't'; its policy now plays 'other'"):
        player.restore(file)
    wider = {"mlp": {"units": [32], "activation": "elu"}}
    with pytest.raises(PhalanxError, match="is a checkpoint of 't', not of 'other'"):
        player_of(configuration(tmp_path, name="other", network=wider)).restore(file)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_player_reads_the_config_of_its_agent(name):
    agent, player = ALGORITHMS[name]
    assert player.Config is agent.Config


class OneWay(Cartpole):
    """The cart may only be pushed to one side; notes the choices that arrive, and the episodes'
    ages at their beginning."""

    action_space = Discrete(2)

    def init_buffers(self):
        super().init_buffers()
        self.chosen, self.ages = [], []

    def get_action_masks(self):
        return torch.tensor([[True, False]]).expand(self.num_envs, 2)

    def pre_physics_step(self, actions):
        self.ages += self.progress_buf.tolist() if not self.chosen else []
        self.chosen += actions.tolist()


@pytest.mark.parametrize("way", ["run", "page", "film"])
def test_every_way_to_play_has_the_masks_and_the_beginnings_of_an_evaluation(way, monkeypatch):
    """The policy prefers what the masks forbid; a training's first episodes begin at any age."""
    monkeypatch.setitem(tasks.TASKS, "OneWay", __name__)
    monkeypatch.setattr("phalanx.video.render_video", lambda *args, **kwargs: None)
    monkeypatch.setattr("phalanx.cli.play.VIDEO_SECONDS", 0.5)
    own = ["task=OneWay", "task.env.spread_starts=true", "engine=mujoco", "games=1"]
    train = ["train=CartpoleDiscretePPO", "train.params.config.env_config={}"]
    masks = ["train.params.config.use_action_masks=true"]
    player = make_player(compose_config([*own, *train, *masks], "play"), num_envs=8)
    player.model.a2c_network.logits.bias.data = torch.tensor([0.0, 1e3])
    if way == "run":
        player.run()
    elif way == "page":
        PlaySource(player, None).advance(20)
    else:
        record(player, "film.mp4")
    assert set(player.env.chosen) == {0}
    assert set(player.env.ages) == {0}


def test_a_recurrent_state_does_not_outlive_its_network(tmp_path):
    _, agent = our_agent(configuration(tmp_path, max_epochs=1, network={"rnn": LSTM}))
    agent.train()
    player = player_of(configuration(tmp_path, network={"rnn": LSTM}))
    obs, file = torch.randn(N, 3), tmp_path / "ours" / "nn" / "last_t.pth"
    player.restore(file)
    first = player.get_action(obs)
    player.get_action(10 * obs)
    player.restore(file)
    assert torch.equal(player.get_action(obs), first)
