"""Both engines against MuJoCo C, on one small robot: a box that falls on the ground with an arm.

Warp runs on the CPU here, with few environments; its kernels are compiled once for this file's
scene, which takes about a minute with an empty cache.
"""

import copy
import inspect

import mujoco
import mujoco_warp
import numpy as np
import pytest
import torch

from phalanx.errors import PhalanxError
from phalanx.sim import Scene, Sim
from phalanx.sim.engines import warp as warp_engine
from phalanx.sim.engines.plain import PlainEngine

ENGINES = ("mujoco", "warp", PlainEngine)
N = 4
SUBSTEPS = 2
VELOCITY = int(mujoco.mjtStage.mjSTAGE_VEL)

# A base of 1.5 kg and an arm of 0.5 kg; the motor is strong enough to drive the arm to its limits.
ROBOT = """<mujoco><compiler angle="radian"/><worldbody>
  <body name="base" pos="0 0 0.25"><freejoint/><site name="imu"/>
    <geom type="box" size="0.15 0.15 0.05" mass="1.5"/>
    <body name="arm" pos="0.05 0 0.05">
      <joint name="hinge" type="hinge" axis="0 1 0" limited="true" range="-1 1" damping="0.05"/>
      <geom type="capsule" size="0.02" fromto="0 0 0.05 0 0 0.25" mass="0.5"/>
    </body></body></worldbody>
  <tendon><fixed name="cable"><joint joint="hinge" coef="2"/></fixed></tendon>
  <actuator><motor name="motor" joint="hinge" gear="0.3" ctrlrange="-1 1"/></actuator>
  <sensor><jointpos joint="hinge"/><jointvel joint="hinge"/><actuatorpos actuator="motor"/>
    <framelinvel objtype="body" objname="arm"/><accelerometer site="imu"/></sensor></mujoco>"""


def make_scene(tmp_path, text=ROBOT, timestep=1 / 120):
    path = tmp_path / "robot.xml"
    path.write_text(text)
    scene = Scene(timestep=timestep)
    scene.add_ground()
    scene.add_actor("robot", path)
    scene.add_contact_force_sensors("robot", ["base"])
    return scene


def make_sim(tmp_path, engine, **kwargs):
    kwargs = {"num_envs": N, "substeps": SUBSTEPS, "device": "cpu", "threads": 1} | kwargs
    return Sim(make_scene(tmp_path), engine=engine, **kwargs)


@pytest.fixture(scope="module", params=ENGINES)
def sim(request, tmp_path_factory):
    """One simulation per engine for the tests that leave its model alone; they reset it first."""
    sim = make_sim(tmp_path_factory.mktemp("robot"), request.param)
    # Registered here, so that a test which poisons them does not depend on the others' order.
    for name in ("sensordata", "xpos", "cvel", "qacc_warmstart"):
        getattr(sim, name)
    return sim


def controls(generator, n=N):
    """(n, 1), mostly at full force in one direction for a while."""
    return (2 * torch.rand(n, 1, generator=generator) - 1).float()


def roll(sim, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        sim.ctrl.copy_(controls(generator))
        sim.step()


def reference(sim, env, forward=True):
    """MuJoCo's own data at the state of environment `env`."""
    data = mujoco.MjData(sim.model)
    data.qpos[:], data.qvel[:] = sim.qpos[env].numpy(), sim.qvel[env].numpy()
    data.ctrl[:] = sim.ctrl[env].numpy()
    if forward:
        mujoco.mj_forward(sim.model, data)
    return data


def integration_state(model, datas):
    spec = mujoco.mjtState.mjSTATE_INTEGRATION
    rows = np.empty((len(datas), mujoco.mj_stateSize(model, spec)))
    for row, data in zip(rows, datas, strict=True):
        mujoco.mj_getState(model, data, row, spec)
    return rows


# -- the CPU engine is MuJoCo, bit for bit -------------------------------------------------------


@pytest.mark.parametrize("derived", [False, True], ids=["state only", "derived fields"])
@pytest.mark.parametrize("threads", [1, 2])
def test_cpu_engine_equals_a_loop_over_mjdata_bit_for_bit(tmp_path, derived, threads):
    sim = make_sim(tmp_path, "mujoco", threads=threads)
    datas = [mujoco.MjData(sim.model) for _ in range(N)]
    generator = torch.Generator().manual_seed(1)
    touched = limited = False
    for t in range(200):
        u = controls(generator) if t % 5 == 0 else sim.ctrl.clone()
        push = torch.zeros(N, sim.model.nbody, 6)
        if t % 40 == 0:
            push[:, 1] = 20 * torch.randn(N, 6, generator=generator)
        sim.ctrl.copy_(u)
        sim.xfrc_applied.copy_(push)
        if derived and t == 50:
            assert sim.xpos.isfinite().all()  # registers it
            assert sim.sensordata.isfinite().all()
        if t == 100:  # a write in some environments, of float32 values
            sim.qpos[torch.tensor([1, 3]), 7] = 0.3
            sim.qvel[1:2, :3] += 0.25
            for env in (1, 3):
                datas[env].qpos[7] = np.float32(0.3)
            datas[1].qvel[:3] = datas[1].qvel[:3].astype(np.float32) + np.float32(0.25)
            if derived:
                sim.forward(torch.tensor([False, True, False, True]))
        sim.step()
        for env, data in enumerate(datas):
            data.ctrl[:], data.xfrc_applied[:] = u[env].numpy(), push[env].numpy()
            for _ in range(SUBSTEPS):
                mujoco.mj_step(sim.model, data)
            touched |= data.ncon > 0
            limited |= data.nl > 0
        state = sim.state_dict()["state"].numpy()
        assert np.array_equal(state, integration_state(sim.model, datas)), f"step {t}"
    assert touched
    assert limited
    assert np.abs(state - state.astype(np.float32)).max() > 0  # float32 would not have done


@pytest.mark.parametrize("how", ["indexing", "inference mode", "data", "numpy"])
def test_every_way_of_writing_a_tensor_reaches_the_cpu_engine(tmp_path, how):
    sim = make_sim(tmp_path, "mujoco")
    if how == "indexing":
        sim.qvel[:, 2:3][1] = 0.5
    elif how == "inference mode":
        with torch.inference_mode():
            sim.qvel[1, 2] = 0.5
    elif how == "data":
        sim.qvel.data[1, 2] = 0.5
    else:
        sim.qvel.numpy()[1, 2] = 0.5
    sim.step()
    # free fall: v = v0 - g t with g = 9.81 and t = 2 / 120
    assert sim.qvel[1, 2].item() == pytest.approx(0.5 - 9.81 / 60, abs=1e-3)
    assert sim.qvel[0, 2].item() == pytest.approx(-9.81 / 60, abs=1e-3)


# -- Warp is MuJoCo in float32 -------------------------------------------------------------------

# Measured over 100 steps (200 physics steps, impact and joint limits included) and 12 seeds, worst
# environment: qpos 1.2e-5 [m, rad], qvel 2.2e-4 [m/s, rad/s], sensors 6e-3 (contact forces up to
# 400 N); typically a tenth of that. The tolerances leave a factor of 4 or more.
QPOS_TOLERANCE = 5e-5
QVEL_TOLERANCE = 1e-3
FORCE_TOLERANCE = 0.05


def test_warp_follows_mujoco_c_through_impact_and_joint_limits(tmp_path):
    warp, cpu = (make_sim(tmp_path, e) for e in ("warp", "mujoco"))
    generator = torch.Generator().manual_seed(2)
    tilt = 0.05 * torch.randn(N, 4, generator=generator)
    worst = dict.fromkeys(("qpos", "qvel", "sensordata"), 0.0)
    limited = impact = 0.0
    for sim in (warp, cpu):
        sim.qpos[:, 3:7] += tilt
        sim.qpos[:, 3:7] /= sim.qpos[:, 3:7].norm(dim=1, keepdim=True)
    for t in range(100):
        u = controls(generator) if t % 10 == 0 else cpu.ctrl.clone()
        for sim in (warp, cpu):
            sim.ctrl.copy_(u)
            sim.step()
        for name in worst:
            error = (getattr(warp, name) - getattr(cpu, name)).abs().max().item()
            worst[name] = max(worst[name], error)
        limited = max(limited, cpu.actor("robot").joint_pos.abs().max().item())
        impact = max(impact, cpu.actor("robot").contact_force.abs().max().item())
    assert limited > 1.0
    assert impact > 50
    assert worst["qpos"] < QPOS_TOLERANCE
    assert worst["qvel"] < QVEL_TOLERANCE
    assert worst["sensordata"] < FORCE_TOLERANCE


# -- derived fields ------------------------------------------------------------------------------


def assert_current(sim, envs=range(N)):
    """Derived fields are those of MuJoCo at the present state; accelerations are not looked at."""
    robot = sim.actor("robot")
    tolerance = {"rtol": 1e-4, "atol": 1e-5}
    for env in envs:
        data = reference(sim, env)
        for name in ("xpos", "xquat", "xmat", "site_xpos", "cvel", "subtree_com"):
            expected = getattr(data, name)
            np.testing.assert_allclose(getattr(sim, name)[env], expected, err_msg=name, **tolerance)
        for name in ("actuator_length", "actuator_velocity", "ten_length", "qfrc_bias"):
            expected = getattr(data, name)
            np.testing.assert_allclose(getattr(sim, name)[env], expected, err_msg=name, **tolerance)
        np.testing.assert_allclose(sim.sensordata[env, :6], data.sensordata[:6], **tolerance)
        for k, body in enumerate(robot.body_ids):
            velocity = np.empty(6)
            mujoco.mj_objectVelocity(sim.model, data, mujoco.mjtObj.mjOBJ_XBODY, body, velocity, 0)
            np.testing.assert_allclose(robot.body_ang_vel_w[env, k], velocity[:3], **tolerance)
            np.testing.assert_allclose(robot.body_lin_vel_w[env, k], velocity[3:], **tolerance)
        # A free joint's velocity: linear in the world frame, angular in the body frame.
        assert torch.equal(robot.root_lin_vel_w[env], sim.qvel[env, :3])
        spin_w = np.empty(3)
        mujoco.mju_rotVecQuat(
            spin_w, robot.root_ang_vel_b[env].double().numpy(), data.xquat[robot.root_id]
        )
        np.testing.assert_allclose(spin_w, robot.body_ang_vel_w[env, 0], **tolerance)


def test_derived_fields_are_current_after_step_and_forward(sim):
    sim.reset()
    assert_current(sim)  # registers what is not yet
    sim.xpos[:, 1:].fill_(torch.inf)  # the world body's row is constant
    sim.cvel[:, 1:].fill_(torch.inf)
    sim.sensordata.fill_(torch.inf)
    roll(sim, 25)
    assert_current(sim)
    assert sim.sensordata.isfinite().all()
    mask = torch.tensor([True, False, True, False])
    sim.reset(mask)
    sim.qpos[mask, 2] = 0.7
    sim.qvel[mask, 3:6] = torch.tensor([1.0, -2.0, 3.0])
    sim.forward(mask)
    assert_current(sim)
    assert (sim.xpos[mask, 1, 2] == 0.7).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stale_field_is_from_before_the_last_integration(tmp_path, engine):
    sim = make_sim(tmp_path, engine, substeps=1)
    left = sim.stale("xpos")
    for _ in range(3):
        before = sim.qpos[:, :3].clone()
        sim.step()
    torch.testing.assert_close(left[:, 1], before, atol=1e-6, rtol=0)
    fresh = sim.xpos  # somebody needs it current: from now on it is
    torch.testing.assert_close(fresh[:, 1], sim.qpos[:, :3], atol=1e-6, rtol=0)
    sim.step()
    torch.testing.assert_close(left[:, 1], sim.qpos[:, :3], atol=1e-6, rtol=0)


def test_acceleration_sensors_read_zero_after_forward_there_and_only_there(sim):
    sim.reset()
    roll(sim, 60)  # at rest on the ground
    before = sim.sensordata.clone()
    accelerations = torch.from_numpy(
        np.repeat(sim.model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC, sim.model.sensor_dim)
    )
    assert accelerations.sum() == 6  # contact force and accelerometer
    assert (before[:, accelerations].abs().sum(1) > 1).all()
    for env in (2, 0):  # a second masked call does not bring the first one's values back
        mask = torch.arange(N) == env
        sim.reset(mask)
        sim.forward(mask)
    for env in (0, 2):
        assert (sim.sensordata[env, accelerations] == 0).all()
    for env in (1, 3):
        assert torch.equal(sim.sensordata[env, accelerations], before[env, accelerations])


def test_forces_are_those_of_the_last_step_after_a_masked_forward(sim):
    sim.reset()
    sim.actuator_force.fill_(torch.inf)
    sim.ctrl.copy_(torch.tensor([[0.1], [0.2], [0.3], [0.4]]))
    sim.step()
    sim.forward(torch.tensor([True, False, False, True]))
    assert torch.equal(sim.actuator_force, sim.ctrl)  # a motor's force, before its gear


def test_resting_body_is_carried_by_the_contact_force(sim):
    sim.reset()
    sim.qpos[:, 7] = 1.0  # the arm leans on its limit
    for _ in range(150):
        sim.step()
    force = sim.actor("robot").contact_force  # (N, 1, 3)
    assert sim.actor("robot").contact_body_names == ["base"]
    # 2 kg at rest: 2 x 9.81 = 19.62 N, upward
    torch.testing.assert_close(
        force, torch.tensor([0.0, 0.0, 19.62]).expand(N, 1, 3), rtol=0, atol=0.02
    )


# -- reset ---------------------------------------------------------------------------------------


def test_masked_reset_touches_only_masked_environments(sim):
    sim.reset()
    initial = {k: getattr(sim, k).clone() for k in ("qpos", "qvel", "time", "ctrl")}
    roll(sim, 30)
    for name in ("xfrc_applied", "qfrc_applied"):
        getattr(sim, name).fill_(1.0)
    sim.step()
    before = sim.state_dict()["state"]
    mask = torch.tensor([False, True, True, False])
    # Poison: what a reset must overwrite. float("nan") in a state that is stepped nowhere.
    for name in ("qpos", "qvel", "ctrl", "xfrc_applied", "qfrc_applied"):
        getattr(sim, name)[mask] = torch.nan
    sim.reset(mask)
    for name, value in initial.items():
        assert torch.equal(getattr(sim, name)[mask], value[mask]), name
    for name in ("xfrc_applied", "qfrc_applied"):
        assert (getattr(sim, name)[mask] == 0).all()
    after = sim.state_dict()["state"]
    fresh = make_initial_rows(sim)
    if sim.engine.name != "warp":
        assert torch.equal(after[~mask], before[~mask])
        assert torch.equal(after[mask], fresh["state"][:1].expand(2, -1))  # warm start included
    else:
        for name, value in after.items():
            assert torch.equal(value[~mask], before[name][~mask]), name
        assert (after["qacc_warmstart"][mask] == 0).all()
        assert (before["qacc_warmstart"][mask] != 0).any()


def make_initial_rows(sim):
    """What a simulation that was never stepped holds."""
    data = mujoco.MjData(sim.model)
    return {"state": torch.from_numpy(integration_state(sim.model, [data]))}


# -- model fields per environment ----------------------------------------------------------------


def varied(sim):
    """Another mass, friction, damping and gravity in environments 1 to 3 and 0 as it was.

    Friction stays above 0.2: below, a sliding box differs by 5e-4 m after 40 steps of Warp's
    float32 solver, whether the friction comes from the field or from the file.
    """
    sim.model_field("body_mass")[1, 1] = 6.0
    sim.model_field("body_inertia")[1, 1] *= 4.0
    sim.model_field("geom_friction")[2, :, 0] = 0.4
    sim.model_field("dof_damping")[3, 6] = 1.5
    sim.model_field("opt.gravity")[3] = torch.tensor([0.5, 0.0, -3.0])
    sim.set_const()


def varied_models(model):
    models = [copy.copy(model) for _ in range(N)]
    models[1].body_mass[1] = 6.0
    models[1].body_inertia[1] = (models[1].body_inertia[1].astype(np.float32) * 4).astype(float)
    models[2].geom_friction[:, 0] = np.float32(0.4)
    models[3].dof_damping[6] = 1.5
    models[3].opt.gravity[:] = [0.5, 0.0, -3.0]
    for model in models:
        mujoco.mj_setConst(model, mujoco.MjData(model))
    return models


@pytest.mark.parametrize("engine", ENGINES)
def test_model_fields_change_their_environment_and_no_other(tmp_path, engine):
    sim = make_sim(tmp_path, engine)
    assert sim.subtree_com.isfinite().all()  # depends on what set_const derives
    varied(sim)
    models = varied_models(sim.model)
    datas = [mujoco.MjData(m) for m in models]
    generator = torch.Generator().manual_seed(3)
    sim.qvel[:, 0] = 1.0
    for data in datas:
        data.qvel[0] = 1.0
    for _ in range(40):
        u = controls(generator)
        sim.ctrl.copy_(u)
        sim.step()
        for model, data, value in zip(models, datas, u, strict=True):
            data.ctrl[:] = value.numpy()
            for _ in range(SUBSTEPS):
                mujoco.mj_step(model, data)
    qpos = np.stack([d.qpos for d in datas])
    for model, data in zip(models, datas, strict=True):
        mujoco.mj_forward(model, data)
    com = np.stack([d.subtree_com for d in datas])
    for k in range(N):
        for other in range(k):
            assert np.abs(qpos[k] - qpos[other]).max() > 0.005  # each variation matters
    if engine != "warp":
        state = sim.state_dict()["state"].numpy()
        assert np.array_equal(state[:, 1 : 1 + sim.model.nq], qpos)
    np.testing.assert_allclose(sim.qpos, qpos, atol=QPOS_TOLERANCE)
    np.testing.assert_allclose(sim.subtree_com, com, atol=QPOS_TOLERANCE)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_fixed_and_what_was_zero_counts_per_environment(engine):
    """Engines place what is fixed to the world once and leave out forces that are zero."""
    scene = Scene(timestep=1 / 120)
    world = scene.spec.worldbody
    box = mujoco.mjtGeom.mjGEOM_BOX
    world.add_geom(name="wall", type=box, size=(0.1, 1, 1), pos=(3, 0, 0))
    world.add_body(name="shelf", pos=(0, 0, -3)).add_geom(type=box, size=(1, 1, 0.1))
    ball = world.add_body(name="ball")
    ball.add_freejoint()
    ball.add_geom(size=(0.1, 0, 0), pos=(0.01, 0, 0))
    sim = Sim(scene, N, device="cpu", engine=engine)
    assert sim.geom_xpos[:, 0, 0].tolist() == [3.0] * N
    models = [copy.copy(sim.model) for _ in range(N)]
    sim.model_field("geom_pos")[1, 0, 0] = models[1].geom_pos[0, 0] = 0.19
    sim.model_field("body_pos")[2, 1, 2] = models[2].body_pos[1, 2] = -0.18
    sim.model_field("opt.viscosity")[3] = models[3].opt.viscosity = 9.0
    sim.set_const()
    sim.forward()
    assert sim.geom_xpos[1, 0, 0] == pytest.approx(0.19)
    sim.qvel[:, 1] = 1.0
    for _ in range(5):
        sim.step()
    qvel = []
    for model in models:
        data = mujoco.MjData(model)
        mujoco.mj_setConst(model, data)
        data.qvel[1] = 1.0
        for _ in range(5):
            mujoco.mj_step(model, data)
        qvel.append(data.qvel.copy())
    np.testing.assert_allclose(sim.qvel, np.stack(qvel), atol=1e-3)
    for k in range(1, N):
        assert np.abs(qvel[k] - qvel[0]).max() > 0.05


@pytest.mark.parametrize("engine", ["mujoco", "warp"])
def test_a_surface_moves_in_its_environment(engine):
    scene = Scene(timestep=1 / 500)
    scene.spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=(5, 5, 1))
    box = scene.spec.worldbody.add_body(pos=(0, 0, 0.0999))
    box.add_freejoint()
    box.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=(0.1, 0.1, 0.1), mass=1)
    sim = Sim(scene, 2, device="cpu", engine=engine)
    sim.model_field("geom_surfacevel")[1, 0, 0] = 1.0
    sim.set_const()
    for _ in range(50):
        sim.step()
    assert sim.qvel[0, 0].abs() < 1e-6
    assert sim.qvel[1, 0] == pytest.approx(9.81 * 0.1, rel=0.05)  # friction 1, for 0.1 s


def test_a_model_field_that_a_captured_graph_does_not_have_is_refused(tmp_path):
    sim = make_sim(tmp_path, "warp")
    taken = sim.model_field("body_mass")
    sim.engine.captured = True  # as after a capture on a GPU
    assert sim.model_field("body_mass") is taken
    with pytest.raises(PhalanxError, match="geom_friction is used for the first time after a CUDA"):
        sim.model_field("geom_friction")
    sim.forget_graphs()
    assert sim.model_field("geom_friction").shape[0] == N


@pytest.mark.parametrize("engine", ["warp", "fused"])
def test_a_derived_field_that_a_captured_graph_does_not_compute_is_refused(tmp_path, engine):
    sim = make_sim(tmp_path, engine)
    sim.step()
    taken, inside = sim.xpos, sim.stale("xmat")
    sim.engine.captured = True  # as after a capture on a GPU
    assert (sim.xpos, sim.stale("xpos"), sim.stale("xmat")) == (taken, taken, inside)
    first = "is used for the first time after a CUDA graph was captured"
    for read in (
        lambda: sim.cvel,
        lambda: sim.xmat,  # so far from inside the substep
        lambda: sim.stale("site_xpos"),
        lambda: sim.qacc,
        lambda: sim.cfrc_ext,
        lambda: sim.M,
    ):
        with pytest.raises((AttributeError, PhalanxError), match=first):
            read()
    if engine == "fused":  # Warp has it from every step
        with pytest.raises(PhalanxError, match=f"sim.solve_m {first}"):
            sim.solve_m(sim.qvel, sim.qvel)
    sim.step()
    sim.forget_graphs()
    assert sim.cvel.abs().max() > 0
    assert sim.M.abs().max() > 0


@pytest.mark.parametrize("engine", ENGINES)
def test_state_dict_continues_exactly_with_model_fields(tmp_path, engine):
    first, second = (make_sim(tmp_path, engine) for _ in range(2))
    varied(first)
    roll(first, 30)
    # What the second one had of its own goes: another mass, and a field the first never touched.
    second.model_field("body_mass")[:, 1] = 9.0
    second.model_field("dof_armature")[:] = 0.5
    second.set_const()
    roll(second, 7)
    saved = copy.deepcopy(first.state_dict())
    roll(first, 30, seed=5)
    second.load_state_dict(saved)
    roll(second, 30, seed=5)
    a, b = first.state_dict()["state"], second.state_dict()["state"]
    if engine != "warp":
        assert torch.equal(a, b)
    else:
        # On the CPU Warp runs the environments' threads in order, so nothing differs here either.
        for name in a:
            assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("dtype_of", [("geom_contype", 0), ("jnt_limited", False)])
def test_model_fields_that_are_not_floats_can_be_written(tmp_path, dtype_of):
    name, value = dtype_of
    sim = make_sim(tmp_path, "mujoco")
    sim.model_field(name)[1] = value
    if name == "geom_contype":
        sim.model_field("geom_conaffinity")[1] = 0
    sim.ctrl.fill_(1.0)
    for _ in range(60):
        sim.step()
    if name == "geom_contype":
        assert sim.qpos[1, 2] < -1  # fell through the ground
        assert sim.qpos[0, 2] > 0
    else:
        assert sim.qpos[1, 7] > 1.2  # the arm went past its limit of 1 rad
        assert sim.qpos[0, 7] < 1.1


# -- divergence ----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_nan_in_one_environment_leaves_the_others_as_they_were(tmp_path, monkeypatch, engine):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings into MUJOCO_LOG.TXT
    sim, untouched = (make_sim(tmp_path, engine) for _ in range(2))
    for each in (sim, untouched):
        assert each.sensordata.isfinite().all()
        roll(each, 20)
    sim.qvel[2, 3] = torch.nan
    for each in (sim, untouched):
        roll(each, 3, seed=1)
    assert sim.diverged.tolist() == [False, False, True, False]
    assert sim.divergences.sum() == 3
    sim.reset(sim.diverged)
    sim.forward(sim.diverged)
    others = torch.tensor([0, 1, 3])
    for each in (sim, untouched):
        roll(each, 20, seed=2)
    for name in ("qpos", "qvel", "xpos", "sensordata"):
        assert torch.equal(getattr(sim, name)[others], getattr(untouched, name)[others]), name
        assert getattr(sim, name).isfinite().all(), name
    assert not sim.diverged.any()


TURNTABLE = """<mujoco><worldbody>
  <body name="table" pos="0 0 0.099"><joint axis="0 0 1"/><geom type="box" size=".1 .1 .1"/></body>
  <body name="ball" pos="1 0 0.5"><freejoint/><geom size="0.05" mass="0.1"/></body>
</worldbody></mujoco>"""


@pytest.mark.parametrize("engine", ENGINES)
def test_what_only_turns_may_touch_something_fixed(tmp_path, engine):
    path = tmp_path / "table.xml"
    path.write_text(TURNTABLE)
    scene = Scene(timestep=1 / 120)
    scene.add_ground()
    scene.add_actor("both", path)
    sim = Sim(scene, N, "cpu", engine=engine)
    for _ in range(60):
        sim.step()
    assert (sim.qpos[:, 3] > 0.049).all()  # the ball lies on the ground that the table touches


# -- buffers grow --------------------------------------------------------------------------------


def test_small_warp_buffers_grow_and_give_the_result_of_large_ones(tmp_path, monkeypatch):
    large = make_sim(tmp_path, "warp")
    monkeypatch.setattr(warp_engine, "_buffer_sizes", lambda model: (1, 3))
    small = make_sim(tmp_path, "warp")
    qpos, xpos, force = small.qpos, small.xpos, small.sensordata
    addresses = [t.data_ptr() for t in (qpos, xpos, force)]
    large.sensordata  # noqa: B018 registered, as in the other one
    roll(large, 40)
    roll(small, 40)
    sentence = small.engine.grow()  # of the last growth, which eager steps did by themselves
    assert sentence.startswith("contact buffers overflowed")
    assert "\n" not in sentence
    assert small.engine.grow() is None
    assert large.engine.grow() is None
    for name in ("qpos", "qvel", "xpos", "sensordata"):
        assert torch.equal(getattr(small, name), getattr(large, name)), name
    assert [t.data_ptr() for t in (small.qpos, small.xpos, small.sensordata)] == addresses
    before = qpos.clone()
    qpos[:, 2] += 1.0
    small.step()
    assert (qpos[:, 2] > before[:, 2] + 0.9).all()  # the tensor from before is the state
    torch.testing.assert_close(xpos[:, 1], qpos[:, :3])  # and the derived one is current


def test_full_contact_sensors_grow_and_incurable_overflow_does_not(tmp_path):
    sim, reference = (make_sim(tmp_path, "warp") for _ in range(2))
    sim.engine._m.opt.contact_sensor_maxmatch = 2  # the box stands on four corners
    for each in (sim, reference):
        assert each.sensordata.isfinite().all()
        roll(each, 40)
    assert sim.engine._m.opt.contact_sensor_maxmatch == 4
    assert torch.equal(sim.sensordata, reference.sensordata)
    assert sim.engine.grow() is not None
    # A fixed size in a kernel: doubling buffers until it fits would never end.
    sim.engine._overflow.fill_(int(mujoco_warp.OverflowType.EPA_HORIZON))
    assert sim.engine.grow() is None


BOXES = (
    '<mujoco><worldbody><body pos="0 0 0.06"><freejoint/>'
    + "".join(
        f'<geom type="box" size="0.05 0.05 0.05" pos="{0.2 * i} 0 0" mass="0.5"/>'
        for i in range(12)
    )
    + "</body></worldbody></mujoco>"
)


# 16 kB holds no contact, at 60 kB constraints are dropped, at 70 kB MuJoCo gives up with an error.
@pytest.mark.parametrize("memory", [16_000, 60_000, 70_000])
def test_small_physics_memory_is_enlarged_and_the_step_repeated(tmp_path, monkeypatch, memory):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings into MUJOCO_LOG.TXT
    sims = []
    for first in (-1, memory):
        path = tmp_path / "boxes.xml"
        path.write_text(BOXES)
        scene = Scene(timestep=1 / 120)
        scene.add_ground()
        scene.add_actor("boxes", path)
        sizes = [first]
        compile_ = scene.compile
        monkeypatch.setattr(
            scene,
            "compile",
            lambda memory=-1, sizes=sizes, compile_=compile_: compile_(
                sizes.pop() if sizes else memory
            ),
        )
        sim = Sim(scene, N, "cpu", substeps=SUBSTEPS, threads=1)
        # Mass and what set_const derives from it move along into the larger batch.
        sim.model_field("body_mass")[1:, 1] *= 2
        sim.model_field("body_inertia")[1:, 1] *= 2
        sim.set_const()
        sim.qvel[:, 0] = torch.linspace(0, 1, N)
        for _ in range(20):
            sim.step()
        assert not sim.diverged.any()
        assert sim.divergence_report() == ""
        sims.append(sim)
    large, small = sims
    assert large.engine.grow() is None
    sentence = small.engine.grow()
    assert sentence is not None
    assert "enlarged" in sentence
    assert "\n" not in sentence
    assert small.engine.grow() is None
    assert torch.equal(small.state_dict()["state"], large.state_dict()["state"])
    assert torch.equal(small.qpos, large.qpos)


def test_contacts_and_rows_are_put_in_one_order_whatever_order_they_come_in():
    import mujoco_warp as mjw
    import warp as wp

    from phalanx import tasks
    from phalanx.sim.engines import canonical_order as order

    torch.manual_seed(0)
    task = tasks.make("Ant", num_envs=16, device="cpu", engine="warp", deterministic=True)
    task.reset()
    for _ in range(25):
        task.step(torch.rand(16, 8) * 2 - 1)
    m, d = task.sim.engine._m, task.sim.engine._d
    mjw.fwd_position(m, d)
    n, nefc = int(wp.to_torch(d.nacon)[0]), wp.to_torch(d.nefc).tolist()
    assert n > 3
    assert max(nefc) > 4
    contact = {name: wp.to_torch(getattr(d.contact, name)) for name in order.CONTACT_FIELDS}
    contact = {name: x for name, x in contact.items() if x.numel()}
    row = {name: wp.to_torch(getattr(d.efc, name)) for name in order.ROW_FIELDS}
    address, world = wp.to_torch(d.contact.efc_address), contact["worldid"]
    before = [{k: v.clone() for k, v in x.items()} for x in (contact, row, {"address": address})]

    shuffled = torch.randperm(n)
    for name, values in contact.items():
        values[:n] = before[0][name][shuffled]
    order.sort_contacts(m, d)
    for env, k in enumerate(nefc):
        shuffled = torch.randperm(k)
        for name, values in row.items():
            values[env, :k] = before[1][name][env, shuffled]
        inverse = torch.argsort(shuffled).int()
        mine = (world[:n] == env)[:, None] & (address[:n] >= 0)
        address[:n][mine] = inverse[address[:n][mine].long()]
    order.sort_rows(m, d)
    for name, values in contact.items():
        assert torch.equal(values[:n], before[0][name][:n]), name
    for name, values in row.items():
        for env, k in enumerate(nefc):
            assert torch.equal(values[env, :k], before[1][name][env, :k]), name
    assert torch.equal(address[:n], before[2]["address"][:n])


ARM = """<mujoco><option integrator="implicitfast"/><worldbody>
<body pos="0 0 .3" gravcomp=".5"><joint name="a" axis="0 1 0" damping=".1"/>
<geom type="capsule" size=".05" fromto="0 0 0 .4 0 0"/>
<body pos=".4 0 0" gravcomp="1"><joint name="b" axis="0 1 0"/>
<geom type="capsule" size=".05" fromto="0 0 0 .4 0 -.2"/></body></body>
</worldbody><actuator><motor joint="a"/><motor joint="a" gear="2"/>
<position joint="b" kp="5" kv="1"/><velocity joint="b" kv=".5"/></actuator></mujoco>"""


def test_sums_in_a_fixed_order_are_those_of_mujoco_warp(tmp_path):
    path = tmp_path / "arm.xml"
    path.write_text(ARM)
    sims = []
    for deterministic in (True, False):
        scene = Scene(timestep=0.005)
        scene.add_ground()
        scene.add_actor("arm", path)
        sim = Sim(scene, 3, "cpu", engine="warp", substeps=3, deterministic=deterministic)
        sim.qvel[:, 0] = torch.tensor([1.0, 2.0, 3.0])
        sim.ctrl[:] = torch.tensor([0.3, -0.2, 0.5, 0.1])
        for field in ("cfrc_ext", "qfrc_actuator", "qfrc_gravcomp"):
            getattr(sim, field)
        for _ in range(60):
            sim.step()
        sims.append(sim)
    mine, warps = sims
    assert (mine.cfrc_ext.abs().amax(dim=(1, 2)) > 1).all()  # contacts act
    for field in ("qpos", "qvel", "cfrc_ext", "qfrc_actuator", "qfrc_gravcomp"):
        a, b = getattr(mine, field), getattr(warps, field)
        assert (a - b).abs().max() <= 1e-4 * b.abs().max().clamp(min=1), field


def test_mujoco_warp_has_the_kernels_that_get_an_order():
    from mujoco_warp._src import constraint, derivative, forward, passive, smooth, solver

    from phalanx.sim.engines.canonical_order import KERNELS

    modules = (constraint, derivative, forward, passive, smooth, solver)
    assert {m for m, *_ in KERNELS} == set(modules)
    for module, name, kernel in KERNELS:
        make = getattr(module, name)
        make = inspect.getclosurevars(make).nonlocals.get("make", make)
        *others, last = inspect.signature(make).parameters
        assert last == "deterministic", f"MuJoCo Warp changed {name}; canonical_order replaces it"
        if kernel is not None:
            sizes = [True] * len(others)
            ours = kernel(*sizes).func
            theirs = make(*sizes, False).func
            assert len(inspect.signature(ours).parameters) == len(
                inspect.signature(theirs).parameters
            ), f"MuJoCo Warp changed the arguments of {name}; canonical_kernels has the old ones"
