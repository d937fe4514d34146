"""Domain randomisation: the statistics of every kind on both engines, and that physics obeys."""

import math
import re
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

from phalanx import tasks
from phalanx.errors import PhalanxError
from phalanx.randomization import Randomizer, RandomModel, prepare
from phalanx.randomization.random_model import PROPERTIES
from phalanx.sim import Scene, Sim

ENGINES = ("mujoco", "warp", "fused")
MANY = 400  # environments for statistics

ROBOT = """
<mujoco>
  <compiler autolimits="true"/>
  <worldbody>
    <body name="base" pos="0 0 1">
      <freejoint/>
      <geom name="hull" type="box" size="0.2 0.2 0.1" pos="0.02 0 0" mass="4"/>
      <body name="arm" pos="0.2 0 0">
        <joint name="hinge" axis="0 1 0" range="-1 1.5" damping="0.2" stiffness="3" armature="0.01"
               frictionloss="0.05"/>
        <geom name="rod" type="capsule" fromto="0 0 0 0.3 0 0" size="0.02" mass="0.5"/>
        <site name="tip" pos="0.3 0 0"/>
        <body name="hand" pos="0.3 0 0">
          <joint name="slide" type="slide" axis="1 0 0" range="-0.1 0.1"/>
          <geom name="ball" type="sphere" size="0.03" pos="0.03 0 0" mass="0.2"/>
        </body>
      </body>
    </body>
  </worldbody>
  <tendon>
    <fixed name="cord" stiffness="10" damping="0.3"><joint joint="hinge" coef="0.1"/></fixed>
  </tendon>
  <actuator>
    <motor name="turn" joint="hinge" gear="5" ctrlrange="-1 1"/>
    <position name="reach" joint="slide" kp="100" kv="4" ctrlrange="-0.1 0.1" forcerange="-20 20"/>
  </actuator>
</mujoco>
"""
BALL = """
<mujoco><worldbody><body name="ball" pos="0 0 1"><freejoint/>
  <geom name="shell" type="sphere" size="0.1" mass="2"/>
</body></worldbody></mujoco>
"""
WHEEL = """
<mujoco><worldbody><body name="wheel" pos="0 0 1"><joint axis="0 1 0"/>
  <inertial pos="0 0 0" mass="2" diaginertia="0.01 0.01 0.01"/>
  <body name="spinner"><joint axis="0 1 0"/>
    <inertial pos="0 0 0" mass="0.001" diaginertia="1e-5 1e-5 1e-5"/></body>
</body></worldbody></mujoco>
"""
BLOCK = """
<mujoco><worldbody><body name="block" pos="0 0 0.1"><freejoint/>
  <geom type="box" size="0.2 0.2 0.1" mass="1"/>
</body></worldbody></mujoco>
"""


def variation(low, high, operation="scaling", distribution="uniform", **more):
    return {"range": [low, high], "operation": operation, "distribution": distribution, **more}


def make_sim(tmp_path, engine, params=None, xml=ROBOT, num_envs=MANY, ground=True, substeps=1):
    path = tmp_path / "bot.xml"
    path.write_text(xml)
    scene = Scene(timestep=1 / 240)
    if ground:
        scene.add_ground()
    scene.add_actor("bot", path)
    prepare(scene, params or {})
    return Sim(scene, num_envs, "cpu", engine=engine, substeps=substeps)


def of(kind, name, entry):
    return {"actor_params": {"bot": {kind: {name: entry}}}}


# statistics of every kind -------------------------------------------------------------------------

BODY, SHAPE, DOF, TENDON = (
    "rigid_body_properties", "rigid_shape_properties", "dof_properties", "tendon_properties",
)  # fmt: skip
# kind, property, and where it is to be found: a field, and what of it, (N, K)
PLACES = [
    (BODY, "mass", "body_mass", lambda f: f[:, 1:]),
    (BODY, "com", "body_ipos", lambda f: f[:, 1:].flatten(1)),
    (BODY, "com_x", "body_ipos", lambda f: f[:, 1:, 0]),
    (SHAPE, "friction", "geom_friction", lambda f: f[:, 1:, 0]),
    (SHAPE, "torsion_friction", "geom_friction", lambda f: f[:, 1:, 1]),
    (SHAPE, "rolling_friction", "geom_friction", lambda f: f[:, 1:, 2]),
    (DOF, "lower", "jnt_range", lambda f: f[:, 1:, 0]),
    (DOF, "upper", "jnt_range", lambda f: f[:, 1:, 1]),
    (DOF, "friction", "dof_frictionloss", lambda f: f[:, 6:]),
    (DOF, "armature", "dof_armature", lambda f: f[:, 6:]),
    (DOF, "effort", "actuator_forcerange", lambda f: f[:, 1:, 1]),
    (DOF, "stiffness", "actuator_gainprm", lambda f: f[:, 1:, 0]),
    (DOF, "damping", "actuator_biasprm", lambda f: -f[:, 1:, 2]),
    (TENDON, "stiffness", "tendon_stiffness", lambda f: f),
    (TENDON, "damping", "tendon_damping", lambda f: f),
]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_property_takes_the_values_asked_for(tmp_path, engine):
    torch.manual_seed(0)
    sim = make_sim(tmp_path, engine)
    for kind, name, field, part in PLACES:
        values = sim.model_field(field)
        before = values.clone()
        RandomModel(sim, of(kind, name, variation(0.5, 1.5)))
        changed = part(before) != 0
        ratio = (part(values) / part(before))[changed].view(MANY, -1)
        assert 0.5 <= ratio.min() < 0.52, name
        assert 1.48 < ratio.max() <= 1.5, name
        assert abs(ratio.mean() - 1) < 0.05, name
        assert abs(ratio.std() - 1 / math.sqrt(12)) < 0.02, name
        if ratio.shape[1] > 1:  # each body, shape and joint draws for itself
            assert torch.corrcoef(ratio[:, :2].T)[0, 1].abs() < 0.25, name
        values.copy_(before)


def test_only_the_shapes_that_are_randomised_change_and_they_may_share_one_sample(tmp_path):
    shared = variation(0.5, 1.5, bodies=["arm", "hand"], shared=True)
    smooth = ROBOT.replace("<geom ", '<geom condim="1" ')
    sim = make_sim(tmp_path, "mujoco", of(SHAPE, "friction", shared), smooth, num_envs=50)
    ground, hull, rod, ball = (sim.model.geom(n).id for n in ("ground", *map("bot/{}".format, (
        "hull", "rod", "ball"))))  # fmt: skip
    assert [*sim.model.geom_condim[[ground, hull, rod, ball]]] == [3, 1, 3, 3]
    assert [*sim.model.geom_priority[[ground, hull, rod, ball]]] == [0, 0, 1, 1]
    RandomModel(sim, of(SHAPE, "friction", shared))
    friction = sim.model_field("geom_friction")
    assert (friction[:, [ground, hull], 0] == 1).all()
    assert torch.equal(friction[:, rod, 0], friction[:, ball, 0])
    assert friction[:, rod, 0].std() > 0.2


@pytest.mark.parametrize("engine", ENGINES)
def test_inertia_follows_mass(tmp_path, engine):
    sim = make_sim(tmp_path, engine, num_envs=4)
    RandomModel(sim, of(BODY, "mass", variation(0.5, 2.0)))
    ratio = sim.model_field("body_mass")[:, 1:] / torch.tensor(sim.model.body_mass[1:]).float()
    inertia = torch.tensor(sim.model.body_inertia[1:]).float() * ratio[..., None]
    torch.testing.assert_close(sim.model_field("body_inertia")[:, 1:], inertia)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_wheel_turns_towards_where_its_mass_is_moved(tmp_path, engine):
    """Also where the centre of mass was in the body's origin, a case that MuJoCo shortens."""
    sim = make_sim(tmp_path, engine, xml=WHEEL, num_envs=4, ground=False)
    assert not sim.model.body_ipos[1].any()
    moved = variation(0.01, 0.05, "additive", bodies=["wheel"])
    RandomModel(sim, of(BODY, "com", moved))
    x, _, z = sim.model_field("body_ipos")[:, 1].T
    sim.step()
    inertia = sim.model.body_inertia[1, 1] + 2.0 * (x**2 + z**2)
    torch.testing.assert_close(sim.qvel[:, 0], 2 * 9.81 * x / inertia * sim.dt, rtol=0.01, atol=0)


@pytest.mark.parametrize("engine", ENGINES)
def test_distributions_have_their_moments(tmp_path, engine):
    torch.manual_seed(1)
    sim = make_sim(tmp_path, engine)
    friction = sim.model_field("geom_friction")[:, 1:, 0]  # 1 as it is
    for operation, shift in (("scaling", 0.0), ("additive", 1.0)):
        for distribution, low, high, mean, std in [
            ("uniform", 0.6, 1.4, 1.0, 0.8 / math.sqrt(12)),
            ("gaussian", 1.0, 0.1, 1.0, 0.1),
            # mean (b - a) / ln(b / a), mean square (b^2 - a^2) / (2 ln(b / a))
            ("loguniform", 0.5, 2.0, 1.082, math.sqrt(3.75 / (2 * math.log(4)) - 1.082**2)),
        ]:
            friction.fill_(1.0)
            RandomModel(sim, of(SHAPE, "friction", variation(low, high, operation, distribution)))
            sample = friction - shift
            assert abs(sample.mean() - mean) < 0.2 * std
            assert abs(sample.std() - std) < 0.15 * std
            if distribution != "gaussian":
                assert low <= sample.min()
                assert sample.max() <= high + 1e-6
            if distribution == "loguniform":  # as many below as above the geometric mean
                assert abs((sample < 1).float().mean() - 0.5) < 0.1


@pytest.mark.parametrize("engine", ENGINES)
def test_derived_constants_are_those_of_a_model_with_these_values(tmp_path, engine):
    params = {
        "actor_params": {
            "bot": {
                "scale": variation(0.7, 1.4),
                BODY: {"mass": variation(0.5, 2.0)},
                DOF: {"armature": variation(0.5, 3.0)},
            }
        }
    }
    sim = make_sim(tmp_path, engine, num_envs=3)
    RandomModel(sim, params)
    for env in range(3):
        model = sim.model_of(env)
        expected = sim.model_of(env)
        mujoco.mj_setConst(expected, mujoco.MjData(expected))
        assert not (model.body_mass[1:] == sim.model.body_mass[1:]).any()
        for name in ("body_subtreemass", "dof_invweight0", "body_invweight0", "geom_rbound"):
            torch.testing.assert_close(
                torch.tensor(getattr(model, name)).float(),
                torch.tensor(getattr(expected, name)).float(), rtol=1e-3, atol=1e-5,
            )  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
def test_bodies_and_joints_can_be_named(tmp_path, engine):
    sim = make_sim(tmp_path, engine, num_envs=4)
    RandomModel(sim, of(BODY, "mass", variation(2, 2, bodies=["arm"])))
    assert sim.model_field("body_mass")[0].tolist() == pytest.approx([0, 4, 1.0, 0.2])
    RandomModel(sim, of(DOF, "armature", variation(2, 2, joints=["hinge"])))
    assert sim.model_field("dof_armature")[0, 6:].tolist() == pytest.approx([0.02, 0])


@pytest.mark.parametrize("engine", ENGINES)
def test_colors_and_gravity(tmp_path, engine):
    sim = make_sim(tmp_path, engine)
    RandomModel(
        sim,
        {
            "sim_params": {"gravity": variation(0, 0.4, "additive", "gaussian")},
            "actor_params": {"bot": {"color": True}},
        },
    )
    gravity = sim.model_field("opt.gravity")
    torch.testing.assert_close(gravity.mean(0), torch.tensor([0, 0, -9.81]), atol=0.1, rtol=0)
    torch.testing.assert_close(gravity.std(0), torch.full((3,), 0.4), atol=0.06, rtol=0)
    rgba = sim.model_field("geom_rgba")[:, 1:]
    assert rgba[..., :3].std(0).min() > 0.25  # of uniform, 0.29
    assert (rgba[..., 3] == 1).all()


# physics obeys ------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_a_heavier_ball_accelerates_less_and_falls_as_fast(tmp_path, engine):
    torch.manual_seed(2)
    sim = make_sim(tmp_path, engine, xml=BALL, num_envs=4, ground=False)
    RandomModel(sim, of(BODY, "mass", variation(0.5, 2.0)))
    mass = sim.model_field("body_mass")[:, 1].clone()
    assert mass.std() > 0.1
    sim.xfrc_applied[:, 1, 0] = 3.0
    sim.step()
    torch.testing.assert_close(sim.qvel[:, 0], 3.0 / mass * sim.dt, rtol=1e-4, atol=0)
    torch.testing.assert_close(sim.qvel[:, 2], torch.full((4,), -9.81 * sim.dt))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_lone_bodys_centre_of_mass_can_move(tmp_path, engine):
    params = of(BODY, "com", variation(0.02, 0.05, "additive"))
    sim = make_sim(tmp_path, engine, params, xml=BALL, num_envs=4, ground=False)
    RandomModel(sim, params)
    sim.qvel[:, 3] = 1.0
    sim.step()
    data = mujoco.MjData(model := sim.model_of(0))
    data.qvel[3] = 1.0
    mujoco.mj_step(model, data)
    assert data.qvel[1:3].max() > -9.81 * sim.dt + 1e-3  # it turns about its centre of mass
    torch.testing.assert_close(sim.qvel[0], torch.tensor(data.qvel).float(), atol=5e-4, rtol=0)


def test_the_table_shows_the_axes_of_a_vector_one_by_one(tmp_path):
    sim = make_sim(tmp_path, "mujoco", xml=BALL, num_envs=2, ground=False)
    (row,) = RandomModel(sim, {"sim_params": {"gravity": variation(0.9, 1.1)}}).table(1)
    assert row.original == "0, 0, -9.81"
    assert row.result == "0, 0, -10.79 .. -8.829"


@pytest.mark.parametrize("engine", ENGINES)
def test_gravity_acts_in_each_environment(tmp_path, engine):
    torch.manual_seed(2)
    sim = make_sim(tmp_path, engine, xml=BALL, num_envs=16, ground=False)
    RandomModel(sim, {"sim_params": {"gravity": variation(0.2, 1.0)}})
    sim.step()
    gravity = sim.model_field("opt.gravity")
    assert gravity[:, 2].std() > 0.5
    torch.testing.assert_close(sim.qvel[:, :3], gravity * sim.dt)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_block_slides_if_its_friction_lets_it(tmp_path, engine):
    """Below the ground's friction as well, which MuJoCo alone would take instead."""
    params = of(SHAPE, "friction", variation(0.2, 0.8))
    torch.manual_seed(2)
    sim = make_sim(tmp_path, engine, params, xml=BLOCK, num_envs=24)
    RandomModel(sim, params)
    friction = sim.model_field("geom_friction")[:, 1, 0]
    sim.xfrc_applied[:, 1, 0] = 0.5 * 9.81  # a half of its weight pulls at it
    for _ in range(120):
        sim.step()
    clear = (friction - 0.5).abs() > 0.05
    assert 4 < (friction[clear] < 0.5).sum() < 20
    assert ((sim.qpos[:, 0] > 0.02) == (friction < 0.5))[clear].all()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_ball_bounces_and_grows(tmp_path, engine):
    bounce = of(SHAPE, "restitution", variation(0.1, 0.9, "additive"))
    sim = make_sim(tmp_path, engine, bounce, xml=BALL, num_envs=16)
    torch.manual_seed(2)
    model = RandomModel(sim, bounce)
    wanted = model.parameters[0].sample[:, 0]
    up, down = torch.zeros(16), torch.zeros(16)
    for _ in range(240):
        sim.step()
        up, down = torch.maximum(up, sim.qvel[:, 2]), torch.minimum(down, sim.qvel[:, 2])
    assert wanted.std() > 0.1
    torch.testing.assert_close(-up / down, wanted, atol=0.15, rtol=0)
    sim = make_sim(tmp_path, engine, xml=BALL, num_envs=4)
    torch.manual_seed(2)
    RandomModel(sim, {"actor_params": {"bot": {"scale": variation(0.5, 2.0)}}})
    size = sim.model_field("geom_size")[:, 1, 0].clone()
    torch.testing.assert_close(sim.model_field("body_mass")[:, 1], 2 * (size / 0.1) ** 3)
    for _ in range(240):
        sim.step()
    assert size.std() > 0.01
    torch.testing.assert_close(sim.qpos[:, 2], size, atol=0.002, rtol=0)


ZOO = """
<mujoco>
  <compiler autolimits="true"/>
  <worldbody>
    <body name="a"><joint name="a" range="-1 1" stiffness="2" damping="1" armature="0.1"/>
      <geom size="0.05" mass="1" solref="-2000 -80"/>
      <body name="b" pos="0.2 0 0"><joint name="b" frictionloss="0.1" actuatorfrcrange="-9 9"/>
        <geom size="0.05" mass="1" solref="0.02 1.5"/>
        <body name="c" pos="0.2 0 0"><joint name="c"/><geom size="0.05" mass="1" solref="0.02 0.3"/>
          <body name="d" pos="0.2 0 0"><joint name="d"/><geom size="0.05" mass="1"/>
            <body name="e" pos="0.2 0 0"><joint name="e" range="-1 1"/><geom size="0.05" mass="1"/>
    </body></body></body></body></body>
  </worldbody>
  <tendon><fixed name="t" stiffness="3" damping="1"><joint joint="e" coef="1"/></fixed></tendon>
  <actuator>
    <position name="alike" joint="a" kp="3" kv="3"/>
    <velocity name="speed" joint="b" kv="2"/>
    <general name="scaled" joint="c" gainprm="10" biastype="affine" biasprm="0 -5 -5"/>
    <motor name="motor" joint="d" gear="-3" ctrlrange="-2 1"/>
    <muscle name="muscle" joint="e" ctrlrange="0 1"/>
  </actuator>
</mujoco>
"""


def numbers(model):
    """All arrays of a model by name."""
    found = {k: getattr(model, k) for k in dir(model) if not k.startswith("_")}
    return {k: v for k, v in found.items() if isinstance(v, np.ndarray) and v.dtype.kind in "fiub"}


LEFT_OUT = ("velocity", "com_x", "com_y", "com_z")  # of no model field; what com has already


def test_samples_that_change_nothing_change_nothing(tmp_path):
    """Servos of equal gains, overdamped and direct solref, muscles: what formulas get wrong."""
    for entry in (variation(1, 1), variation(0, 0, "additive")):
        kinds = {
            kind: {name: entry for name in names if name not in LEFT_OUT}
            for kind, names in PROPERTIES.items()
        }
        params = {"actor_params": {"bot": kinds}}
        sim = make_sim(tmp_path, "mujoco", params, xml=ZOO, num_envs=1)
        before = numbers(sim.model)
        RandomModel(sim, params)
        assert sim.model_field("actuator_gainprm").shape[0] == 1
        for name, values in numbers(sim.model_of(0)).items():
            np.testing.assert_allclose(values, before[name], rtol=1e-5, atol=1e-7, err_msg=name)


def test_randomised_servo_gains_keep_the_meaning_of_commands(tmp_path):
    three = variation(3, 3)
    found = {}
    for name in ("stiffness", "damping"):
        params = of(DOF, name, {**three, "joints": ["a", "b", "c"]})
        sim = make_sim(tmp_path, "mujoco", params, xml=ZOO, num_envs=1)
        RandomModel(sim, params)
        model = sim.model_of(0)
        found[name] = [(model.actuator_gainprm[i, 0], *model.actuator_biasprm[i, :3])
                       for i in range(3)]  # fmt: skip
    # force = gain * command - stiffness * position - damping * velocity
    assert found["stiffness"] == [(9, 0, -9, -3), (2, 0, 0, -2), (30, 0, -15, -5)]
    assert found["damping"] == [(3, 0, -3, -9), (6, 0, 0, -6), (10, 0, -5, -15)]


@pytest.mark.parametrize("engine", ENGINES)
def test_environments_move_as_plain_mujoco_with_their_values(tmp_path, engine):
    entries = variation(0.6, 1.6)
    params = {
        "sim_params": {"gravity": variation(0, 0.5, "additive", "gaussian")},
        "actor_params": {
            "bot": {
                "scale": variation(0.8, 1.2),
                BODY: {"mass": entries, "com": variation(-0.02, 0.02, "additive")},
                DOF: dict.fromkeys("lower upper stiffness damping friction armature effort".split(),
                                   entries),
                TENDON: {"stiffness": entries, "damping": entries},
            }
        },
    }  # fmt: skip
    torch.manual_seed(3)
    sim = make_sim(tmp_path, engine, num_envs=3, ground=False)
    RandomModel(sim, params)
    for _ in range(40):
        sim.ctrl.copy_(torch.tensor([0.5, 0.08]))
        sim.step()
    ends = []
    for env in range(3):
        model = sim.model_of(env)
        data = mujoco.MjData(model)
        data.ctrl[:] = 0.5, 0.08
        mujoco.mj_step(model, data, 40)
        ends.append(torch.tensor(data.qpos).float())
        torch.testing.assert_close(sim.qpos[env], ends[-1], atol=2e-4, rtol=1e-3)
    assert (ends[0] - ends[1])[7:].abs().min() > 1e-3  # the environments do differ


# when ---------------------------------------------------------------------------------------------


def randomizer(tmp_path, params, engine="mujoco", xml=BALL, num_envs=8, width=3):
    sim = make_sim(tmp_path, engine, params, xml=xml, num_envs=num_envs)
    tensors = torch.zeros(num_envs, 2), torch.zeros(num_envs, width)
    return Randomizer(sim, params, *tensors)


def test_only_environments_that_reset_after_enough_steps_draw_anew(tmp_path):
    params = {"frequency": 3, **of(SHAPE, "friction", variation(0.5, 1.5))}
    params["actor_params"]["bot"][BODY] = {"mass": variation(0.5, 1.5, setup_only=True)}
    r = randomizer(tmp_path, params)
    friction = r.sim.model_field("geom_friction")[:, 1, 0]
    mass, before = r.sim.model_field("body_mass").clone(), friction.clone()
    first = torch.arange(8) < 3
    for _ in range(2):
        r.count()
    r.reset(first)
    assert (friction == before).all()
    r.count()
    r.reset(first)
    assert ((friction != before) == first).all()
    once = friction.clone()
    r.reset(first)
    assert (friction == once).all()
    r.reset(torch.ones(8, dtype=torch.bool))  # the others' time has come, theirs has not
    assert ((friction != once) == ~first).all()
    assert (r.sim.model_field("body_mass") == mass).all()


def test_schedules(tmp_path):
    def spread(schedule, step):
        entry = variation(0.0, 2.0, schedule=schedule, schedule_steps=100)
        r = randomizer(tmp_path, of(SHAPE, "friction", entry), num_envs=300)
        r.step.fill_(step)
        r.since += 1
        r.reset(torch.ones(300, dtype=torch.bool))
        return (r.sim.model_field("geom_friction")[:, 1, 0] - 1).abs().max().item()

    assert spread("linear", 0) == 0
    assert spread("linear", 25) == pytest.approx(0.25, abs=0.01)
    assert spread("linear", 500) == pytest.approx(1, abs=0.02)
    assert spread("constant", 99) == 0
    assert spread("constant", 100) == pytest.approx(1, abs=0.02)
    entry = variation(0, 2, schedule="linear", schedule_steps=100)
    r = randomizer(tmp_path, of(SHAPE, "friction", entry))
    r.end_schedules()
    assert (r.sim.model_field("geom_friction")[:, 1, 0] != 1).all()


# noise, latency, pushes ---------------------------------------------------------------------------


@pytest.mark.parametrize("distribution", ["gaussian", "uniform"])
def test_noise_has_a_white_and_a_lasting_part(tmp_path, distribution):
    torch.manual_seed(4)
    low, high = (0.0, 0.1) if distribution == "gaussian" else (-0.1, 0.1)
    std = 0.1 if distribution == "gaussian" else 0.1 / math.sqrt(3)
    entry = variation(low, high, "additive", distribution, range_correlated=[3 * low, 3 * high])
    r = randomizer(tmp_path, {"observations": entry, "frequency": 10}, num_envs=100, width=4)
    zeros = torch.zeros(100, 4)
    seen = torch.stack([r.observe(zeros) for _ in range(100)])
    assert seen.mean(0).std() == pytest.approx(3 * std, rel=0.15)  # stays over the steps
    assert (seen - seen.mean(0)).std() == pytest.approx(std, rel=0.05)
    lasting = r.noise["observations"].correlated.clone()
    r.since += 10
    r.reset(torch.arange(100) < 50)
    new = r.noise["observations"].correlated
    assert (new[:50] != lasting[:50]).all()
    assert (new[50:] == lasting[50:]).all()


def test_an_episodes_first_observation_has_the_noise_of_its_environment(tmp_path):
    entry = variation(1.0, 1.0, range_correlated=[0.5, 1.5])
    r = randomizer(tmp_path, {"observations": entry}, num_envs=9, width=4)
    seen, begun = torch.ones(9, 4), torch.arange(9) % 3 == 1
    first = r.observe_first(seen, begun)
    assert torch.equal(first[begun], r.noise["observations"].correlated[begun])
    assert first[begun].unique().numel() == 12
    assert (seen == 1).all()  # what it was made of stays


def test_scaling_noise_leaves_zero_alone_and_follows_its_schedule(tmp_path):
    entry = variation(0.5, 1.5, schedule="linear", schedule_steps=10, range_correlated=[0.9, 1.1])
    r = randomizer(tmp_path, {"actions": entry})
    assert (r.noisy_actions(torch.zeros(8, 2)) == 0).all()
    assert (r.noisy_actions(torch.ones(8, 2)) == 1).all()  # nothing yet at step 0
    r.step.fill_(10)
    noisy = r.noisy_actions(torch.ones(8, 2))
    assert (noisy != 1).all()
    assert ((noisy >= 0.45) & (noisy <= 1.65)).all()


def test_actions_and_observations_arrive_late(tmp_path):
    torch.manual_seed(5)
    r = randomizer(tmp_path, {"latency": {"actions": [1, 3], "observations": [0, 2]}}, num_envs=200)
    delay = r.delay["actions"].steps
    assert sorted(delay.unique().tolist()) == [1, 2, 3]
    arrived = [r.disturb(torch.full((200, 2), float(k))) for k in range(1, 8)]
    for k, values in enumerate(arrived, start=1):
        assert (values[:, 0] == (k - delay).clamp(min=0)).all()  # before the first, no action
    delay = r.delay["observations"].steps
    assert sorted(delay.unique().tolist()) == [0, 1, 2]
    everywhere, zeros = torch.ones(200, dtype=torch.bool), torch.zeros(200, 3)
    assert (r.observe_first(zeros + 10, everywhere) == 10).all()  # no past before a start
    for k in range(11, 15):
        seen = r.observe(torch.full((200, 3), float(k)))
        assert (seen[:, 0] == (k - delay).clamp(min=10)).all()
    one = torch.arange(200) == 7
    assert (r.observe_first(zeros + 50, one)[7] == 50).all()
    later = r.observe(zeros + 60)[:, 0]
    assert later[7] == (60 if delay[7] == 0 else 50)
    assert later[8] == (60, 14, 13)[int(delay[8])]


@pytest.mark.parametrize("engine", ENGINES)
def test_pushes_come_at_their_intervals_with_their_strength(tmp_path, engine):
    torch.manual_seed(6)
    pushes = {"bot": {"interval_s": [0.1, 0.2], "lin_vel": [-0.5, 0.5], "ang_vel": [0.1, 0.3]}}
    r = randomizer(tmp_path, {"pushes": pushes}, engine, num_envs=300)
    times = [[] for _ in range(4)]
    jumps = []
    for step in range(480):  # 2 s
        before = r.sim.qvel.clone()
        r.disturb(torch.zeros(300, 2))
        jump = r.sim.qvel - before
        jumps.append(jump[jump.abs().sum(1) > 0])
        for env in range(4):
            if jump[env].any():
                times[env].append(step * r.sim.dt)
    for env in range(4):
        waits = [b - a for a, b in zip(times[env], times[env][1:], strict=False)]
        assert len(times[env]) > 8
        assert min(waits) > 0.1 - 1e-6
        assert max(waits) < 0.2 + 2 * r.sim.dt
    jumps = torch.cat(jumps)
    assert (jumps[:, 2] == 0).all()
    torch.testing.assert_close(jumps[:, :2].std(0), torch.full((2,), 1 / math.sqrt(12)),
                               atol=0.02, rtol=0)  # fmt: skip
    assert abs(jumps[:, 3:].mean() - 0.2) < 0.01


# in a task ----------------------------------------------------------------------------------------


def test_the_files_that_come_with_tasks_are_in_order():
    for name in ("Ant", "Cartpole", "Humanoid", "HumanoidAMP", "HumanoidWalk"):
        task = tasks.make(name, num_envs=2, device="cpu", randomize=True)
        task.reset()
        task.step(torch.zeros(2, task.num_actions))
        assert len(task.randomizer.table()) > 4


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_continues_exactly(engine):
    torch.manual_seed(7)
    params = tasks.settings("Cartpole")["randomization_params"]
    params |= {"latency": {"actions": [0, 2]}, "frequency": 2}
    made = [
        tasks.make("Cartpole", 16, "cpu", engine, randomize=True, randomization_params=params,
                   episode_length=7)
        for _ in range(2)
    ]  # fmt: skip
    first, second = made
    first.reset()
    for _ in range(10):
        first.step(torch.rand(16, 1))
    second.load_state_dict(first.state_dict())
    ends = []
    for task in made:
        torch.manual_seed(8)
        for _ in range(15):
            obs, reward, *_ = task.step(torch.rand(16, 1))
        ends.append((obs["obs"].clone(), reward.clone(), task.sim.model_field("dof_damping")))
    for a, b in zip(*ends, strict=True):
        assert torch.equal(a, b)


def test_tendons_are_those_of_the_actor_alone(tmp_path):
    (tmp_path / "bot.xml").write_text(ROBOT)
    scene = Scene(timestep=1 / 240)
    for name in ("bot", "bot2"):
        scene.add_actor(name, tmp_path / "bot.xml")
    sim = Sim(scene, 3, "cpu")
    RandomModel(sim, of(TENDON, "stiffness", variation(2, 2)))
    assert sim.model_field("tendon_stiffness").tolist() == [[20, 10]] * 3


@pytest.mark.parametrize("engine", ENGINES)
def test_a_continued_run_uses_the_current_randomisation(engine):
    def made(low=None, high=None):
        mass = {"range": [low, high], "operation": "scaling", "distribution": "uniform",
                "setup_only": True}  # fmt: skip
        params = {"actor_params": {"cartpole": {"rigid_body_properties": {"mass": mass}}}}
        off = {"randomize": False}
        on = {"randomize": True, "randomization_params": params}
        return tasks.make("Cartpole", 4, "cpu", engine, **(on if low else off))

    def masses(task):
        scale = task.sim.model_field("body_mass") / torch.tensor(task.sim.model.body_mass)
        return scale[:, 1:]

    heavy, light, original = made(2.0, 3.0), made(0.5, 0.9), made()
    heavy.reset()
    heavy.step(torch.ones(4, 1))
    for task, low, high in ((light, 0.5, 0.9), (original, 1.0, 1.0)):
        task.load_state_dict(heavy.state_dict())
        assert torch.equal(task.sim.qpos, heavy.sim.qpos)
        for _ in range(2):
            assert (low - 1e-6 <= masses(task)).all()
            assert (masses(task) <= high + 1e-6).all()
            task.reset()
    same = made(2.0, 3.0)
    same.load_state_dict(heavy.state_dict())
    assert torch.equal(masses(same), masses(heavy))
    heavy.load_state_dict(original.state_dict())
    assert (masses(heavy) >= 2).all()


def test_a_continued_run_uses_the_current_robot_file(tmp_path):
    """Neither the task's constants nor randomised fields are those of the old file."""
    xml = Path(tasks.find("Cartpole").Config().asset).read_text()
    files = [tmp_path / "old.xml", tmp_path / "new.xml"]
    files[0].write_text(xml)
    files[1].write_text(re.sub('mass="[0-9.]+"', 'mass="7"', xml))

    class Weighed(tasks.find("Cartpole")):
        def init_buffers(self):
            super().init_buffers()
            self.weight = torch.tensor(self.sim.model.body_mass)

    two = {**variation(2, 2), "setup_only": True}
    mass = {"actor_params": {"cartpole": {BODY: {"mass": two}}}}
    old, new = (
        Weighed(Weighed.Config(2, asset=str(f), randomize=True, randomization_params=mass), "cpu")
        for f in files
    )
    old.reset()
    new.load_state_dict(old.state_dict())
    heavy = torch.tensor(new.sim.model.body_mass)
    assert (heavy == 7).sum() > 0
    assert torch.equal(new.weight, heavy)
    torch.testing.assert_close(new.sim.model_field("body_mass")[1], 2 * heavy.float())
    data = mujoco.MjData(model := new.sim.model_of(1))
    derived = model.dof_invweight0.copy()
    mujoco.mj_setConst(model, data)
    np.testing.assert_allclose(derived, model.dof_invweight0, rtol=1e-4)
    assert "the robot's" in new.report()
    assert "body_mass" in new.report()
    assert old.report() == ""


def test_without_randomisation_nothing_changes():
    rollouts = []
    for params in ({}, {"latency": {"actions": [0, 0]}}):
        torch.manual_seed(9)
        task = tasks.make("Cartpole", 8, "cpu", randomize=bool(params),
                          randomization_params=params or {"frequency": 1})  # fmt: skip
        task.reset()
        rollouts.append(torch.stack([task.step(torch.ones(8, 1))[0]["obs"] for _ in range(20)]))
    assert torch.equal(*rollouts)


def test_discrete_actions_can_be_late():
    task = tasks.make("Cartpole", 4, "cpu", discrete_actions=3, randomize=True,
                      randomization_params={"latency": {"actions": [1, 1]}})  # fmt: skip
    task.reset()
    executed = []
    for choice in (2, 1, 0, 2):  # forces 1, 0, -1, 1
        task.step(torch.full((4,), choice))
        executed.append(task.sim.ctrl.clone())
    # Nothing was chosen before the first: it is not late. The others come a step later.
    for ctrl, expected in zip(executed, (1, 1, 0, -1), strict=True):
        assert (ctrl == expected).all()
    begins = torch.tensor([True, False, False, False])
    task.randomizer.reset(begins)  # an episode ends in environment 0
    task.step(torch.full((4,), 1))
    assert task.sim.ctrl[:, 0].tolist() == [0, 1, 1, 1]


# mistakes -----------------------------------------------------------------------------------------

GOOD = variation(0.5, 1.5)
MISTAKES = [
    ({"actor_param": {}}, "unknown key task.randomization_params.actor_param; did you mean"),
    ({"frequency": 0}, "frequency is 0; it must be a whole number of steps"),
    ({"sim_params": {"gravty": GOOD}}, "sim_params.gravty; did you mean 'gravity'?"),
    ({"sim_params": {"rest_offset": GOOD}}, "rest_offset cannot be randomised"),
    ({"actor_params": {"bto": {}}}, "no actor 'bto' in the simulation; did you mean 'bot'?"),
    ({"actor_params": {"bot": {"rigid_body_propertis": {}}}}, "did you mean 'rigid_body_prop"),
    ({"actor_params": {"bot": {"color": 3}}}, "color is 3; it must be true or false"),
    ({"actor_params": [1]}, "actor_params is [1]; it must be a mapping"),
    (of(BODY, "mas", GOOD), "unknown key task.randomization_params.actor_params.bot"
     ".rigid_body_properties.mas; did you mean 'mass'?"),
    (of(BODY, "invMass", GOOD), "invMass cannot be randomised: randomise mass instead"),
    (of(SHAPE, "thickness", GOOD), "thickness cannot be randomised"),
    (of(DOF, "velocity", GOOD), "have a velocity limit"),
    (of(BODY, "mass", {**GOOD, "bodies": ["amr"]}), "no body 'amr' in actor 'bot'; did you mean"),
    (of(DOF, "damping", {**GOOD, "joints": ["hing"]}), "no joint 'hing'"),
    (of(BODY, "mass", 3), "mass is 3; it must be a mapping"),
    (of(BODY, "mass", {"range": [1, 2]}), "mass.operation is missing"),
    (of(BODY, "mass", {**GOOD, "rnage": 1}), "mass.rnage; did you mean 'range'?"),
    (of(BODY, "mass", {**GOOD, "range": [1]}), "mass.range is [1.0]; it must be two numbers"),
    (of(BODY, "mass", {**GOOD, "range": ["a", 2]}), "range[0] is 'a'; it must be a number"),
    (of(BODY, "mass", variation(2, 1)), "the lower end must come first"),
    (of(BODY, "mass", variation(0, 1, "scaling", "loguniform")), "both must be above 0"),
    (of(BODY, "mass", variation(0, -1, "scaling", "gaussian")), "cannot be negative"),
    (of(BODY, "mass", variation(0, 1, "times")), "it must be 'additive' or 'scaling'"),
    (of(BODY, "mass", variation(0, 1, "scaling", "normal")), "distribution is 'normal'"),
    (of(BODY, "mass", variation(0, 1, schedule="slow")), "schedule is 'slow'"),
    (of(BODY, "mass", variation(0, 1, schedule="linear")), "needs schedule_steps"),
    (of(BODY, "mass", variation(0, 1, schedule_steps=5)), "say which schedule"),
    ({"observations": {**GOOD, "setup_only": True}}, "does not exist for noise"),
    ({"observations": {**GOOD, "bodies": ["arm"]}}, "unknown key task.randomization_params.obs"),
    ({"sim_params": {"gravity": {**GOOD, "bodies": ["arm"]}}}, "gravity.bodies"),
    ({"actor_params": {"bot": {"scale": {**GOOD, "joints": ["hinge"]}}}}, "scale.joints"),
    ({"actor_params": {"bot": {BODY: {"com": GOOD, "com_z": GOOD}}}}, "com is all three axes"),
    ({"latency": {"actions": [2, 1]}}, "latency.actions is [2, 1]"),
    ({"latency": {"action": [0, 1]}}, "latency.action; did you mean 'actions'?"),
    ({"latency": {"actions": [0, 10**9]}}, "as in [0, 2], at most 1000"),
    ({"frequency": 10**30}, "it must be a whole number of steps"),
    ({"observations": {**GOOD, "schedule": "linear", "schedule_steps": 10**30}}, "below 2^63"),
    ({"observations": {**GOOD, "range": []}}, "range is []; it must be two numbers"),
    ({"actor_params": {"bot": 3}}, "actor_params.bot is 3; it must be a mapping"),
    ({"actor_params": {3: {}}}, "no actor 3 in the simulation"),
    (of(BODY, "mass", variation(-2, -1)), "it must stay from 1e-06 to"),
    (of(BODY, "mass", variation(0.5, 1e38)), "of at most 1e+09"),
    (of(BODY, "mass", variation(float("nan"), 1)), "range[0] is nan"),
    (of(DOF, "damping", variation(-0.1, 1)), "it must stay from 0 to"),
    ({"actor_params": {"bot": {"scale": variation(-1, 1)}}}, "it must stay from 0.01 to 100"),
    ({"pushes": {"bto": {}}}, "no actor 'bto'"),
    ({"pushes": {"bot": {"interval_s": [0, 1]}}}, "interval_s is [0.0, 1.0]"),
]  # fmt: skip


def test_every_mistake_is_one_sentence(tmp_path):
    sim = make_sim(tmp_path, "mujoco", num_envs=1)
    for params, words in MISTAKES:
        with pytest.raises(PhalanxError) as error:
            Randomizer(sim, params, torch.zeros(1, 2), torch.zeros(1, 3))
        assert words in str(error.value), params
        assert "\n" not in str(error.value)


def test_joint_limits_stay_in_order(tmp_path):
    swapped = {"lower": variation(0, 2, "additive"), "upper": variation(-2, 0, "additive")}
    sim = make_sim(tmp_path, "mujoco", num_envs=1)
    params = {"actor_params": {"bot": {DOF: swapped}}}
    with pytest.raises(PhalanxError, match=r"lower limit of joint 'bot/hinge' at 1.98.* above its"):
        Randomizer(sim, params, torch.zeros(1, 2), torch.zeros(1, 3))
    # The hinge's range of 2.5 degrees is three standard deviations, which some draws exceed.
    tails = of(DOF, "lower", variation(0, 0.0145, "additive", "gaussian"))
    tails["actor_params"]["bot"][DOF]["lower"]["joints"] = ["hinge"]
    sim = make_sim(tmp_path, "mujoco", num_envs=4000)
    made = Randomizer(sim, tails, torch.zeros(4000, 2), torch.zeros(4000, 3))
    low, high = sim.model_field("jnt_range").unbind(-1)
    narrowest = (high - low)[:, sim.model.jnt_limited > 0].min()  # which every engine takes
    assert float(narrowest) == pytest.approx(1e-3, rel=0.01)
    before = low.clone()
    made.load_state_dict(made.state_dict(), same=True)
    assert torch.equal(low, before)


def test_meshes_that_collide_keep_their_size_and_fixed_bases_stay(tmp_path):
    (tmp_path / "a.obj").write_text(
        "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 1 4 3"
    )
    xml = """<mujoco><asset><mesh name="a" file="a.obj"/></asset><worldbody><body>
      <joint type="slide"/><geom type="mesh" mesh="a"/></body></worldbody></mujoco>"""
    sim = make_sim(tmp_path, "mujoco", xml=xml, num_envs=1)
    with pytest.raises(PhalanxError, match="collides as a mesh"):
        RandomModel(sim, {"actor_params": {"bot": {"scale": GOOD}}})
    with pytest.raises(PhalanxError, match="is fixed and cannot be pushed"):
        Randomizer(sim, {"pushes": {"bot": {"interval_s": [1, 2]}}}, *(torch.zeros(1, 1),) * 2)


@pytest.mark.parametrize("key", ["actor_parms", "observations", "randomization_params"])
def test_a_random_model_refuses_sections_that_it_does_not_read(tmp_path, key):
    with pytest.raises(PhalanxError, match=rf"unknown key task\.randomization_params\.{key}; "):
        RandomModel(make_sim(tmp_path, "mujoco"), {key: {}})
