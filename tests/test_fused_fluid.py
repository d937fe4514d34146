"""Drag of a fluid on the fused engine, against MuJoCo C."""

import mujoco
import numpy as np
import pytest
import torch

from phalanx.sim.engines.fused import why_not
from test_fused import exact, make, stepped, stir

N = 8
SWIMMER = """<mujoco><option density="{density}" viscosity="{viscosity}" wind="{wind}"
    timestep=".005" {option}/><worldbody>
  <geom type="box" size="1 1 .1" pos="0 0 -3"/>
  <body pos="0 0 1"><freejoint/><site name="s"/>
    <geom type="box" size=".1 .2 .05" mass="2" contype="0" conaffinity="0"/>
    <body pos="0 .3 0" euler="20 30 0">
      <geom type="capsule" size=".05 .2" mass="1" contype="0" conaffinity="0"/></body>
    <body pos=".2 0 0"><joint axis="0 1 0"/><site name="t"/>
      <geom type="capsule" fromto="0 0 0 .5 0 0" size=".04" mass=".5" contype="0" conaffinity="0"/>
      <body pos=".5 0 0"><joint axis="0 0 1" damping=".1"/>
        <geom type="ellipsoid" size=".2 .1 .03" mass=".3" contype="0" conaffinity="0"/>
      </body></body></body></worldbody>
  <sensor><force site="t"/><torque site="t"/><accelerometer site="s"/></sensor></mujoco>""".format
FLUIDS = {
    "water": {"density": 900, "viscosity": 0.1, "wind": "0 0 0"},
    "honey": {"density": 0, "viscosity": 20, "wind": "0 0 0"},
    "a gale": {"density": 1.2, "viscosity": 2e-5, "wind": "30 -10 5"},
    "RK4": {"density": 900, "viscosity": 0.5, "wind": "1 0 -1", "option": 'integrator="RK4"'},
}


@pytest.mark.parametrize("name", FLUIDS)
def test_bodies_in_a_fluid_move_as_mujocos(name):
    sim = make(SWIMMER(**{"option": "", **FLUIDS[name]}), N)
    model, generator = exact(sim.model), torch.Generator().manual_seed(0)
    for spread in (1.0, 0.2):
        stir(sim, generator, spread)
        before = sim.qvel.numpy().copy()
        datas = [stepped(model, sim, env) for env in range(N)]
        _ = sim.sensordata
        sim.step()
        qvel, sensed = (np.stack([getattr(d, x) for d in datas]) for x in ("qvel", "sensordata"))
        change = np.abs(qvel - before).max(1, keepdims=True).clip(1)
        assert (np.abs(sim.qvel.numpy() - qvel) / change).max() < 1e-4
        scale = np.abs(sensed).max(1, keepdims=True).clip(1)
        assert (np.abs(sim.sensordata.numpy() - sensed) / scale).max() < 1e-4
        dry = mujoco.MjData(model)
        dry.qpos[:], dry.qvel[:] = sim.qpos[0], sim.qvel[0]
        mujoco.mj_forward(model, dry)
        assert np.abs(dry.qfrc_fluid).max() > 0.01
    for data in datas[:3]:
        mujoco.mj_step(model, data, 49)
    sim.advance(49)
    np.testing.assert_allclose(sim.qpos[:3], [d.qpos for d in datas[:3]], atol=1e-3)


def test_drag_follows_masses_of_each_environment():
    sim = make(SWIMMER(**FLUIDS["water"], option=""), 4)
    mass = sim.model_field("body_mass")
    mass *= torch.tensor([0.5, 1.0, 2.0, 4.0])[:, None]
    stir(sim, torch.Generator().manual_seed(1), 0.5)
    datas = [stepped(exact(sim.model_of(env)), sim, env) for env in range(4)]
    sim.step()
    np.testing.assert_allclose(sim.qvel, [d.qvel for d in datas], atol=2e-4)


def test_what_a_fluid_needs_is_named():
    text = SWIMMER(**FLUIDS["water"], option='integrator="implicitfast"')
    assert "fluid with implicitfast; use Euler" in why_not(mujoco.MjModel.from_xml_string(text))
    text = SWIMMER(**FLUIDS["water"], option="").replace(
        '"ellipsoid"', '"ellipsoid" fluidshape="ellipsoid"'
    )
    assert "fluidshape (geom 4)" in why_not(mujoco.MjModel.from_xml_string(text))
