"""`Scene` and `Sim` as a task sees them: names, views, divergence, and sentences for bad input."""

import mujoco
import pytest
import torch

from phalanx.errors import PhalanxError
from phalanx.sim import Scene, Sim, resolve_device
from phalanx.sim.mujoco_warnings import count_warnings, warnings_report

BALL = """<mujoco><worldbody><body name="ball" pos="0 0 {z}"><freejoint/>
  <geom type="{shape}" size="0.1 0.1 0.1" mass="{mass}"/></body></worldbody></mujoco>"""
PENDULUM = """<mujoco><worldbody><body name="post"><geom size="0.02" mass="1"/>
  <body name="rod"><joint name="hinge" axis="0 1 0"/>
    <geom type="capsule" size="0.02" fromto="0 0 0 0 0 -0.5" mass="1"/>
    <body name="tip" pos="0 0 -0.5"><joint type="ball"/><joint name="slide" type="slide"/>
      <geom size="0.05" mass="0.2"/></body></body></body></worldbody></mujoco>"""


def add(scene, tmp_path, name, text, **kwargs):
    path = tmp_path / f"{name}.xml"
    path.write_text(text)
    scene.add_actor(name, path, **kwargs)


def ball_scene(tmp_path):
    scene = Scene(timestep=1 / 120)
    scene.add_ground()
    add(scene, tmp_path, "ball", BALL.format(z=1.0, shape="sphere", mass=2.0))
    return scene


@pytest.fixture
def sim(tmp_path):
    return Sim(ball_scene(tmp_path), 3, "cpu", threads=1)


def one_sentence(error):
    text = str(error.value)
    return text if "\n" not in text and not text.endswith(".") and len(text) < 300 else None


@pytest.mark.parametrize("engine", ["mujoco", "warp"])
def test_a_step_in_parts_is_a_step_and_derive_keeps_its_forces(tmp_path, engine):
    def resting():
        scene = ball_scene(tmp_path)
        scene.add_contact_force_sensors("ball", ["ball"])
        sim = Sim(scene, 2, "cpu", substeps=2, threads=1, engine=engine)
        sim.qpos[:, 2] = 0.099
        return sim, sim.sensordata, sim.xpos, sim.cvel

    whole, force, xpos, cvel = resting()
    whole.step()
    parts, *fields = resting()
    parts.advance(1, until="state")
    parts.advance(1, until="forces")
    parts.derive()
    for a, b in zip((force, xpos, cvel, whole.qvel), (*fields, parts.qvel), strict=True):
        assert torch.equal(a, b)
    assert force[:, 2].abs().min() > 0
    before = force.clone()
    whole.qpos[1, 2] = 5.0
    whole.derive(torch.tensor([False, True]))
    assert torch.equal(force, before)
    assert xpos[1, 1, 2] == 5.0


# -- actors --------------------------------------------------------------------------------------


def test_actor_with_an_unnamed_free_joint_has_a_free_base(sim):
    ball = sim.actor("ball")
    assert not ball.fixed_base
    assert ball.joint_names == []
    ball.root_pos[1] = torch.tensor([1.0, 2.0, 3.0])
    ball.root_lin_vel_w[1, 0] = 0.5
    assert sim.qpos[1, :3].tolist() == [1.0, 2.0, 3.0]
    assert sim.qvel[1, 0] == 0.5
    assert ball.root_quat[1].tolist() == [1.0, 0.0, 0.0, 0.0]


def test_views_of_two_actors_lie_beside_each_other(tmp_path):
    scene = Scene()
    add(scene, tmp_path, "ball", BALL.format(z=1.0, shape="sphere", mass=2.0))
    add(scene, tmp_path, "arm", PENDULUM, pos=(3, 0, 2))
    sim = Sim(scene, 2, "cpu", threads=1)
    arm = sim.actor("arm")
    assert arm.fixed_base
    assert arm.body_names == ["post", "rod", "tip"]
    assert [n for n in arm.joint_names if not n.startswith("joint")] == ["hinge", "slide"]
    assert arm.joint_pos.shape == (2, 1 + 4 + 1)  # hinge, ball joint's quaternion, slide
    assert arm.joint_vel.shape == (2, 1 + 3 + 1)
    arm.joint_pos[:, 0] = 0.25
    assert (sim.qpos[:, 7] == 0.25).all()
    sim.forward()
    torch.testing.assert_close(arm.root_pos, torch.tensor([[3.0, 0, 2]]).expand(2, 3))
    # the tip hangs 0.5 m below the hinge, turned by 0.25 rad about y
    tip = torch.tensor([3 - 0.5 * 0.247404, 0, 2 - 0.5 * 0.968912]).expand(2, 3)
    torch.testing.assert_close(arm.body_pos[:, 2], tip)
    with pytest.raises(PhalanxError, match="fixed base"):
        _ = arm.root_lin_vel_w
    with pytest.raises(PhalanxError, match="add_contact_force_sensors"):
        _ = arm.contact_force


def test_another_gpu_becomes_the_current_one(tmp_path, monkeypatch):
    """CUDA graphs would otherwise be captured on the first, where nothing happens."""
    current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)

    def engine(scene, num_envs):
        raise RuntimeError(f"current: {current}")

    with pytest.raises(RuntimeError, match="index=1"):
        Sim(ball_scene(tmp_path), 1, "cuda:1", engine=engine)


def test_joint_limits_are_infinite_where_there_are_none(tmp_path):
    scene = Scene()
    text = PENDULUM.replace('name="hinge"', 'name="hinge" limited="true" range="-90 45"')
    add(scene, tmp_path, "arm", text)
    limits = Sim(scene, 1, "cpu", threads=1).actor("arm").joint_limits
    torch.testing.assert_close(limits[0], torch.tensor([-torch.pi / 2, torch.pi / 4]))
    assert limits[1:].tolist() == [[-torch.inf, torch.inf]] * 2


def test_contact_forces_of_a_stack_add_up_whichever_body_comes_first(tmp_path):
    scene = Scene(timestep=1 / 120)
    scene.add_ground()
    # Named so that the upper one comes first in the model.
    for name, z, mass in (("a_top", 0.3, 2.0), ("b_bottom", 0.1, 1.0)):
        add(scene, tmp_path, name, BALL.format(z=z, shape="box", mass=mass))
        scene.add_contact_force_sensors(name)
    sim = Sim(scene, 2, "cpu", substeps=2, threads=1)
    assert sim.sensordata.isfinite().all()
    sim.sensordata.fill_(torch.inf)
    for _ in range(180):
        sim.step()
    # Each is carried: 2 kg x 9.81 = 19.62 N on the upper one; 3 kg x 9.81 - 19.62 = 9.81 N net on
    # the lower one, upward.
    for name, force in (("a_top", 19.62), ("b_bottom", 9.81)):
        expected = torch.tensor([0.0, 0.0, force]).expand(2, 1, 3)
        torch.testing.assert_close(sim.actor(name).contact_force, expected, rtol=0, atol=0.02)


def test_time_advances_by_dt_and_two_actors_of_one_file_do_not_mix(tmp_path):
    sim = Sim(ball_scene(tmp_path), 2, "cpu", substeps=3, threads=1)
    assert sim.dt == pytest.approx(3 / 120)
    sim.step()
    assert sim.time.tolist() == pytest.approx([3 / 120] * 2)


# -- divergence ----------------------------------------------------------------------------------


def test_diverged_environment_is_flagged_named_and_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings into MUJOCO_LOG.TXT
    sim, untouched = (Sim(ball_scene(tmp_path), 3, "cpu", threads=1) for _ in range(2))
    for each in (sim, untouched):
        assert each.xpos.isfinite().all()
    for t in range(30):
        if t == 10:
            sim.qvel[1, 0] = torch.nan
        if t == 12:
            sim.reset(sim.diverged)
            sim.forward(sim.diverged)
        sim.step()
        untouched.step()
        assert sim.diverged.tolist() == [False, t in (10, 11), False]
    for name in ("qpos", "qvel", "xpos"):
        others = torch.tensor([0, 2])
        assert torch.equal(getattr(sim, name)[others], getattr(untouched, name)[others])
        assert getattr(sim, name).isfinite().all()
    assert "first bad quantity: 2 by qpos" in sim.divergence_report()
    assert untouched.divergence_report() == ""


def test_mujocos_own_warnings_are_counted_not_printed(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    sim = Sim(ball_scene(tmp_path), 8, "cpu", threads=2)
    for _ in range(20):
        sim.qvel[:] = 1e12
        sim.step()
        sim.reset()
    assert capfd.readouterr().err == ""
    assert not (tmp_path / "MUJOCO_LOG.TXT").exists()
    assert "environments diverged 160 times" in sim.divergence_report()
    before = count_warnings()
    for k in range(3):
        mujoco.get_mju_user_warning()(f"Too few pancakes at DOF {k}. Time = {k}.")
    assert warnings_report(before) == "MuJoCo warned 3 times: Too few pancakes"
    assert warnings_report(count_warnings()) == ""


@pytest.mark.parametrize("value", [1.1e4, 2e10, 3e38])
def test_absurd_values_count_as_diverged(sim, value, recwarn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings into MUJOCO_LOG.TXT
    sim.qvel[0, 3] = value
    sim.qvel[1, 3] = 9e3
    for _ in range(3):
        sim.step()
        assert sim.diverged.tolist() == [True, False, False]
    assert [w for w in recwarn if issubclass(w.category, RuntimeWarning)] == []


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [{"num_envs": 0}, {"num_envs": -1}, {"substeps": 0}])
def test_a_simulation_of_nothing_is_refused(tmp_path, sizes):
    with pytest.raises(PhalanxError, match="must be 1 or more") as error:
        Sim(ball_scene(tmp_path), **({"num_envs": 1} | sizes), device="cpu")
    assert one_sentence(error)


def test_unknown_field_names_the_nearest(sim):
    with pytest.raises(AttributeError, match=r"no field 'qposs'.*did you mean 'qpos'") as error:
        _ = sim.qposs
    assert one_sentence(error)
    assert not hasattr(sim, "nonsense")
    with pytest.raises(PhalanxError, match=r"'body_mas'.*did you mean 'body_mass'") as error:
        sim.model_field("body_mas")
    assert one_sentence(error)


def test_a_field_cannot_be_rebound(sim):
    with pytest.raises(AttributeError, match="write into it"):
        sim.qpos = torch.zeros(3, 7)  # never read so far
    held = sim.qpos
    with pytest.raises(AttributeError, match="write into it"):
        sim.qpos = torch.zeros(3, 7)
    with pytest.raises(AttributeError, match="write into it"):
        sim.diverged = torch.zeros(3, dtype=torch.bool)
    with pytest.raises(AttributeError, match="write into it"):
        sim.ctrl = [0.0]
    sim.qpos += 1  # writes into the buffer and binds the same object again
    assert sim.qpos is held
    assert sim.qpos[0, 2] == 2.0


def test_devices_of_a_cpu_are_one():
    assert resolve_device("cpu") == resolve_device("cpu:0") == torch.device("cpu")


@pytest.mark.parametrize("device", ["tpu", "", "cuda:x", "mps", "None", "cuda:256", "cuda:-1"])
def test_devices_that_do_not_exist_are_refused(device):
    with pytest.raises(PhalanxError, match="device") as error:
        resolve_device(device)
    assert one_sentence(error)


def test_engines_that_do_not_exist_or_do_not_fit_are_refused(tmp_path):
    scene = ball_scene(tmp_path)
    with pytest.raises(PhalanxError, match=r"unknown engine 'mujco'.*did you mean 'mujoco'"):
        Sim(scene, 1, "cpu", engine="mujco")
    scene = Scene(integrator="implicit")
    scene.spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    scene.spec.option.solver = mujoco.mjtSolver.mjSOL_PGS
    add(scene, tmp_path, "ball", BALL.format(z=1.0, shape="sphere", mass=1))
    with pytest.raises(PhalanxError, match="MuJoCo Warp cannot simulate") as error:
        Sim(scene, 1, "cpu", engine="warp")
    assert one_sentence(error)


def test_unknown_actor_joint_and_body_name_the_nearest(tmp_path, sim):
    scene = Scene()
    add(scene, tmp_path, "arm", PENDULUM)
    for call, message in [
        (lambda: sim.actor("bal"), "no actor 'bal'.*did you mean 'ball'"),
        (lambda: scene.add_motor("amr", "hinge", 1.0), "no actor 'amr'.*did you mean 'arm'"),
        (lambda: scene.add_motor("arm", "hinges", 1.0), "no joint 'hinges'.*did you mean 'hinge'"),
        (lambda: scene.add_contact_force_sensors("arm", ["rodd"]), "did you mean 'rod'"),
        (lambda: scene.add_actor("arm", "x.xml"), "taken"),
        (lambda: Scene(timestep=0), "timestep is 0"),
        (lambda: Scene(timestep=float("nan")), "timestep is nan"),
        (lambda: Scene(integrator="eular"), "did you mean 'euler'"),
        (lambda: Scene(gravity=(0, -9.81)), "gravity"),
        (lambda: scene.add_actor("b", tmp_path / "arm.xml", pos=(0, 0)), "pos"),
        (lambda: scene.add_actor("b", tmp_path / "arm.xml", quat=(0, 0, 0)), "quat"),
    ]:
        with pytest.raises(PhalanxError, match=message) as error:
            call()
        assert one_sentence(error), str(error.value)


@pytest.mark.parametrize("engine", ["mujoco", "fused"])
@pytest.mark.parametrize("name", ["body_ipos", "body_iquat"])
def test_another_centre_of_mass_of_a_simple_body_names_the_cure(tmp_path, engine, name):
    scene = ball_scene(tmp_path)
    sim = Sim(scene, 2, "cpu", threads=1, engine=engine)
    mass, field = sim.model_field("body_mass"), sim.model_field(name)
    mass[:] *= 2
    field[:, 1] *= -1  # the same rotation, or zero
    sim.set_const()
    before = sim.model_field("body_invweight0").clone()
    mass[:] *= 2
    field[1, 1, 1] += 0.1
    with pytest.raises(PhalanxError, match=f"{name} of body 'ball/.* in environment 1") as error:
        sim.set_const()
    assert one_sentence(error)
    assert torch.equal(sim.model_field("body_invweight0"), before)
    sim.set_const(torch.tensor([True, False]))
    assert "scene.spec.body('ball/ball').simple = False" in str(error.value)
    scene.spec.body("ball/ball").simple = False
    sim = Sim(scene, 2, "cpu", threads=1, engine=engine)
    sim.model_field(name)[1, 1, 1] += 0.1
    sim.set_const()


def test_a_state_of_another_size_is_refused(tmp_path, sim):
    other = Sim(ball_scene(tmp_path), 4, "cpu", threads=1)
    with pytest.raises(PhalanxError, match=r"num_envs 3.*this one has 4") as error:
        other.load_state_dict(sim.state_dict())
    assert one_sentence(error)
    scene = ball_scene(tmp_path)
    add(scene, tmp_path, "second", BALL.format(z=2.0, shape="sphere", mass=2.0))
    other = Sim(scene, 3, "cpu", threads=1)
    with pytest.raises(PhalanxError, match="another scene: it has nq 7, this one has 14") as error:
        other.load_state_dict(sim.state_dict())
    assert one_sentence(error)
