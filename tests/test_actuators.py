"""Actuator models against closed forms, MuJoCo's own servo and torch's networks."""

import json
import struct

import numpy as np
import pytest
import torch

from phalanx import tasks
from phalanx.errors import PhalanxError
from phalanx.randomization import RandomModel
from phalanx.sim import Scene, Sim
from phalanx.tasks.actuators import make_actuators
from phalanx.tasks.taken_servos import take_servos

ARM = """
<mujoco><compiler autolimits="true"/><worldbody>
  <body name="upper"><joint name="a" axis="0 1 0" armature="0.02"/>
    <geom type="capsule" fromto="0 0 0 0 0 -0.3" size="0.02" mass="0.5"/>
    <body name="lower" pos="0 0 -0.3"><joint name="b" axis="0 1 0" armature="0.02"/>
      <geom type="capsule" fromto="0 0 0 0 0 -0.3" size="0.02" mass="0.5"/></body></body>
</worldbody>
<actuator><motor joint="a" gear="4" ctrlrange="-1 1"/><motor joint="b" gear="2" ctrlrange="-1 1"/>
</actuator></mujoco>
"""
STRONG = ARM.replace(' ctrlrange="-1 1"', "")


def make_sim(tmp_path, xml=ARM, num_envs=3, engine="auto", timestep=1e-3):
    path = tmp_path / "arm.xml"
    path.write_text(xml)
    scene = Scene(timestep=timestep)
    scene.add_actor("arm", path, fixed_base=True, self_collisions=False)
    return Sim(scene, num_envs, "cpu", engine=engine)


def one(sim, **settings):
    (actuator,) = make_actuators(sim, {"joints": {"actor": "arm", **settings}})
    return actuator


def wanted(actuator, command, pos, vel):
    """Efforts (N, J) after a control step's command and at a state."""
    actuator.sim.ctrl.copy_(torch.as_tensor(command))
    actuator.read_command()
    return actuator.compute(torch.as_tensor(pos), torch.as_tensor(vel))


def test_pd_follows_its_formula_and_is_clamped_to_its_effort(tmp_path):
    sim = make_sim(tmp_path, STRONG)
    pd = one(sim, model="pd", scale=0.5, stiffness=10.0, damping=1.0, effort=3.0)
    state = torch.tensor([[0.1, -0.2]] * 3), torch.tensor([[0.5, 0.0]] * 3)
    effort = wanted(pd, [[0.4, 1.0]] * 3, *state)
    # 10 (0.5 0.4 - 0.1) - 0.5 and 10 (0.5 + 0.2), cut off
    torch.testing.assert_close(effort, torch.tensor([[0.5, 3.0]] * 3))
    sim = make_sim(tmp_path)
    pd = one(sim, model="pd", command="velocity", scale=2.0, damping=1.5)
    torch.testing.assert_close(wanted(pd, [[0.4, 1.0]] * 3, *state)[0], torch.tensor([0.45, 2.0]))
    pd = one(sim, model="pd", command="effort", scale=5.0)  # the motors' own limits: 4 and 2
    torch.testing.assert_close(wanted(pd, [[1.0, -1.0]] * 3, *state)[0], torch.tensor([4.0, -2.0]))


def test_a_dc_motor_gives_less_effort_at_higher_speed(tmp_path):
    motor = one(
        make_sim(tmp_path, STRONG), model="dc_motor", command="effort", scale=10.0, effort=3.0,
        stall_effort=4.0, no_load_speed=20.0,
    )  # fmt: skip
    for speed, most, least in [(0, 3, -3), (5, 3, -3), (10, 2, -3), (20, 0, -3), (30, 0, -3),
                               (200, 0, -3), (-10, 3, -2), (-200, 3, 0)]:  # fmt: skip
        vel = torch.full((3, 2), float(speed))
        for command, effort in ((1.0, most), (-1.0, least)):
            found = wanted(motor, torch.full((3, 2), command), torch.zeros(3, 2), vel)
            torch.testing.assert_close(found, torch.full((3, 2), float(effort)))


@pytest.mark.parametrize("engine", ["mujoco", "warp"])
def test_pd_in_each_physics_step_moves_as_mujocos_position_servo(tmp_path, engine):
    servo = ARM.replace(
        '<motor joint="a" gear="4" ctrlrange="-1 1"/>', '<position joint="a" kp="8" kv="0.2"/>'
    ).replace(
        '<motor joint="b" gear="2" ctrlrange="-1 1"/>', '<position joint="b" kp="8" kv="0.2"/>'
    )
    expected = make_sim(tmp_path, servo)
    sim = make_sim(tmp_path, engine=engine)
    pd = one(sim, model="pd", stiffness=8.0, damping=0.2, scale=1.0)
    sim.ctrl.copy_(torch.tensor([0.3, 0.2]))
    expected.ctrl.copy_(sim.ctrl)
    pd.read_command()
    for _ in range(300):
        pd.write_effort()
        sim.advance(1)
        expected.step()
    assert expected.qpos.abs().min() > 0.05
    torch.testing.assert_close(sim.qpos, expected.qpos, atol=5e-3, rtol=0)


SERVOS = """<position joint="a" kp="8" kv="0.2" ctrlrange="-0.25 9"/><velocity joint="b" kv="0.3"/>
</actuator>"""


def test_a_model_in_place_of_servos_moves_as_they_do(tmp_path):
    xml = ARM.partition("<motor")[0] + SERVOS + "</mujoco>"
    expected = make_sim(tmp_path, xml)
    scene = Scene(timestep=1e-3)
    scene.add_actor("arm", tmp_path / "arm.xml", fixed_base=True, self_collisions=False)
    groups = {
        "a": {"actor": "arm", "joints": ["a"], "model": "pd"},
        "b": {"actor": "arm", "joints": ["b"], "model": "pd", "command": "velocity"},
    }
    servos = take_servos(scene.spec, groups)
    sim = Sim(scene, 3, "cpu")
    made = make_actuators(sim, groups, servos)
    sim.ctrl.copy_(torch.tensor([-0.3, 0.5]))  # the first is outside of its range
    expected.ctrl.copy_(sim.ctrl)
    for actuator in made:
        actuator.read_command()
    for _ in range(300):
        for actuator in made:
            actuator.write_effort()
        sim.advance(1)
        expected.step()
    assert expected.qpos.abs().min() > 0.05
    torch.testing.assert_close(sim.qpos, expected.qpos, atol=5e-3, rtol=0)


def test_a_robot_of_servos_takes_a_motor_model_with_their_gains(tmp_path):
    motor = {"actor": "robot", "model": "dc_motor", "stall_effort": 40.0, "no_load_speed": 30.0}
    settings = {"num_envs": 2, "device": "cpu", "engine": "mujoco", "randomize": False}
    own = tasks.make("G1Velocity", **settings)
    task = tasks.make("G1Velocity", **settings, actuators={"legs": motor})
    (legs,) = task.actuators
    model = own.sim.model
    for values, of_model in (
        (legs.stiffness, model.actuator_gainprm[:, 0]),
        (legs.damping, -model.actuator_biasprm[:, 2]),
        (legs.effort, model.actuator_forcerange[:, 1]),
        (task.action_scale, own.action_scale),
    ):
        expected = torch.as_tensor(np.array(of_model), dtype=torch.float32)
        torch.testing.assert_close(values, expected.expand_as(values))
    assert not task.sim.ctrl.any()  # no targets of servos, which would be efforts now
    task.reset()
    assert not task.sim.actuator_force.any()
    task.step(torch.zeros(2, 29))
    torch.testing.assert_close(legs.command, task.default_pos.expand(2, -1))
    mixed = '<motor joint="a"/><position joint="b" kp="8"/></actuator></mujoco>'
    (tmp_path / "arm.xml").write_text(ARM.partition("<motor")[0] + mixed)
    scene, both = Scene(timestep=1e-3), {"both": {"actor": "arm", "model": "pd"}}
    scene.add_actor("arm", tmp_path / "arm.xml", fixed_base=True)
    servos = take_servos(scene.spec, both)
    with pytest.raises(PhalanxError, match=r"position command needs a stiffness above 0 .* 'a'"):
        make_actuators(Sim(scene, 1, "cpu"), both, servos)
    for change, words in (
        ({"scale": 0.5}, "legs.scale is 0.5, but the joint .* has a servo, whose control is a"),
        ({"command": "effort"}, "legs.command is 'effort', but the joint .* target position"),
    ):
        with pytest.raises(PhalanxError, match=words):
            tasks.make("G1Velocity", **settings, actuators={"legs": {**motor, **change}})


def save(path, module):
    """A module's state_dict as .npz or, by the format's description, .safetensors."""
    arrays = {k: v.detach().numpy() for k, v in module.state_dict().items()}
    if path.suffix == ".npz":
        np.savez(path, **arrays)
        return path
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, values in sorted(arrays.items()):
        end = len(data) + values.nbytes
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [len(data), end]}
        data += values.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_perceptron_sees_errors_and_velocities_of_the_last_steps(tmp_path, suffix):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Softsign(), torch.nn.Linear(8, 1))
    sim = make_sim(tmp_path, STRONG)
    learned = one(
        sim, model="network", file=str(save(tmp_path / f"net{suffix}", net)), history=[0, 2],
        effort_scale=0.5, vel_scale=0.1,
    )  # fmt: skip
    pos, vel = torch.randn(4, 3, 2), torch.randn(4, 3, 2)
    for k in range(4):
        found = wanted(learned, torch.full((3, 2), 0.7), pos[k], vel[k])
    error = 0.7 - pos
    seen = torch.stack([error[3], error[1], 0.1 * vel[3], 0.1 * vel[1]], -1)
    torch.testing.assert_close(found, 0.5 * net(seen)[..., 0].detach())
    learned.reset(torch.tensor([True, False, False]))
    found = wanted(learned, torch.full((3, 2), 0.7), pos[0], vel[0])
    alone = torch.stack([error[0], 0 * error[0], 0.1 * vel[0], 0 * vel[0]], -1)
    torch.testing.assert_close(found[0], 0.5 * net(alone)[0, :, 0].detach())


def test_an_lstm_equals_torchs(tmp_path):
    torch.manual_seed(1)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(2, 5, num_layers=2)
            self.fc = torch.nn.Linear(5, 1)

    net, sim = Net(), make_sim(tmp_path, STRONG)
    file = str(save(tmp_path / "net.npz", net))
    learned = one(sim, model="network", file=file)
    pos, vel = torch.randn(6, 3, 2), torch.randn(6, 3, 2)
    found = [wanted(learned, torch.zeros(3, 2), p, v) for p, v in zip(pos, vel, strict=True)]
    hidden, _ = net.lstm(torch.stack([-pos, vel], -1).flatten(1, 2))
    torch.testing.assert_close(torch.stack(found), net.fc(hidden).detach().view(6, 3, 2))
    saved = learned.state_dict()
    after = wanted(learned, torch.zeros(3, 2), pos[0], vel[0])
    learned.load_state_dict(saved)
    assert torch.equal(wanted(learned, torch.zeros(3, 2), pos[0], vel[0]), after)


@pytest.mark.parametrize("engine", ["mujoco", "warp"])
def test_any_task_accepts_an_actuator_model_and_its_gains_are_randomised(engine):
    entry = {"range": [0.5, 1.5], "operation": "scaling", "distribution": "uniform"}
    names = ("stiffness", "damping", "effort", "velocity")
    entries = dict.fromkeys(names, entry) | {"effort": {**entry, "range": [0.1, 1.0]}}
    params = {"actor_params": {"cartpole": {"dof_properties": entries}}}
    cart = {"actor": "cartpole", "model": "dc_motor", "stall_effort": 100.0, "no_load_speed": 5.0,
            "command": "velocity", "scale": 2.0, "damping": 30.0, "stiffness": 1.0}  # fmt: skip
    task = tasks.make("Cartpole", 64, "cpu", engine, randomize=True, randomization_params=params,
                      actuators={"cart": cart})  # fmt: skip
    (motor,) = task.actuators
    means = ((motor.damping, 30), (motor.effort, 0.55 * 400), (motor.no_load_speed, 5))
    for gain, mean in means:
        assert gain.mean() / mean == pytest.approx(1, abs=0.2)
    for gain, width in ((motor.damping, 30), (motor.effort, 0.9 * 400), (motor.no_load_speed, 5)):
        assert gain.std() / width == pytest.approx(0.29, abs=0.08)
    assert {row.what for row in task.randomizer.table()} >= {"cartpole drive velocity"}
    task.reset()
    for _ in range(30):
        task.step(torch.full((64, 1), 0.5))
    # the servo brings the cart to 2 * 0.5 m/s, those with more gain sooner
    speed = task.cartpole.joint_vel[:, 0]
    assert 0.5 < speed.mean() < 1.1
    state = task.state_dict()
    assert "actuators" in state
    task.load_state_dict(state)


def test_gains_of_joints_without_a_model_are_randomised_too():
    entry = {"range": [0.5, 0.6], "operation": "scaling", "distribution": "uniform"}
    names = ("stiffness", "damping", "effort", "velocity")
    params = {"actor_params": {"robot": {"dof_properties": dict.fromkeys(names, entry)}}}
    motor = {"actor": "robot", "joints": ["FL_hip_joint"], "model": "dc_motor",
             "stall_effort": 40.0, "no_load_speed": 30.0}  # fmt: skip
    task = tasks.make("Go2Velocity", 8, "cpu", "mujoco", randomize=True,
                      randomization_params=params, actuators={"hip": motor})  # fmt: skip
    own = tasks.make("Go2Velocity", 1, "cpu", "mujoco", randomize=False).sim.model
    fields = {row.what: row for row in task.randomizer.table()}
    assert {f"robot {k} {n}" for k in ("drive", "dof") for n in names} - fields.keys() == {
        "robot dof velocity"
    }
    model = {n: task.randomizer.model._fields.live(n) for n in ("actuator_biasprm",)}
    part = model["actuator_biasprm"][:, 1:, 1] / torch.tensor(own.actuator_biasprm[1:, 1])
    assert 0.5 <= part.min() < part.max() <= 0.6
    (hip,) = task.actuators
    assert 20 <= hip.stiffness.min() < hip.stiffness.max() <= 24


LSTM = {"l.weight_ih_l0": (8, 2), "l.weight_hh_l0": (8, 2), "l.bias_ih_l0": (8,)}
LSTM |= {"l.bias_hh_l0": (8,), "fc.weight": (1, 2), "fc.bias": (1,)}


@pytest.mark.parametrize(
    ("shapes", "value", "words"),
    [
        ({"0.weight": (1, 2), "0.bias": (1,)}, np.nan, "'0.weight' must hold finite numbers"),
        ({"0.weight": (1, 2), "0.bias": (1,)}, 1e38, "must hold finite numbers below 1e+09"),
        ({"0.weight": (1, 2), "0.bias": (2,)}, 0, "a bias in .* has another length"),
        ({"0.weight": (2,)}, 0, "takes 2 numbers"),
        ({**LSTM, "l.weight_hh_l0": (8, 3)}, 0, "an incomplete LSTM layer 0"),
        ({**LSTM, "l.bias_hh_l0": (7,)}, 0, "an incomplete LSTM layer 0"),
        ({**LSTM, "l.weight_ih_l0": (9, 2)}, 0, "an incomplete LSTM layer 0"),
    ],
)
def test_weights_that_make_no_network_are_refused(tmp_path, shapes, value, words):
    file = tmp_path / "net.npz"
    np.savez(file, **{k: np.full(v, value, float) for k, v in shapes.items()})
    with pytest.raises(PhalanxError, match=words.replace("+", r"\+")):
        one(make_sim(tmp_path), model="network", file=str(file))


def test_damaged_networks_are_one_sentence(tmp_path):
    """Every cut, and a size in the header that is not there."""
    sim, net = make_sim(tmp_path), torch.nn.Linear(2, 1)
    for suffix in (".npz", ".safetensors"):
        whole = save(tmp_path / f"net{suffix}", net).read_bytes()
        file = tmp_path / f"bad{suffix}"
        for end in range(0, len(whole), 29):
            file.write_bytes(whole[:end])
            with pytest.raises(PhalanxError, match=r"cannot read .*bad"):
                one(sim, model="network", file=str(file))
    file.write_bytes(whole.replace(b"[1, 2]", b"[9, 9]"))
    with pytest.raises(PhalanxError, match="cannot read"):
        one(sim, model="network", file=str(file))


def test_mistakes_are_one_sentence(tmp_path):
    sim = make_sim(tmp_path)
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"nothing")
    torch.save({"a": 1}, tmp_path / "net.pth")
    np.savez(tmp_path / "wide.npz", **{"0.weight": np.zeros((1, 3)), "0.bias": np.zeros(1)})
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    np.savez(tmp_path / "other.npz", kernel=np.zeros((1, 2)))
    cases = [
        ({"model": "pd", "actor": "amr"}, "no actor 'amr'"),
        ({"model": "pdd"}, "model is 'pdd'; it must be 'pd' or"),
        ({"model": "pd", "stifness": 1}, "joints.stifness; did you mean 'stiffness'?"),
        ({"model": "pd", "joints": ["c"]}, "no joint 'c' in actor 'arm'"),
        ({"model": "pd"}, "a position command needs a stiffness"),
        ({"model": "pd", "command": "velocity"}, "a velocity command needs a damping"),
        ({"model": "dc_motor", "stiffness": 1}, "needs stall_effort and no_load_speed"),
        ({"model": "network"}, "needs file="),
        ({"model": "network", "file": "none.npz"}, "cannot read none.npz"),
        ({"model": "network", "file": str(bad)}, "cannot read"),
        ({"model": "network", "file": str(tmp_path / "net.pth")}, "neither .npz nor .safetensors"),
        ({"model": "network", "file": str(tmp_path / "objects.npz")}, "cannot read"),
        ({"model": "network", "file": str(tmp_path / "wide.npz")}, "takes 3 numbers, but gets 2"),
        ({"model": "network", "file": str(tmp_path / "other.npz")}, "it holds kernel"),
        ({"model": "network", "file": "/dev/zero.npz", "history": [1]}, "cannot read"),
        ({"model": "network", "history": [10**9]}, "at most 1000"),
    ]
    for settings, words in cases:
        with pytest.raises(PhalanxError) as error:
            one(sim, **settings)
        assert words in str(error.value), settings
    servo = make_sim(tmp_path, ARM.partition("<motor")[0] + SERVOS + "</mujoco>")  # still a servo
    with pytest.raises(PhalanxError, match="joint 'a' cannot be replaced by an actuator model: it"):
        one(servo, model="pd")
    entry = {"actor": "arm", "model": "pd", "stiffness": 1.0}
    with pytest.raises(PhalanxError, match="belongs to another group"):
        make_actuators(sim, {"a": entry, "b": entry})


# Each lets 4 N m reach joint a.
LIMITS = {
    "control": ('gear="4" ctrlrange="-1 1"', ""),
    "force": ('gear="-4" forcerange="-1 1"', ""),
    "joint": ('gear="50" ctrlrange="-1 1"', 'actuatorfrcrange="-4 4"'),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_an_effort_that_the_motor_cannot_give_is_refused(tmp_path, limit):
    motor, joint = LIMITS[limit]
    xml = ARM.replace('gear="4" ctrlrange="-1 1"', motor)
    xml = xml.replace('name="a" axis', f'name="a" {joint} axis')
    sim = make_sim(tmp_path, xml)
    settings = {"model": "pd", "command": "effort", "scale": 1.0, "joints": ["a"]}
    with pytest.raises(PhalanxError, match=r"effort is 5, .* joint 'a' gives at most 4"):
        one(sim, **settings, effort=5.0)
    (own,) = make_actuators(sim, {"g": {"actor": "arm", **settings}})
    sim.ctrl.fill_(9.0)
    own.read_command()
    own.write_effort()
    sim.step()
    # What is asked for is what MuJoCo's joint gets.
    assert own.effort[0, 0] == 4
    assert sim.qfrc_actuator[0, 0] == pytest.approx(4)


def test_a_randomised_effort_that_the_motor_cannot_give_is_refused():
    entry = {"range": [0.5, 1.5], "operation": "scaling", "distribution": "uniform"}
    params = {"actor_params": {"cartpole": {"dof_properties": {"effort": entry}}}}
    cart = {"actor": "cartpole", "model": "pd", "stiffness": 1.0}
    words = (
        r"dof_properties\.effort reaches 600, but the motor of joint 'slide.*' gives at most 400"
    )
    with pytest.raises(PhalanxError, match=words):
        tasks.make("Cartpole", 2, "cpu", randomize=True, randomization_params=params,
                   actuators={"cart": cart})  # fmt: skip


def test_a_shared_sample_is_one_for_all_actuators_of_an_actor(tmp_path):
    sim = make_sim(tmp_path, num_envs=20)
    settings = {"actor": "arm", "model": "pd", "stiffness": 1.0}
    made = make_actuators(sim, {j: {**settings, "joints": [j]} for j in ("a", "b")})
    entry = {"range": [0.5, 1.5], "operation": "scaling", "distribution": "uniform"}
    params = {"actor_params": {"arm": {"dof_properties": {"stiffness": {**entry, "shared": True}}}}}
    RandomModel(sim, params, {("arm", "stiffness"): [a.gains()["stiffness"] for a in made]})
    one, two = (a.stiffness[:, 0] for a in made)
    assert torch.equal(one, two)
    assert len(one.unique()) > 10
