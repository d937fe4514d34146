"""Sensors of the fused engine against MuJoCo C's."""

import mujoco
import numpy as np
import pytest
import torch

from phalanx.errors import PhalanxError
from phalanx.sim import Sim
from recorded_graph import NoNumbersOfPython
from test_fused import N, Text, exact, make, stepped, stir

SHAPES = {
    "sphere": ".15", "box": ".2 .1 .15", "capsule": ".1 .1", "cylinder": ".15 .1",
    "ellipsoid": ".2 .1 .15",
}  # fmt: skip
SITES = "".join(
    f'<site name="{shape}" type="{shape}" size="{size}" pos=".05 .1 -.1" euler="20 0 30"/>'
    for shape, size in SHAPES.items()
)
WORLD = f"""<mujoco><option integrator="implicitfast" magnetic="1 -2 3"/>
<default><default class="air"><geom contype="0" conaffinity="0"/></default></default><worldbody>
<geom type="plane" size="1 1 1"/><site name="pad" type="box" size=".5 .5 .05"/>
<site name="post" pos="1 2 .5" euler="10 20 30"/><camera name="still" pos="1 0 2" euler="40 0 10"/>
<body name="torso" pos="0 0 .24"><freejoint/><geom name="ball" size=".25"/>
  {SITES}<site name="imu" pos=".1 -.05 .1" euler="0 40 70"/>
  <body name="arm" pos="0 0 .3" euler="15 0 0"><joint name="hip" axis="1 .2 0" range="-10 12"
      frictionloss=".3" damping=".2"/><geom type="capsule" size=".03" fromto="0 0 0 .3 0 .1"/>
    <body name="hand" pos=".3 0 .1" euler="5 5 5"><geom name="fist" type="box" size=".03 .05 .02"/>
      <camera name="eye" pos="0 0 .1" euler="1 2 3"/>
      <body name="tool" pos=".1 0 0"><joint name="rod" type="slide" axis="1 1 0" range="-.05 .1"/>
        <geom type="box" size=".02 .02 .05" mass="1"/>
        <geom size=".06" pos="-.4 0 -.12" mass=".1" solref=".05 1"/><site name="tip" pos="0 0 .05"/>
      </body></body></body></body>
<body name="crane" pos="-2 0 1.5" childclass="air"><joint name="slew" axis="0 0 1"/>
  <geom size=".1" pos=".2 0 0"/>
  <body name="boom" pos=".4 0 -.4"><joint axis="0 1 0" damping="1"/><geom size=".1" pos="0 .1 0"/>
    <site name="hook" euler="30 0 0"/>
    <body name="lamp" pos="0 .1 -.2" gravcomp=".7"><joint name="swivel" type="ball"/>
      <geom size=".05" pos="0 .1 -.1"/><site name="bulb" euler="0 20 0"/></body></body></body>
</worldbody><actuator><motor name="a" joint="hip" gear="3" forcerange="-1 1"/>
<position name="b" joint="rod" kp="50" kv="2" gear="2"/><motor name="c" joint="hip"/>
<motor name="d" tendon="rope" gear="2"/></actuator><tendon><fixed name="rope">
<joint joint="hip" coef=".5"/><joint joint="rod" coef="2"/></fixed></tendon>
<sensor>{{}}</sensor></mujoco>"""

FRAMES = (
    ("site", "imu"), ("body", "tool"), ("xbody", "hand"), ("geom", "fist"), ("camera", "eye"),
    ("site", "hook"), ("site", "post"),
)  # fmt: skip
REFERENCES = (("", ""), ("site", "tip"), ("body", "arm"), ("site", "post"), ("camera", "still"))


def in_frames(kind, references):
    out = []
    for i, (what, name) in enumerate(FRAMES):
        for other, ref in references[: 1 + (i < 3) * len(references)]:
            rest = f'reftype="{other}" refname="{ref}"' if ref else ""
            out.append(f'<{kind} objtype="{what}" objname="{name}" {rest}/>')
    return "".join(out)


ROTATIONS = ("framequat", "framexaxis", "frameyaxis", "framezaxis")
SENSORS = {
    "poses": "".join(in_frames(kind, REFERENCES) for kind in ("framepos", *ROTATIONS)),
    "velocities": "".join(in_frames(k, REFERENCES) for k in ("framelinvel", "frameangvel"))
    + '<gyro site="imu"/><velocimeter site="imu"/><gyro site="tip" cutoff=".2"/>'
    '<velocimeter site="post"/><magnetometer site="hook"/>',
    "joints": "".join(
        f'<{kind} joint="{joint}"/>'
        for kind in ("jointpos", "jointvel", "jointlimitpos", "jointlimitvel", "jointactuatorfrc")
        for joint in ("hip", "rod", "slew") if joint != "slew" or "limit" not in kind
    ),
    "limits": '<jointlimitfrc joint="hip"/><jointlimitfrc joint="rod"/>',
    "balls": '<ballquat joint="swivel"/><ballangvel joint="swivel" cutoff="1"/>',
    "actuators": "".join(
        f'<{kind} actuator="{name}" cutoff="{cutoff}"/>'
        for kind in ("actuatorpos", "actuatorvel", "actuatorfrc")
        for name, cutoff in (("a", 0), ("b", 0.05), ("c", 0), ("d", 0))
    ),
    "tendons": '<tendonpos tendon="rope"/><tendonvel tendon="rope"/>',
    "subtrees": "".join(
        f'<{kind} body="{body}"/>'
        for kind in ("subtreecom", "subtreelinvel", "subtreeangmom")
        for body in ("world", "torso", "hand", "boom")
    ),
    "accelerations": "".join(in_frames(k, REFERENCES[:1]) for k in ("framelinacc", "frameangacc"))
    + "".join(f"<accelerometer site=\"{site}\" cutoff=\"9\"/>" for site in ("imu", "tip", "post")),
    "forces": '<force site="tip"/><torque site="tip"/><force site="hook"/><torque site="hook"/>'
    '<force site="bulb"/><torque site="bulb"/>',
    "touch": "".join(f'<touch site="{shape}"/>' for shape in SHAPES)
    + '<touch site="pad"/><touch site="pad" cutoff="3"/><touch site="imu"/>',
    "contacts": "".join(
        f'<contact body1="{body}" {other} data="force" reduce="netforce"/>'
        for other in ("", 'subtree2="torso"') for body in ("torso", "hand", "tool")
    ),
}  # fmt: skip
# Of the largest value of a sensor's kind. Stiff contacts round forces more than states.
TOLERANCE = {
    "accelerations": 5e-4, "limits": 1e-4, "forces": 1e-4, "touch": 1e-4, "contacts": 1e-4,
}  # fmt: skip


@pytest.fixture(scope="module")
def robot():
    sim = make(WORLD.format("".join(SENSORS.values())))
    sim.sensordata  # noqa: B018
    return sim


def test_sensors_are_mujocos(robot):
    model, generator = exact(robot.model), torch.Generator().manual_seed(2)
    start, part = {}, 0
    for name, text in SENSORS.items():
        start[name] = slice(part, part + text.count("<"))
        part += text.count("<")
    assert part == model.nsensor
    acc = model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC
    seen = {name: [] for name in SENSORS}
    for spread in (1.0, 0.3):
        stir(robot, generator, spread)
        datas = [stepped(model, robot, env) for env in range(N)]
        robot.sensordata.fill_(torch.inf)
        robot.step()
        for env, data in enumerate(datas):
            now = mujoco.MjData(model)
            now.qpos[:], now.qvel[:] = robot.qpos[env].numpy(), robot.qvel[env].numpy()
            mujoco.mj_forward(model, now)
            for name, sensors in start.items():
                for i in range(sensors.start, sensors.stop):
                    own = slice(model.sensor_adr[i], model.sensor_adr[i] + model.sensor_dim[i])
                    expected = (data if acc[i] else now).sensordata[own]
                    value = robot.sensordata[env, own].numpy()
                    error = np.abs(value - expected).max() / (1 + np.abs(expected).max())
                    kind = mujoco.mjtSensor(int(model.sensor_type[i])).name
                    assert error < TOLERANCE.get(name, 1e-5), (kind, i, value, expected)
                    seen[name].append(np.abs(expected).max())
    for name, values in seen.items():
        assert np.mean(np.array(values) > 1e-3) > 0.1, name


# A gripper whose palm is welded to the world, and a leg whose foot is welded to its shin.
WELDED = """<mujoco><option timestep=".002" {}/><worldbody><geom type="plane" size="2 2 1"/>
  <body name="base" pos="0 0 .6" euler="0 20 0"><geom type="box" size=".1 .1 .02" mass="2"/>
    <body name="palm" pos="0 0 .1" euler="30 0 0"><geom type="box" size=".1 .05 .05"/>
      <site name="palm" pos=".01 0 -.05" euler="0 0 50"/>
      <body name="left" pos=".05 0 .1"><joint axis="0 1 0" damping=".1"/>
        <geom type="capsule" size=".02" fromto="0 0 0 .1 0 .1"/>
        <body name="pad" pos=".1 0 .1"><geom type="box" size=".02 .03 .03"/><site name="pad"/>
        </body></body>
      <body name="right" pos="-.05 0 .1"><joint type="slide" axis="1 0 0"/>
        <geom type="capsule" size=".02" fromto="0 0 0 0 0 .1"/></body></body></body>
  <body pos="0 0 .78"><freejoint/><geom size=".06" mass=".4"/><site name="grip" pos="0 0 -.05"/>
  </body>
  <body name="trunk" pos="1 0 .36" gravcomp=".3"><freejoint/><geom type="box" size=".1 .1 .1"/>
    <body name="leg" pos="0 0 -.1"><joint axis="0 1 0" range="-40 40"/>
      <geom type="capsule" size=".03" fromto="0 0 0 0 0 -.15"/>
      <body name="ankle" pos="0 0 -.15" euler="0 0 30"><site name="ankle"/>
        <geom type="box" size=".03 .03 .01" mass=".2"/>
        <body name="foot" pos="0 0 -.05"><geom type="box" size=".1 .05 .02"/>
          <body pos="0 .1 0"><joint axis="1 0 0"/><geom size=".03"/>
          </body></body></body></body></body>
  </worldbody><equality><connect body1="palm" body2="left" anchor="0 0 .3" solref=".2 1"/>
    <connect site1="grip" site2="palm" solref=".3 1"/></equality>
  <sensor><force site="palm"/><torque site="palm"/><force site="pad"/><torque site="pad"/>
    <force site="ankle"/><torque site="ankle"/></sensor></mujoco>"""


@pytest.mark.parametrize("cone", ["pyramidal", "elliptic"])
def test_forces_between_welded_bodies_are_mujocos(cone):
    sim = make(WELDED.format(f'cone="{cone}"'))
    model, generator = exact(sim.model), torch.Generator().manual_seed(4)
    sim.sensordata  # noqa: B018
    sim.cfrc_int  # noqa: B018
    touched = 0
    for spread in (0.3, 0.1):
        stir(sim, generator, spread)
        sim.xfrc_applied[:, 1:] = torch.randn(N, model.nbody - 1, 6, generator=generator)
        datas = [stepped(model, sim, env) for env in range(N)]
        sim.step()
        for env, data in enumerate(datas):
            touched += data.ncon
            for own in (slice(0, 6), slice(6, 12), slice(12, 18)):
                wanted, value = data.sensordata[own], sim.sensordata[env, own].numpy()
                np.testing.assert_allclose(value, wanted, atol=3e-4 * (1 + np.abs(wanted).max()))
            wanted, value = data.cfrc_int, sim.cfrc_int[env].numpy()
            np.testing.assert_allclose(value, wanted, atol=3e-4 * (1 + np.abs(wanted).max()))
    assert touched > N


# A post that is welded to the world, a cart that a program moves, and what they carry. Geoms of
# both overlap, which pushes nothing.
MOUNTED = """<mujoco><option><flag actuation="disable"/></option><worldbody>
  <geom type="plane" size="2 2 1"/>
  <body name="post" pos="0 0 .3"><geom size=".05"/>
    <body name="shelf" pos="0 -.12 .06" euler="10 0 0"><geom type="box" size=".08 .08 .05"/></body>
    <body name="vane" pos="0 .1 0"><joint name="vane" axis="1 0 0"/>
      <geom size=".04" pos="0 .05 0"/></body></body>
  <body name="stone" pos="1 0 .02"><geom size=".05"/></body>
  <body name="cart" pos="0 .1 .16" mocap="true">
    <geom type="capsule" size=".06 .3" euler="90 0 0" mass="1"/>
    <body name="mast" pos=".1 0 .1" euler="0 20 0"><geom size=".05" mass="2"/><site name="x"/>
      <body pos="0 0 .1"><joint axis="0 1 0"/><geom size=".04" pos="0 0 .05"/></body></body></body>
  <body pos="0 -.14 .47"><freejoint/><geom size=".08"/></body>
  <body pos="0 .3 .26"><freejoint/><geom size=".06"/></body>
  <body pos="1 0 .12"><freejoint/><geom size=".06" condim="1"/></body></worldbody>
  <actuator><motor name="m" joint="vane"/></actuator>
  <sensor><force site="x"/><actuatorvel actuator="m"/></sensor></mujoco>"""


def test_forces_on_what_joints_do_not_move_are_mujocos():
    sim = make(MOUNTED)
    model, generator = exact(sim.model), torch.Generator().manual_seed(4)
    sim.cfrc_int  # noqa: B018
    sim.sensordata  # noqa: B018
    touched = set()
    for _ in range(2):
        stir(sim, generator, 0.1)
        sim.xfrc_applied[:, 1:] = torch.randn(N, model.nbody - 1, 6, generator=generator)
        datas = [stepped(model, sim, env) for env in range(N)]
        sim.step()
        for env, data in enumerate(datas):
            touched |= {tuple(pair) for pair in data.contact.geom.tolist()}
            np.testing.assert_allclose(sim.qvel[env], data.qvel, atol=1e-3)
            for name in ("cfrc_int", "sensordata"):  # the actuator's velocity is 0
                wanted, value = getattr(data, name), getattr(sim, name)[env].numpy()
                np.testing.assert_allclose(value, wanted, atol=3e-4 * (1 + np.abs(wanted).max()))
    assert len(touched) > 2, touched  # shelf, cart and stone


RANGES = """<mujoco><option timestep=".002"/><asset><material name="glass" rgba="1 1 1 0"/></asset>
<default><geom contype="0" conaffinity="0"/></default><worldbody>
<geom type="plane" size="0 0 1" pos="0 0 -1"/>
<geom type="plane" size=".4 .5 1" pos="0 0 1" euler="170 0 0"/>
<geom type="box" size=".3 .2 .1" pos=".9 0 0" euler="10 20 30"/><geom size=".3" pos="-.9 .2 .1"/>
<geom type="capsule" size=".15 .3" pos="0 .9 0" euler="60 20 0"/><geom material="glass" size=".9"/>
<geom type="ellipsoid" size=".3 .2 .4" pos="0 -.9 .1" euler="0 30 0"/>
<geom type="cylinder" size=".2 .3" pos=".6 .7 .2" euler="40 10 0"/>
<body name="head"><joint type="ball"/><geom size=".05" mass="1"/>{}
  <body pos=".2 0 0"><joint axis="0 1 0"/><geom type="box" size=".1 .02 .02" mass=".3"/>
    <site name="tip" pos=".02 0 .01" euler="0 80 0"/></body></body>
<body pos=".4 .4 0"><freejoint/><geom type="capsule" size=".1 .2"/><site name="inside"/>
  <geom size=".02" pos="0 .3 0" rgba="1 0 0 0"/></body></worldbody><sensor>{}</sensor></mujoco>"""


def test_rangefinders_are_mujocos():
    """From outside of all shapes and from inside, past the own body and through what is clear."""
    turns = torch.rand((24, 3), generator=torch.Generator().manual_seed(5)) * 360
    sites = "".join(f'<site name="s{i}" euler="{x:.1f} {y:.1f} {z:.1f}"/>'
                    for i, (x, y, z) in enumerate(turns.tolist()))  # fmt: skip
    names = [f"s{i}" for i in range(24)] + ["tip", "inside"]
    sensors = "".join(f'<rangefinder site="{name}"/>' for name in names)
    sensors += '<rangefinder site="s0" cutoff=".5"/><gyro site="tip"/>'
    sim = make(RANGES.format(sites, sensors))
    assert sim.engine.name == "fused"
    model, generator, hits = exact(sim.model), torch.Generator().manual_seed(2), 0
    sim.sensordata  # noqa: B018
    for _ in range(3):
        stir(sim, generator)
        sim.step()
        for env in range(N):
            now = mujoco.MjData(model)
            now.qpos[:], now.qvel[:] = sim.qpos[env].numpy(), sim.qvel[env].numpy()
            mujoco.mj_forward(model, now)
            error = np.abs(sim.sensordata[env].numpy() - now.sensordata)
            assert np.sort(error)[-2] < 1e-4, error  # a ray may just miss an edge
            hits += (now.sensordata[:26] > 0).sum()
    assert 0.3 < hits / (3 * N * 26) < 1
    size = sim.model_field("geom_size")
    size[1:, 3] = 0.1  # the ball at the left is smaller in the others
    sim.qpos.copy_(torch.tensor(sim.model.qpos0.tolist()))
    sim.forward()
    assert (sim.sensordata[0] != sim.sensordata[1]).any()
    with pytest.raises(PhalanxError, match="geom_rgba"):
        sim.model_field("geom_rgba")  # rays pass what is clear in the model
    changed = sim.engine.model_of(1)
    data = mujoco.MjData(changed)
    data.qpos[:] = sim.qpos[1].numpy()
    mujoco.mj_forward(changed, data)
    np.testing.assert_allclose(sim.sensordata[1, :27], data.sensordata[:27], atol=1e-4)


def test_rangefinders_can_be_captured():
    sensors = "".join(f'<rangefinder site="{site}"/>' for site in ("s0", "tip", "inside"))
    sim = make(RANGES.format('<site name="s0" euler="60 20 0"/>', sensors))
    sim.sensordata  # noqa: B018
    sim.step()
    with NoNumbersOfPython():
        sim.step()


@pytest.mark.parametrize(("rays", "name"), [(4, "fused"), (12, "mujoco")])
def test_auto_leaves_many_rays_to_mujoco_on_a_cpu(rays, name):
    sites = "".join(f'<site name="s{i}" euler="{9 * i} 0 0"/>' for i in range(rays))
    sensors = "".join(f'<rangefinder site="s{i}"/>' for i in range(rays))
    sim = Sim(Text(RANGES.format(sites, sensors)), 256, "cpu", engine="auto")
    assert sim.engine.name == name
    assert ("12 rangefinders among 10 geoms" in sim.engine_report()) == (name == "mujoco")


@pytest.mark.parametrize("option", ["", 'integrator="RK4"'])
def test_stale_sensors_are_those_of_the_state_before_the_last_substep(option):
    text = WORLD.format(SENSORS["poses"] + SENSORS["velocities"] + SENSORS["touch"])
    sim = make(text.replace('integrator="implicitfast"', option or 'integrator="implicitfast"'))
    stale = sim.engine.field("sensordata", stale=True)
    stir(sim, torch.Generator().manual_seed(3))
    model = exact(sim.model)
    data = stepped(model, sim, 0, steps=2)  # mj_step computes sensors before it integrates
    sim.advance(2)
    np.testing.assert_allclose(stale[0], data.sensordata, atol=1e-4 * np.abs(data.sensordata).max())
    for name in ("qacc", "xpos") if option else ():  # of all and of the last stage
        sim.reset()
        own = sim.engine.field(name, stale=True)
        stir(sim, torch.Generator().manual_seed(3), 0.3)
        data = stepped(model, sim, 0)
        sim.advance(1)
        wanted = getattr(data, name)
        np.testing.assert_allclose(own[0], wanted, atol=1e-4 * (1 + np.abs(wanted).max()))


def test_a_body_at_rest_feels_its_weight_and_touches_the_ground():
    xml = """<mujoco><worldbody><geom type="plane" size="1 1 1"/><body pos="0 0 .0999">
    <freejoint/><geom size=".1" mass="2"/><site name="s" size=".11"/></body></worldbody>
    <sensor><accelerometer site="s"/><touch site="s"/></sensor></mujoco>"""
    sim = make(xml, 1)
    sim.sensordata  # noqa: B018
    sim.advance(1000)
    np.testing.assert_allclose(sim.sensordata[0], [0, 0, 9.81, 2 * 9.81], atol=1e-3)
