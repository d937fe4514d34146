"""Every `MjData` field on both engines: what MuJoCo C computes, or refused by name.

The model has one of everything that both engines simulate: joints of all four types, friction, a
limit, contacts, equality constraints, tendons, an actuator with activation, a mocap body, cameras.
"""

import copy

import mujoco
import numpy as np
import pytest
import torch

from phalanx.sim import Scene, Sim
from phalanx.sim.engines.fields import (
    ACCELERATION_FIELDS,
    BODY_FORCE_FIELDS,
    DERIVED_FIELDS,
    INPUT_FIELDS,
    STATE_FIELDS,
)

N, STEPS = 2, 25
ZOO = """<mujoco><option timestep="0.004"/>
<worldbody>
  <light name="lamp" pos="0 0 3" mode="trackcom"/>
  <geom name="floor" type="plane" size="5 5 .1"/>
  <camera name="watch" pos="2 0 1" mode="targetbodycom" target="base"/>
  <body name="goal" mocap="true" pos="1 1 1"><site name="goal" size=".02"/></body>
  <body name="base" pos="0 0 .05"><freejoint/><site name="imu" quat="1 .2 0 0"/>
    <site name="hook" pos="-.1 0 .1"/><geom type="box" size=".15 .15 .05" mass="1.5"/>
    <body name="arm" pos=".05 0 .05" gravcomp=".5">
      <joint name="hinge" type="hinge" axis="0 1 0" limited="true" range="-1 1" damping=".05"
             frictionloss=".02"/>
      <geom type="capsule" size=".02" fromto="0 0 .05 0 0 .25" mass=".5"/>
      <site name="hand" pos="0 0 .25"/>
      <body name="bob" pos="0 0 .3"><joint name="ball" type="ball" damping=".01"/>
        <geom type="sphere" size=".03" mass=".2"/></body></body>
    <body name="drawer" pos="-.05 0 .1">
      <joint name="slide" type="slide" axis="0 0 1" stiffness="50" springref=".1" armature=".01"/>
      <geom type="box" size=".03 .03 .03" mass=".3"/></body></body>
</worldbody>
<equality><joint joint1="slide" polycoef=".02 0 0 0 0"/></equality>
<tendon><fixed name="cable" stiffness="2" damping=".1"><joint joint="hinge" coef="2"/></fixed>
  <spatial name="rope" stiffness="5"><site site="hook"/><site site="hand"/></spatial></tendon>
<actuator><motor name="motor" joint="hinge" gear=".3" ctrlrange="-1 1"/>
  <general name="lag" joint="slide" dyntype="filter" dynprm=".05" gainprm="5"/>
  <position name="servo" tendon="cable" kp="1"/></actuator>
<sensor><jointpos joint="hinge"/><actuatorpos actuator="motor"/>
  <framelinvel objtype="body" objname="arm"/><tendonvel tendon="rope"/><accelerometer site="imu"/>
</sensor></mujoco>"""

FIELDS = sorted(
    name
    for name in dir(mujoco.MjData)
    if not name.startswith("_") and not callable(getattr(mujoco.MjData, name)) and name != "model"
)
# float32 against float64 after 25 steps with contacts; forces are stiff in positions.
TOLERANCES = {
    "mujoco": {"rtol": 1e-5, "atol": 1e-6},
    "warp": {"rtol": 5e-3, "atol": 5e-3},
}


def current(model, data):
    """Position and velocity stage, and what MuJoCo computes on demand, at the state of `data`."""
    data = copy.copy(data)
    mujoco.mj_step1(model, data)
    mujoco.mj_subtreeVel(model, data)
    mujoco.mj_energyPos(model, data)
    mujoco.mj_energyVel(model, data)
    return data


def last_substep(model, data):
    """`data` after the next step, and the forces and accelerations inside that step."""
    inside = copy.copy(data)
    mujoco.mj_forward(model, inside)
    mujoco.mj_rnePostConstraint(model, inside)
    mujoco.mj_step(model, data)
    for name in ("solver_niter", "solver_nnz"):  # of the step itself, whose warm start it has
        getattr(inside, name)[:] = getattr(data, name)
    return inside


@pytest.fixture(scope="module", params=["mujoco", pytest.param("warp", marks=pytest.mark.slow)])
def both(request):
    """A simulation that has shown all its fields, their refusals, and per environment MuJoCo's
    data after the last step, at the state reached, and inside the last step."""
    scene = Scene(timestep=0.004)
    scene.spec = mujoco.MjSpec.from_string(ZOO)
    sim = Sim(scene, N, "cpu", threads=1, engine=request.param)
    refused = {}
    for name in FIELDS:
        try:
            getattr(sim, name)
        except AttributeError as error:
            refused[name] = str(error)
    torch.manual_seed(0)
    velocity = 0.3 * torch.randn(N, sim.model.nv)
    sim.qvel.copy_(velocity)
    datas = [mujoco.MjData(sim.model) for _ in range(N)]
    for data, value in zip(datas, velocity, strict=True):
        data.qvel[:] = value.numpy()
    for _ in range(STEPS):
        ctrl = torch.rand(N, sim.model.nu)
        sim.ctrl.copy_(ctrl)
        sim.step()
        for data, value in zip(datas, ctrl, strict=True):
            data.ctrl[:] = value.numpy()
        inside = [last_substep(sim.model, data) for data in datas]
    return sim, refused, datas, [current(sim.model, d) for d in datas], inside


def test_fields_that_are_shown_are_those_of_mujoco_c(both):
    sim, refused, datas, reached, inside = both
    assert all(d.ncon > 0 and d.nf > 0 and d.ne > 0 for d in inside)  # everything is exercised
    acceleration = np.repeat(
        sim.model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC, sim.model.sensor_dim
    )
    for name in (n for n in FIELDS if n not in refused):
        shown = getattr(sim, name).numpy()
        for env in range(N):
            if name in STATE_FIELDS or name in INPUT_FIELDS:
                expected = getattr(datas[env], name)
            elif name == "sensordata":
                expected = np.where(acceleration, inside[env].sensordata, reached[env].sensordata)
            elif name in ACCELERATION_FIELDS | BODY_FORCE_FIELDS:
                expected = getattr(inside[env], name)
            else:
                expected = getattr(reached[env], name)
            tolerance = TOLERANCES[sim.engine.name]
            np.testing.assert_allclose(
                shown[env].astype(float), np.asarray(expected, float), err_msg=name, **tolerance
            )


def test_fields_that_are_not_shown_are_refused_by_name(both):
    sim, refused, *_ = both
    for name, sentence in refused.items():
        assert repr(name) in sentence, sentence
        assert sim.engine.name in sentence, sentence
        assert "\n" not in sentence
    shown = set(FIELDS) - refused.keys()
    # MuJoCo's own engine shows all that a step computes; Warp refuses what it does not have.
    if sim.engine.name == "mujoco":
        assert shown >= DERIVED_FIELDS
    assert shown >= {"cfrc_ext", "subtree_linvel", "energy", "M", "ten_length", "qfrc_bias"}
    assert shown <= DERIVED_FIELDS | set(STATE_FIELDS) | set(INPUT_FIELDS)


@pytest.mark.parametrize("stage", ["current", "last substep"])
def test_a_field_that_is_read_alone_is_right_too(stage):
    """Reading them all makes the engine compute everything; here each has to ask for its own."""
    forces = ACCELERATION_FIELDS | BODY_FORCE_FIELDS
    names = forces if stage == "last substep" else DERIVED_FIELDS - forces - {"sensordata"}
    scene = Scene(timestep=0.004)
    scene.spec = mujoco.MjSpec.from_string(ZOO)
    for name in sorted(names):
        sim = Sim(scene, 1, "cpu", threads=1)
        data = mujoco.MjData(sim.model)
        shown = getattr(sim, name)
        sim.qvel[:] = 0.3
        data.qvel[:] = np.float32(0.3)
        for _ in range(3):
            sim.step()
            inside = last_substep(sim.model, data)
        expected = inside if stage == "last substep" else current(sim.model, data)
        np.testing.assert_allclose(
            shown[0].numpy().astype(float),
            np.asarray(getattr(expected, name), float),
            err_msg=name,
            **TOLERANCES["mujoco"],
        )
