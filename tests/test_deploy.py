"""Export, the runtime without torch, and replay in plain MuJoCo."""

import importlib.util
import json
import re
import subprocess
import sys
import threading
import time
import types
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import onnx
import pytest
import torch

import command_line
from phalanx import tasks
from phalanx.cli import sim2sim
from phalanx.cli.config import compose_config
from phalanx.cli.export import make_player
from phalanx.cli.main import main
from phalanx.cli.play import record
from phalanx.cli.sim2sim import _config
from phalanx.cli.sim2sim_viewer import in_browser
from phalanx.deploy import Policy
from phalanx.deploy import export as export_module
from phalanx.deploy.describe import describe
from phalanx.deploy.export import ExportedPolicy, export
from phalanx.deploy.metadata import Observation
from phalanx.deploy.observe import Observer
from phalanx.deploy.policy import Command
from phalanx.deploy.simulated_robot import SimulatedRobot, targets_of
from phalanx.deploy.trial import Trial
from phalanx.errors import PhalanxError
from phalanx.layout import ActionLayout, Term
from phalanx.rl import checkpoint
from phalanx.spaces import MultiDiscrete
from phalanx.tasks.cartpole import Cartpole

pytestmark = pytest.mark.usefixtures("one_thread")


class TwoPushes(Cartpole):
    """A user's own task: two pushes of different strength, one of three each; nothing is said of
    what it observes."""

    action_space = MultiDiscrete((3, 3))

    def pre_physics_step(self, actions):
        self.sim.ctrl.copy_((actions[:, :1] - 1) * 0.5 + (actions[:, 1:] - 1) * 0.1)

    observation_layout = tasks.Task.observation_layout

    def action_layout(self):
        coarse, fine = [tuple((f * (k - 1),) for k in range(3)) for f in (200, 40)]
        joints = self.cartpole.joint_names[:1]
        return ActionLayout("effort", joints, low=-400, high=400, choices=(coarse, fine))


class Aimed(Cartpole):
    """A ball that the task sets shows each step of an episode, ten to a metre."""

    def create_scene(self):
        scene = super().create_scene()
        ball = scene.spec.worldbody.add_body(name="ball", mocap=True)
        ball.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.1, 0, 0])
        return scene

    def pre_physics_step(self, actions):
        super().pre_physics_step(actions)
        self.sim.mocap_pos[:, 0, 0] = 0.1 * (self.progress_buf + 1)


@pytest.fixture(autouse=True, scope="module")
def registered():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tasks.TASKS, "TwoPushes", __name__)
        yield


MODELS = {
    "Ant": ["task=Ant", "task.env.clip_observations=5"],
    "LSTM": ["train=CartpoleLSTM"],
    "GRU, separate": [
        *("train=CartpoleLSTM", "train.params.network.rnn.name=gru"),
        *("train.params.network.separate=true", "train.params.network.rnn.layers=2"),
    ],
    "discrete": ["train=CartpoleDiscretePPO"],
    "SAC": ["train=CartpoleSAC"],
    "DQN": ["train=CartpoleDQN"],
    "multi-discrete": [
        *("task=TwoPushes", "train=CartpoleDiscretePPO", "train.params.config.env_config={}"),
        "train.params.model.name=multi_discrete_a2c",
    ],
}


def make(folder, arguments, num_envs=3):
    """A player with random weights and statistics, and its checkpoint."""
    torch.manual_seed(1)
    config = compose_config([*arguments, "sim_device=cpu"], "export")
    if "task=TwoPushes" in arguments:
        config.train.params.network["space"] = {"multi_discrete": {}}
    player = make_player(config, num_envs)
    if player.model.running_mean_std is not None:
        player.model.running_mean_std.running_mean.normal_()
        # Wide enough that the normaliser's own clip, 5 deviations, is beyond the task's.
        limit = player.env.config.clip_observations
        player.model.running_mean_std.running_var.uniform_(0.06, 0.2).mul_(limit**2)
    with torch.no_grad():
        for parameter in player.model.parameters():
            parameter.mul_(2.0)
    path = folder / f"{player.config.name}.pth"
    state = {"model": player.model.state_dict(), "epoch": 3, "last_mean_rewards": 12.5}
    checkpoint.save(path, state)
    return player, path


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Player, checkpoint and exported file by model, each made once."""
    made = {}

    def get(name):
        if name not in made:
            player, path = make(tmp_path_factory.mktemp("nn"), MODELS[name])
            made[name] = (player, path, export(player, path)[0])
        return made[name]

    return get


# export -------------------------------------------------------------------------------------------


SLOW = ("GRU, separate", "discrete", "SAC", "DQN", "multi-discrete")
"""Each takes 4 to 13 s to convert."""


def models(*names):
    return [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in names]


@pytest.mark.parametrize("name", models(*MODELS))
def test_exported_policy_acts_as_the_player_does(name, exported):
    player, _, path = exported(name)
    policies = [Policy(path) for _ in range(3)]
    action = policies[0].metadata.action
    limit = player.env.config.clip_observations
    assert limit == 5
    player.reset()
    for _ in range(6):
        obs = 2 * limit * torch.randn(3, player.env.num_obs)  # half of it beyond the limit
        expected = player.get_action(obs.clamp(-limit, limit)).numpy()
        for policy, row, wanted in zip(policies, obs.numpy(), expected, strict=True):
            command = policy.act(row)
            assert np.abs(command.action).max() <= 1 or not action.clip
            assert command.action == pytest.approx(wanted.clip(-1, 1) if action.clip else wanted,
                                                   abs=2e-5)  # fmt: skip
            if action.choices:
                rows = zip(action.choices, np.atleast_1d(wanted), strict=True)
                targets = np.sum([np.array(table)[k] for table, k in rows], 0)
            else:
                targets = np.array(action.scale) * wanted.clip(-1, 1)
            assert command.targets == pytest.approx(targets, abs=2e-5 * max(action.high))


def test_metadata_is_plain_json_in_the_model(exported):
    _, path, file = exported("Ant")
    model = onnx.load(file)
    about = json.loads({p.key: p.value for p in model.metadata_props}["phalanx"])
    assert about["format"] == 1
    assert (about["task"], about["control_hz"]) == ("Ant", pytest.approx(60))
    assert [j["name"] for j in about["joints"]] == [
        "hip_1", "ankle_1", "hip_2", "ankle_2", "hip_3", "ankle_3", "hip_4", "ankle_4",
    ]  # fmt: skip
    ankle = about["joints"][1]
    assert ankle["lower"] == pytest.approx(np.radians(30))
    assert ankle["default_pos"] == ankle["lower"]  # zero is outside its limits
    assert (ankle["unit"], ankle["effort_limit"]) == ("rad", 15.0)
    assert about["action"]["kind"] == "effort"
    assert about["action"]["scale"] == about["action"]["high"] == [15.0] * 8
    terms = about["observation"]["terms"]
    assert sum(t["size"] for t in terms) == about["observation"]["size"] == 60
    assert {"name": "base_lin_vel", "unit": "m/s"}.items() <= terms[1].items()
    assert about["policy"]["kind"] == "continuous"
    assert about["policy"]["checkpoint"] == path.name
    assert (about["policy"]["epoch"], about["policy"]["training_return"]) == (3, 12.5)
    assert "asset" not in about["env"]  # a path on this machine
    assert model.opset_import[0].version == about["opset"]


def test_metadata_of_another_policy_is_refused(exported, tmp_path):
    model, other = (onnx.load(exported(name)[2]) for name in ("Ant", "LSTM"))
    del model.metadata_props[:]
    model.metadata_props.extend(other.metadata_props)
    onnx.save(model, tmp_path / "mixed.onnx")
    with pytest.raises(PhalanxError, match=r"does not take .* export it again"):
        Policy(tmp_path / "mixed.onnx")


def test_servo_gains_and_default_pose_are_in_the_metadata(tmp_path):
    player, path = make(tmp_path, ["task=HumanoidWalk"], num_envs=1)
    about = describe(player, path)
    knee = next(j for j in about.joints if j.name == "left_knee")
    assert (knee.stiffness, knee.damping, knee.effort_limit) == (150, 6, 120)
    assert knee.default_pos == pytest.approx(0.6)
    k = about.action.joints.index("left_knee")
    assert (about.action.low[k], about.action.high[k]) == pytest.approx((0.1, 1.1))


def test_ranges_in_the_metadata_are_those_that_the_player_leaves(tmp_path):
    """The player clamps to +-1, where the task takes actions up to 100."""
    wide = ["task=HumanoidWalk", "task.env.clip_actions=100"]
    about = describe(*make(tmp_path, wide, num_envs=1))
    k = about.action.joints.index("left_knee")
    assert (about.action.low[k], about.action.high[k]) == pytest.approx((0.1, 1.1))
    assert about.action.clip == 1
    about = describe(*make(tmp_path, [*wide, "train.params.config.clip_actions=false"], num_envs=1))
    assert (about.action.high[k], about.action.clip) == pytest.approx((0.6 + 100 * 0.5, 100))


def test_gains_are_those_of_an_actuator_model_in_place_of_servos(tmp_path):
    motor = "{actor: robot, model: dc_motor, stall_effort: 45, no_load_speed: 30, effort: 20}"
    joints = "joints: [FL_hip_joint, FL_calf_joint], damping: 2"
    model = f"task.actuators={{legs: {{{joints}, {motor[1:-1]}}}}}"
    player, path = make(tmp_path, ["task=Go2Velocity", model], num_envs=1)
    found = {j.name: (j.stiffness, j.damping) for j in describe(player, path).joints}
    assert found["FL_hip_joint"] == (40, 2)
    assert found["FR_hip_joint"] == (40, 1)
    (effort,) = {j.effort_limit for j in describe(player, path).joints if j.name in joints}
    assert effort == 20


def test_recurrent_states_are_described(tmp_path):
    about = describe(*make(tmp_path, MODELS["GRU, separate"]))
    assert [(s.input, s.output, s.shape, s.initial) for s in about.recurrent] == [
        ("state_0", "next_state_0", (2, 1, 32), 0.0),
        ("state_1", "next_state_1", (2, 1, 32), 0.0),
    ]


@pytest.mark.parametrize(("format", "suffix"), [("torchscript", ".pt"), ("pt2", ".pt2")])
def test_torchs_own_formats_agree_and_hold_the_metadata(format, suffix, exported, tmp_path):
    player, path = make(tmp_path, MODELS["LSTM"])
    file, difference = export(player, path, format)
    assert file == Path(f"{path}{suffix}")
    assert difference <= 1e-5
    extra = {"phalanx.json": ""}
    if format == "pt2":
        module = torch.export.load(file, extra_files=extra).module()
    else:
        module = torch.jit.load(file, _extra_files=extra)
    assert json.loads(extra["phalanx.json"])["task"] == "Cartpole"
    obs = torch.randn(3, 4)
    player.reset()
    got = module(obs, torch.zeros(1, 3, 32), torch.zeros(1, 3, 32))
    assert torch.allclose(got[0], player.get_action(obs), atol=1e-5)


def test_a_policy_is_written_where_out_says(tmp_path):
    player, path = make(tmp_path, ["task=Cartpole"])
    file, _ = export(player, path, "pt2", tmp_path / "policy.pt2")
    assert file == tmp_path / "policy.pt2"
    assert file.is_file()
    for out, words in (("policy.onnx", r"for pt2 it must end in \.pt2"), ("", "it is a folder"),
                       ("none/policy.pt2", "not a writable folder")):  # fmt: skip
        with pytest.raises(PhalanxError, match=words):
            export(player, path, "pt2", tmp_path / out)
    assert {p.name for p in tmp_path.iterdir()} == {"Cartpole.pth", "policy.pt2"}


def test_export_that_differs_leaves_nothing(tmp_path, monkeypatch):
    player, path = make(tmp_path, ["task=Cartpole"])
    monkeypatch.setattr(export_module, "_pt2", lambda *_: b"")
    monkeypatch.setattr(torch.export, "load", lambda _: types.SimpleNamespace(module=lambda: wrong))

    def wrong(obs, *states):
        return torch.full((len(obs), 1), 0.3), torch.full((len(obs), 1), 120.0)

    with pytest.raises(PhalanxError, match=r"differs from the trained one by .* nothing was writ"):
        export(player, path, "pt2")
    assert [p.name for p in tmp_path.iterdir()] == ["Cartpole.pth"]


def test_missing_package_is_named(tmp_path, monkeypatch, exported):
    player, path = make(tmp_path, ["task=Cartpole"])
    file = exported("LSTM")[2]
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(PhalanxError, match=r"needs onnxscript; install it with `pip install 'phal"):
        export(player, path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(PhalanxError, match=r"needs onnxruntime; .*phalanx\[deploy\]"):
        Policy(file)


# named state --------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", sorted(tasks.TASKS))
def test_observations_from_named_state_equal_the_tasks(task, tmp_path):
    player, path = make(tmp_path, [f"task={task}"], num_envs=4)
    env, about = player.env, describe(player, path)
    env.reset()
    env.sim.qpos.add_(0.3 * torch.randn_like(env.sim.qpos))
    env.sim.qvel.copy_(torch.randn_like(env.sim.qvel))
    if env.encoder_bias is not None:  # the robot below has exact encoders
        env.encoder_bias.zero_()
    if task != "Cartpole":
        quat = env.sim.qpos[:, 3:7]
        quat.copy_(torch.nn.functional.normalize(torch.randn_like(quat), dim=1))
    env.sim.forward()
    limit = about.observation.clip
    expected = env.compute_observations().clamp(-limit, limit).numpy()
    known = np.repeat(
        [t.quantity not in ("custom", "previous_action") for t in about.observation.terms],
        [t.size for t in about.observation.terms],
    )
    # At least the joints' positions and velocities, but for HumanoidAMP's own way to observe them.
    assert known.sum() >= 2 * len(about.action.joints) or task == "HumanoidAMP"
    for i in range(4):
        robot = SimulatedRobot(env.sim.model, mujoco.MjData(env.sim.model), about)
        robot.data.qpos[:], robot.data.qvel[:] = env.sim.qpos[i], env.sim.qvel[i]
        state = robot.state()
        # By name, as a robot's program has it; the order must not matter.
        for key in ("joint_pos", "joint_vel"):
            named = dict(zip(robot.names, state[key], strict=True))
            state[key] = dict(reversed(named.items()))
        state |= {t.name: np.zeros(t.size) for t in about.observation.terms if t.name not in state
                  and t.quantity == "custom"}  # fmt: skip
        if hasattr(env, "commands"):
            state["command"] = env.commands.values[i].numpy()
        observe = Observer(about.observation, robot.names)
        got = observe(state, np.zeros(about.action.size))
        np.testing.assert_allclose(got[known], expected[i, known], atol=2e-5)


def test_observation_is_offset_then_scaled_then_clipped():
    terms = (
        Term("joint_pos", elements=("b", "a"), offset=(0.5, -0.25), scale=(2.0, 4.0)),
        Term("ang", "base_ang_vel", ("z",), scale=-0.5, offset=1.0),
    )
    observe = Observer(Observation(size=3, clip=3.0, terms=terms), ["a", "b"])
    state = {"joint_pos": {"a": 0.125, "b": 1.5}, "base_ang_vel": (9.0, 9.0, 2.0)}
    # (1.5 - 0.5) 2 = 2; (0.125 + 0.25) 4 = 1.5; (2 - 1) (-0.5) = -0.5
    assert observe(state, np.zeros(1)).tolist() == [2.0, 1.5, -0.5]
    state["joint_pos"] = {"a": -2.0, "b": 4.0}  # (4 - 0.5) 2 = 7; (-2 + 0.25) 4 = -7
    assert observe(state, np.zeros(1)).tolist() == [3.0, -3.0, -0.5]


def test_targets_equal_the_tasks_servo_controls(tmp_path):
    player, path = make(tmp_path, ["task=HumanoidWalk"], num_envs=4)
    env, about = player.env, describe(player, path)
    actions = 2 * torch.rand(4, env.num_actions) - 1
    env.reset()
    env.pre_physics_step(actions)
    controls = env.sim.ctrl.numpy()
    targets = ExportedPolicy(player, about).targets(actions).numpy()
    for i in range(4):
        robot = SimulatedRobot(env.sim.model, mujoco.MjData(env.sim.model), about)
        robot.apply(targets[i])
        np.testing.assert_allclose(robot.data.ctrl, controls[i], atol=1e-6)
        robot.apply(targets_of(about.action, actions[i].numpy()))
        np.testing.assert_allclose(robot.data.ctrl, controls[i], atol=1e-6)


@pytest.mark.parametrize("gear", [-2, 0.5])
@pytest.mark.parametrize(("kind", "gain"), [("position", "kp"), ("velocity", "kv")])
def test_a_servo_with_a_gear_brings_its_joint_to_the_target(kind, gain, gear, tmp_path):
    player, path = make(tmp_path, ["task=Cartpole"], num_envs=1)
    about = describe(player, path)
    joints, action = about.joints[:1], replace(about.action, kind=kind)
    name, damping = joints[0].name, {"position": 3, "velocity": 0}[kind]
    model = mujoco.MjModel.from_xml_string(
        f"""<mujoco><option gravity="0 0 0"/><worldbody><body><geom size=".1" mass="1"/>
        <joint name="{name}" type="slide" damping="{damping}"/></body></worldbody>
        <actuator><{kind} joint="{name}" {gain}="30" gear="{gear}"/></actuator></mujoco>"""
    )
    robot = SimulatedRobot(
        model, mujoco.MjData(model), replace(about, joints=joints, action=action)
    )
    for _ in range(5000):
        robot.apply(np.array([0.4]))
        mujoco.mj_step(model, robot.data)
    assert robot.measured().tolist() == pytest.approx([0.4], abs=1e-3)


@pytest.mark.parametrize(
    ("kind", "target", "effort"),
    [
        ("position", 0.4, 14.4),  # 50 (0.4 - 0.1) - 2 * 0.3
        ("velocity", 0.9, 1.2),  # 2 (0.9 - 0.3)
        ("position", 9.0, 400.0),  # no more than the motor's limit
        ("effort", -7.0, -7.0),
    ],
)
def test_targets_of_a_joint_without_servo_become_its_motors_effort(kind, target, effort, tmp_path):
    player, path = make(tmp_path, ["task=Cartpole"], num_envs=1)
    about = describe(player, path)
    cart, pole = about.joints
    cart = replace(cart, stiffness=50.0, damping=2.0)
    action = replace(about.action, kind=kind)
    about = replace(about, joints=(cart, pole), action=action)
    model = player.env.sim.model
    data = mujoco.MjData(model)
    data.qpos[0], data.qvel[0] = 0.1, 0.3
    robot = SimulatedRobot(model, data, about)
    robot.apply(np.array([target]))
    mujoco.mj_forward(model, data)
    assert data.qfrc_actuator[0] == pytest.approx(effort)
    assert robot.efforts().tolist() == pytest.approx([effort])
    assert robot.at_limit(Command(np.zeros(1), np.zeros(1), np.zeros(1, bool), ())).tolist() == [
        effort == 400
    ]


STATE = {
    "base_quat": (1, 0, 0, 0),
    "base_height": 0.5,
    "base_lin_vel": (0, 0, 0),
    "base_ang_vel": (0, 0, 0),
    "joint_pos": {f"{part}_{leg}": 0.1 * leg for leg in (1, 2, 3, 4) for part in ("hip", "ankle")},
    "joint_vel": np.zeros(8),
    "angle_to_target": 0.0,
    "heading": 1.0,
    "foot_wrenches": np.zeros(24),
}


def without(name):
    return {k: v for k, v in STATE["joint_pos"].items() if k != name}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"joint_pos": without("hip_2")}, "is missing the joint hip_2.*it has: hip_1, ankle"),
        ({"joint_pos": {}}, "is missing the joints hip_1, ankle_1"),
        ({"joint_vel": np.zeros(7)}, "joint_vel has 7 numbers; it must have 8"),
        ({"foot_wrenches": np.zeros(6)}, "foot_wrenches has 6 numbers; it must have 24"),
        ({"base_quat": (0, 0, 0, 0)}, "base_quat is .* must be a unit quaternion"),
        ({"base_lin_vel": (0, np.nan, 0)}, "base_lin_vel is .* must be finite"),
        ({"base_lin_vel": "fast"}, "base_lin_vel is 'fast'; it must be 3 numbers"),
        ({"heading": ...}, r"has no 'heading' \(1 numbers \[1\]\)"),
        ({"base_quat": ...}, "has no 'base_quat' or the term 'yaw' itself"),
    ],
)
def test_wrong_robot_state_is_one_sentence(change, words, exported):
    policy = Policy(exported("Ant")[2])
    state = {k: v for k, v in (STATE | change).items() if v is not ...}
    with pytest.raises(PhalanxError, match=words):
        policy.step(state)
    policy.step(STATE)


def test_a_term_given_by_name_is_used_unchanged(exported):
    policy = Policy(exported("Ant")[2])
    terms = [t.name for t in policy.metadata.observation.terms]
    assert terms[3:5] == ["yaw", "roll"]
    assert policy.observe({**STATE, "yaw": 1.25})[7:9].tolist() == [1.25, 0.0]


def test_previous_action_is_observed_and_forgotten(exported):
    policy = Policy(exported("Ant")[2])
    assert not policy.observe(STATE)[-8:].any()
    action = policy.step(STATE).action
    assert policy.observe(STATE)[-8:] == pytest.approx(action)
    other = policy.clone()
    policy.reset()
    assert not policy.observe(STATE)[-8:].any()
    assert not other.observe(STATE)[-8:].any()


# rate, limits, files ------------------------------------------------------------------------------


def test_policy_runs_at_its_rate_and_holds_commands_in_between(exported):
    policy = Policy(exported("Ant")[2])
    asked = []

    def state():
        asked.append(1)
        return STATE

    ran = []
    for k in range(601):  # a clock of 600 Hz for a policy of 60 Hz
        before = len(asked)
        command = policy.update(100 + k / 600, state)
        ran += [k] * (len(asked) - before)
        assert command is policy.update(100 + k / 600, state)
    assert ran == list(range(0, 601, 10))
    policy.update(200.0, state)  # a pause is not made up for
    policy.update(200.001, state)
    assert len(asked) == 62
    assert policy.latency().steps == 62
    assert 0 < policy.latency().network_median <= policy.latency().median


def test_narrower_limits_are_kept(exported):
    file = exported("Ant")[2]
    wide, narrow = Policy(file), Policy(file, limits={"hip_2": (-0.5, 0.25)})
    k = wide.metadata.action.joints.index("hip_2")
    rng = np.random.default_rng(0)
    for _ in range(20):
        observation = rng.normal(size=60)
        expected, got = wide.act(observation).targets, narrow.act(observation)
        assert got.targets[k] == pytest.approx(np.clip(expected[k], -0.5, 0.25))
        assert got.saturated[k] == (not -0.5 < expected[k] < 0.25)
        assert np.delete(got.targets, k) == pytest.approx(np.delete(expected, k))
    with pytest.raises(PhalanxError, match=r"limits are given for 'hip_9', .* mean 'hip_"):
        Policy(file, limits={"hip_9": (0, 1)})
    for limits in ((float("nan"), 0.25), (0.5, -0.5), ("a", "b")):
        with pytest.raises(PhalanxError, match="they must be two numbers, the lower one first"):
            Policy(file, limits={"hip_2": limits})


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("control_dt", 0, "control_dt is 0.0; it must be above 0"),
        ("control_hz", 50.0, "does not fit a control_dt of"),
        ("observation/size", 61, "describes 60 numbers"),
        ("observation/clip", -5.0, "clip is -5.0; it must be above 0"),
        ("observation/terms", [], "describes 0 numbers"),
        ("observation/terms/0/size", 10**12, "size must be 1 to 100000"),
        ("observation/terms/0/scale", [float("nan")], "scale is nan; it must be finite"),
        ("observation/terms/0/elements", 5, "elements must be a list of names"),
        ("observation/terms/1/name", "base_height", "terms has 'base_height' twice"),
        ("action/size", 3, "has 8 numbers"),
        ("action/joints", ["hip_1"] * 8, "action.joints has 'hip_1' twice"),
        ("action/kind", "custom", "action.kind is 'custom' with 8 joints"),
        ("action/scale", [1.0], "action.scale has 1 numbers, not 8"),
        ("action/low", [1e9] * 8, "above its high of 15.0"),
        ("action/low", ["nan"] * 8, "it must be finite"),
        ("joints/0/name", "hip_2", "joints has 'hip_2' twice"),
        ("recurrent", [{"input": "a", "output": "b", "shape": [10**9], "initial": 0}], "has shape"),
        ("recurrent", [{"input": "a", "output": "b", "shape": [1] * 9, "initial": 0}], "has shape"),
        (
            "recurrent",
            [{"input": "a", "output": "b", "shape": [1, 1, 2], "initial": 0}],
            "does not",
        ),
    ],
)
def test_metadata_that_does_not_fit_is_refused_at_loading(place, value, words, exported, tmp_path):
    model = onnx.load(exported("Ant")[2])
    about = json.loads(model.metadata_props[0].value)
    *way, last = [int(key) if key.isdecimal() else key for key in place.split("/")]
    part = about
    for key in way:
        part = part[key]
    part[last] = value
    model.metadata_props[0].value = json.dumps(about)
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(PhalanxError) as error:
        Policy(tmp_path / "a.onnx")
    assert words in str(error.value)


def test_metadata_that_is_not_text_is_refused(exported, tmp_path):
    content = exported("Ant")[2].read_bytes()
    (tmp_path / "a.onnx").write_bytes(content.replace(b'"task": "Ant"', b'"task": "A\xff\xff"'))
    with pytest.raises(PhalanxError, match="is not text"):
        Policy(tmp_path / "a.onnx")


@pytest.mark.parametrize("kind", ["missing", "text", "foreign", "newer", "damaged"])
def test_foreign_file_is_one_sentence(kind, exported, tmp_path):
    file, words = tmp_path / "policy.onnx", ""
    model = onnx.load(exported("LSTM")[2])
    if kind == "missing":
        words = "no policy at .*policy.onnx; `phalanx export` makes one"
    elif kind == "text":
        file.write_text("not a network")
        words = "policy.onnx is not an ONNX model that onnxruntime .* can run"
    else:
        entry = model.metadata_props[0]
        if kind == "foreign":
            del model.metadata_props[:]
            words = "without metadata under 'phalanx', so it was not written by `phalanx export`"
        elif kind == "newer":
            entry.value = entry.value.replace('"format": 1', '"format": 2')
            words = "has format 2; this version of Phalanx reads 1"
        else:
            entry.value = entry.value.replace('"control_dt"', '"control_td"')
            words = "is damaged: unknown key metadata.control_td; did you mean 'control_dt'"
        onnx.save(model, file)
    with pytest.raises(PhalanxError, match=words):
        Policy(file)


def test_runtime_imports_neither_torch_nor_mujoco(exported):
    code = (
        "import sys, json; sys.modules['torch'] = sys.modules['mujoco'] = None\n"
        f"import phalanx.deploy as d; p = d.Policy({str(exported('LSTM')[2])!r})\n"
        "state = {'joint_pos': [0, 0], 'joint_vel': [0, 0]}\n"
        "print(p.step(state).by_joint(), p.latency().steps)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\{'slider_to_cart': -?[\d.]+\} 1\n", done.stdout)


# sim2sim ------------------------------------------------------------------------------------------


def played(player, seed, steps):
    """Returns and lengths of first episodes, by the player in the task's own batch."""
    torch.manual_seed(seed)
    env = player.env
    obs, n = env.reset()["obs"], env.num_envs
    player.reset()
    total, length, live = torch.zeros(n), torch.zeros(n), torch.ones(n, dtype=torch.bool)
    for _ in range(steps):
        obs, reward, terminated, truncated, _ = env.step(player.get_action(obs))
        obs = obs["obs"]
        total += reward * live
        length += live
        live &= ~(terminated | truncated)
    return total.numpy(), length.numpy()


@pytest.mark.parametrize("name", models("LSTM", "discrete", "multi-discrete"))
def test_returns_in_plain_mujoco_equal_the_tasks(name, exported):
    player, _, file = exported(name)
    trial = Trial(file, episodes=3, seed=5, env={"episode_length": 60})
    assert trial.drive == "robot"
    while trial.running.any():
        trial.step()
    player.env.config = trial.task.config
    total, length = played(player, 5, 60)
    assert trial.lengths.tolist() == length.tolist()
    assert trial.returns == pytest.approx(total, rel=1e-3)
    assert trial.control_gap < 1e-6
    assert max(trial.observation_gap.values(), default=0) < 1e-5
    assert len(trial.trace.time) == length[0]


@pytest.mark.slow
def test_amp_policy_is_replayed_on_the_tasks_own_terms(tmp_path):
    small = [f"train.params.network.{part}.units=[32,16]" for part in ("mlp", "disc")]
    player, path = make(tmp_path, ["task=HumanoidAMP", *small])
    trial = Trial(export(player, path)[0], episodes=3, seed=5, env={"episode_length": 4})
    assert trial.drive == "task"  # its layouts are custom
    while trial.running.any():
        trial.step()
    player.env.config = trial.task.config
    total, length = played(player, 5, 4)
    assert trial.lengths.tolist() == length.tolist()
    assert trial.returns == pytest.approx(total)


def test_observations_and_controls_of_an_ant_in_plain_mujoco_equal_the_tasks(exported):
    trial = Trial(exported("Ant")[2], episodes=2, timestep=1 / 480, env={"episode_length": 30})
    assert trial.substeps == 8
    trial.step()
    assert trial.robots[0].data.time == pytest.approx(1 / 60)
    while trial.running.any():
        trial.step()
    # Of the state reached the task is told in float32; angles near the pole lose the most.
    assert max(trial.observation_gap.values()) < 1e-3
    assert len(trial.observation_gap) == 9
    assert trial.control_gap < 1e-6
    figures = trial.figures()
    assert figures["lengths"] == [30, 30]
    assert set(figures["saturation"]) == set(trial.about.action.joints)


def test_what_a_task_writes_reaches_the_robots(exported):
    trial = Trial(exported("LSTM")[2], episodes=2)
    sim = trial.task.sim
    sim.model_field("body_mass")[1] *= 3.0
    sim.set_const()
    sim.qvel[1, 0] = 2.5  # a push
    sim.xfrc_applied[0, 2, 1] = 4.0
    first, second = trial.robots
    assert second.model.body_mass == pytest.approx(3 * first.model.body_mass)
    assert second.model.body_subtreemass[0] == pytest.approx(3 * first.model.body_subtreemass[0])
    seen = []
    trial.engine.control = lambda env: seen.append(trial.engine.datas[env].qvel[0])
    sim.advance(1)
    assert seen[-1] == 2.5
    assert first.data.xfrc_applied[2, 1] == 4.0


def test_all_that_a_task_randomises_reaches_the_robots(exported):
    def gauss(deviation):
        return {"range": [0, deviation], "operation": "additive", "distribution": "gaussian"}

    effort = {"range": [0.4, 0.6], "operation": "scaling", "distribution": "uniform"}
    randomised = {
        "randomize": True,
        "randomization_params": {
            "observations": gauss(0.1),
            "actions": gauss(0.1),
            "actor_params": {"ant": {"dof_properties": {"effort": effort}}},
            "latency": {"actions": [1, 2], "observations": [1, 1]},
        },
        "episode_length": 20,
    }
    trial = Trial(exported("Ant")[2], episodes=2, env=randomised, seed=4)
    arrived, built = [], []
    while trial.running.any():
        built.append(trial.observed[0].copy())
        arrived.append(trial.task.obs_buf[0].numpy().copy())
        trial.step()
    # Observations come a step late and with noise, which where they are not clipped is 0.1.
    noise = (np.array(arrived[1:]) - np.array(built[:-1]))[np.abs(built[:-1]) < 4]
    assert noise.std() == pytest.approx(0.1, rel=0.1)
    # Actions come late and with noise; what joints get is what the task gives its motors,
    assert trial.control_gap < 1e-6
    targets, efforts = np.array(trial.trace.targets), np.array(trial.trace.measured)
    assert not efforts[0].any()
    # and the motors are half as strong as the policy was told.
    assert np.abs(efforts).max() < 0.6 * 15 + 1e-6 < np.abs(targets).max()
    assert len(trial.figures()["randomised"]) == 5


def test_actuator_models_are_driven_once_a_physics_step(exported):
    legs = {"actor": "ant", "model": "pd", "scale": 0.5, "stiffness": 20.0, "effort": 12.0}
    env = {"actuators": {"legs": legs}, "episode_length": 10}
    trial = Trial(exported("Ant")[2], episodes=1, env=env, timestep=1 / 480)
    trial.step()
    assert trial.robots[0].data.time == pytest.approx(1 / 60)
    while trial.running.any():
        trial.step()
    assert trial.drive == "task"
    assert (trial.steps, len(trial.trace.time)) == (10, 10)
    with pytest.raises(PhalanxError, match="the task's actuator models run every"):
        Trial(exported("Ant")[2], episodes=1, env=env, timestep=1 / 180)


def test_timestep_that_does_not_fit_is_refused(exported):
    with pytest.raises(PhalanxError, match=r"timestep is 0.01, which does not divide .* 0.01667"):
        Trial(exported("LSTM")[2], episodes=1, timestep=0.01)


def linear(folder, *words):
    """The exported policy of a task whose actions are a hundredth of the first observations."""
    player, path = make(folder, words)
    about, file = describe(player, path), Path(f"{path}.onnx")
    action, numbers = about.action, {"weight": 0.01 * np.eye(about.observation.size)}
    numbers["weight"] = numbers["weight"][:, : action.size]
    numbers |= {"scale": action.scale, "offset": action.offset}
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("MatMul", ["obs", "weight"], ["actions"]),
            onnx.helper.make_node("Mul", ["actions", "scale"], ["scaled"]),
            onnx.helper.make_node("Add", ["scaled", "offset"], ["targets"]),
        ],
        "linear",
        [onnx.helper.make_tensor_value_info("obs", 1, [1, about.observation.size])],
        [onnx.helper.make_tensor_value_info(name, 1, None) for name in ("actions", "targets")],
        [onnx.numpy_helper.from_array(np.array(x, np.float32), k) for k, x in numbers.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)])
    onnx.helper.set_model_props(model, {"phalanx": about.to_json()})
    model.ir_version = 11
    onnx.save(model, file)
    return file


@pytest.mark.parametrize("task", sorted(set(tasks.TASKS) - {"HumanoidAMP"}))  # custom layouts
def test_robots_see_and_do_what_those_of_the_task_do(task, tmp_path):
    """Also encoders that are off, and robots that fall before they may act."""
    trial = Trial(linear(tmp_path, f"task={task}"), episodes=1)
    for _ in range(5):
        trial.step()
    assert trial.control_gap < 1e-5
    assert max(trial.observation_gap.values(), default=0) < 1e-5


def test_motors_are_as_strong_as_the_task_has_made_them_before_the_robots_are_built(tmp_path):
    trial = Trial(linear(tmp_path, "task=Cartpole"), episodes=1, env={"randomize": True})
    assert trial.engine.models[0].actuator_gear[0, 0] != pytest.approx(400.0)
    trial.step()
    assert trial.control_gap < 1e-6


def test_films_show_bodies_that_the_task_sets(exported, tmp_path, monkeypatch):
    policy = exported("LSTM")[2]
    monkeypatch.setitem(tasks.TASKS, "Cartpole", __name__)
    monkeypatch.setattr(sys.modules[__name__], "Cartpole", Aimed)
    filmed = []
    draw = lambda model, **shown: filmed.append(shown["mocap_pos"][:3, 0, 0, 0])  # noqa: E731
    monkeypatch.setattr("phalanx.video.render_video", draw)
    monkeypatch.setattr("phalanx.cli.play.VIDEO_SECONDS", 0.2)
    player, _ = make(tmp_path, MODELS["LSTM"])
    record(player, tmp_path / "film.mp4")
    trial = Trial(policy, episodes=2)
    for _ in range(5):
        trial.step()
    sim2sim._video(trial, tmp_path, None, threading.Event())
    np.testing.assert_allclose(filmed, [[0, 0.2, 0.4], [0.1, 0.3, 0.5]], rtol=1e-6)


def test_ctrl_c_ends_the_film_of_a_trial(exported, tmp_path, monkeypatch):
    drawn = []

    def draw(*_, on_frame=lambda *_: None, **__):
        for k in range(2000):
            time.sleep(0.002)
            on_frame(k, 2000)
        drawn.append("all of it")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("phalanx.video.render_video", draw)
    monkeypatch.setattr(sim2sim, "_training", stop)
    with pytest.raises(KeyboardInterrupt):
        sim2sim.sim2sim([str(exported("LSTM")[2]), "episodes=1", f"out={tmp_path}"])
    assert not drawn


def test_reset_of_the_page_begins_an_episode(exported, monkeypatch):
    pytest.importorskip("mjviser", reason="mjviser is not installed: an optional extra")
    trial = Trial(exported("LSTM")[2], episodes=1, endless=True)
    policy = trial.policies[0]

    class Page:
        def __init__(self, model, data, step_fn, reset_fn, server):
            self.press = lambda: reset_fn(model, data)
            self.step = lambda: step_fn(model, data)

        def run(self):
            for _ in range(10):
                self.step()
            assert (trial.lengths[0], policy._action.any()) == (5, True)
            self.press()
            assert (int(trial.task.progress_buf[0]), policy._action.any()) == (0, False)
            assert np.abs(trial.robots[0].data.qpos).max() <= 0.1

    monkeypatch.setattr("mjviser.Viewer", Page)
    monkeypatch.setattr("phalanx.viewer.open_server", lambda title: None)
    in_browser(trial)


# the command line ---------------------------------------------------------------------------------


@pytest.fixture
def quiet_threads(monkeypatch):
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)


def test_export_and_sim2sim_from_the_command_line(tmp_path, monkeypatch, capsys, quiet_threads):
    monkeypatch.chdir(tmp_path)
    small = "train.params.config."
    main(["train", "num_envs=16", "max_iterations=1", "sim_device=cpu",
          f"{small}horizon_length=8", f"{small}minibatch_size_per_env=8"])  # fmt: skip
    main(["export", "checkpoint=runs/Cartpole/nn/Cartpole.pth"])
    out = capsys.readouterr().out
    file = "runs/Cartpole/nn/Cartpole.pth.onnx"
    assert f"{file}: continuous policy of Cartpole, 4 observations to 1 joint (effort)" in out
    off = "task.env.randomize=false"
    main(["sim2sim", file, "episodes=4", "video=false", off, "task.env.actuators={}"])
    out = capsys.readouterr().out
    assert "randomised" not in out
    assert re.search(
        r"[\d.]+ % of training's, episode length [\d.]+, \d of 4 episodes ended in a fall",
        out,
    )
    figures = json.loads(Path("runs/Cartpole/sim2sim/report.json").read_text())
    share = figures["mean_return"] / figures["training"]["player_return"]
    assert share == pytest.approx(1, rel=1e-3)
    page = Path("runs/Cartpole/sim2sim/report.html").read_text()
    assert page.count("<svg") == 2 + 1 + 2  # returns and lengths, one target, two joints
    assert "slider_to_cart [N]" in page


def test_the_training_player_plays_the_same_policy_in_the_same_task_or_not_at_all(tmp_path, capsys):
    policy = linear(tmp_path, "task=Cartpole", "task.env.episode_length=7")
    for epoch, weights in ((3, None), (9, None), (3, {})):
        saved = checkpoint.load(tmp_path / "Cartpole.pth")
        model = saved["model"] if weights is None else weights
        checkpoint.save(tmp_path / "Cartpole.pth", {"model": model, "epoch": epoch})
        main(["sim2sim", str(policy), "episodes=2", "video=false", f"out={tmp_path / str(epoch)}"])
        out = " ".join(capsys.readouterr().out.split())
        assert "episode length 7.0" in out
        if epoch == 9:
            assert "Cartpole.pth is of iteration 9 and the policy of 3; export it again" in out
        elif weights is None:
            figures = json.loads((tmp_path / "3" / "report.json").read_text())
            assert figures["training"]["player_length"] == 7
    assert "no comparison with training:" in out
    assert "does not fit this task and network" in out


def test_sim2sim_takes_a_part_of_a_setting_as_play_does():
    config = _config(["a.onnx", "task.env.commands.heading=0.2", "task.env.commands.standing=0.1"])
    assert config.task == {"env": {"commands": {"heading": 0.2, "standing": 0.1}}}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("export", "export needs a checkpoint="),
        ("export checkpoint=none.pth", "no checkpoint at none.pth"),
        ("sim2sim", "sim2sim needs an exported policy"),
        ("sim2sim none.onnx", "no policy at none.onnx"),
        ("sim2sim a.pth", "a.pth is a checkpoint; `phalanx export checkpoint=a.pth` exports"),
        ("sim2sim {} epsiodes=3", "unknown key 'epsiodes'; did you mean 'episodes'"),
        ("sim2sim {} window=true", "window=true needs a display"),
        ("sim2sim {} drive=me", "drive is 'me'; it must be 'robot' or 'task'"),
        ("sim2sim {} task=Ant", "metadata names its task, so 'task=Ant' cannot be given"),
        ("sim2sim {} task.env.raech=3", "task.env.raech; did you mean 'reach'"),
        ("export task=Ant checkpoint={}", "is a checkpoint of 'Cartpole', not of 'Ant'"),
        ("export checkpoint={} format=onx", "unknown format 'onx'; did you mean 'onnx'"),
    ],
)
def test_mistake_is_one_sentence(
    line, words, exported, capsys, tmp_path, monkeypatch, quiet_threads
):
    monkeypatch.chdir(tmp_path)
    for display in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(display, raising=False)
    file = exported("LSTM")[2]
    if line.startswith("export"):
        file = tmp_path / "Cartpole.pth"
        state = {"model": {"w": torch.zeros(1)}, "phalanx": {"name": "Cartpole"}}
        checkpoint.save(file, state)
    arguments = [part.format(file) for part in line.split()]
    assert words in command_line.sentence(capsys, *arguments)


# the example --------------------------------------------------------------------------------------


def test_ros_node_publishes_targets_once_it_has_heard_everything(exported, monkeypatch):
    message = types.SimpleNamespace
    published = []

    class Node:
        def __init__(self, name):
            self.timers = []

        def declare_parameter(self, name, default):
            pass

        def get_parameter(self, name):
            return message(value=str(exported("LSTM")[2]))

        def create_subscription(self, *_):
            pass

        def create_publisher(self, *_):
            return message(publish=published.append)

        def create_timer(self, period, callback):
            self.timers.append((period, callback))

        def get_clock(self):
            return message(now=lambda: message(to_msg=lambda: 0))

    class JointState(message):
        def __init__(self, **fields):
            super().__init__(header=message(stamp=None), **fields)

    for name, contents in {
        "rclpy": {},
        "rclpy.node": {"Node": Node},
        "geometry_msgs": {},
        "geometry_msgs.msg": {"Twist": message},
        "sensor_msgs": {},
        "sensor_msgs.msg": {"Imu": message, "JointState": JointState},
    }.items():
        module = types.ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    file = Path(__file__).parents[1] / "examples" / "ros2_policy_node.py"
    spec = importlib.util.spec_from_file_location("ros2_policy_node", file)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    node = example.PolicyNode()
    period, control = node.timers[0]
    assert period == pytest.approx(1 / 60)
    control()
    assert published == []
    names = ["cart_to_pole", "slider_to_cart"]  # not the policy's order
    node.on_joints(JointState(name=names, position=[0.2, 0.1], velocity=[0.4, 0.3]))
    node.on_imu(message(orientation=message(w=1, x=0, y=0, z=0),
                        angular_velocity=message(x=0, y=0, z=0)))  # fmt: skip
    control()
    expected = Policy(exported("LSTM")[2]).act(np.array([0.1, 0.3, 0.2, 0.4]))
    assert published[0].name == ["slider_to_cart"]
    assert published[0].effort == pytest.approx(expected.targets.tolist())
