"""Equalities, tendons and limits of ball joints in the fused engine, against MuJoCo C."""

import mujoco
import numpy as np
import pytest
import torch

from phalanx.sim.engines.fused import why_not
from test_fused import SPREADS, N, exact, make, stepped, stir

DAMPED = ' damping=".3"'
THING = 'contype="0" conaffinity="0"'


def arm(i):
    """Two hinges and a slide, far from everything."""
    return f"""<body pos="{0.5 * i} 0 2"><joint name="a{i}" axis="0 1 0" ref="5"/>
      <geom type="capsule" size=".05" fromto="0 0 0 .1 0 -.5" {THING}/>
      <body pos=".1 0 -.5"><joint name="b{i}" axis="1 .3 0" damping=".2"/>
        <geom type="capsule" size=".04" fromto="0 0 0 0 .1 -.4" {THING}/>
        <body pos="0 .1 -.4"><joint name="c{i}" type="slide" axis="0 0 1" range="-.1 .1"/>
          <site name="tip{i}" pos=".02 .01 -.1" euler="10 20 30"/>
          <geom size=".08" {THING}/></body></body></body>"""


def block(i, y=0.0):
    """A free body."""
    name = f"{i}y" if y else str(i)
    return f"""<body name="block{name}" pos="{0.5 * i} {y} 2"><freejoint/>
      <geom type="box" size=".1 .15 .2" pos=".02 0 .01" {THING}/>
      <site name="corner{name}" pos=".1 {-np.sign(y) * 0.15} .2"/></body>"""


def ball(i, more="", end=""):
    return f"""<body pos="{0.5 * i} 0 2"><joint type="ball" {more}/>
      <geom type="capsule" size=".05" fromto="0 0 0 .1 0 -.5" {THING}/>
      <body pos=".1 0 -.5"><joint type="ball" {more}/>
        {end}<geom type="box" size=".05 .1 .2" pos="0 0 -.2" {THING}/></body></body>"""


def gripper(i):
    finger = f"""<body pos="0 {{0}} -.2"><joint name="{{1}}{i}" axis="1 0 0"/>
      <geom type="capsule" size=".02" fromto="0 0 0 0 {{0}} -.2" {THING}/></body>"""
    return f"""<body pos="{0.5 * i} 0 2"><joint name="g{i}" axis="0 1 0" damping=".1"/>
      <geom size=".1" {THING}/>{finger.format(0.05, "l")}{finger.format(-0.05, "r")}</body>"""


def fixed(name, i, more="", j=None):
    ends = f'<joint joint="a{i}" coef="1.5"/><joint joint="b{i if j is None else j}" coef="-.7"/>'
    return f'<fixed name="{name}{i}" {more}>{ends}</fixed>'


# By name: bodies, and what stands in <equality>, <tendon> and <actuator>.
ROWS = {
    "coupled joints": (
        lambda i: arm(i),
        lambda i: f'<joint joint1="a{i}" joint2="b{i}" polycoef=".1 -.8 .3 .2 .1"/>'
        f'<joint joint1="c{i}" polycoef=".02 0 0 0 0" solref=".05 1"/>',
    ),
    "joints of two trees": (
        lambda i: arm(i) + arm(i + 20),
        lambda i: f'<joint joint1="a{i}" joint2="a{i + 20}" polycoef="0 1 0 0 0"/>',
    ),
    "a limited tendon": (
        lambda i: arm(i),
        lambda i: "",
        lambda i: fixed("t", i, 'limited="true" range="-.2 .3" margin=".05" solreflimit=".04 1"'),
    ),
    "a tendon with friction and a spring": (
        lambda i: arm(i),
        lambda i: "",
        lambda i: fixed("t", i, 'frictionloss=".6" stiffness="20" springlength=".1 .2"' + DAMPED),
    ),
    "a tendon with actuators": (
        lambda i: arm(i),
        lambda i: "",
        lambda i: fixed("t", i),
        lambda i: f'<motor tendon="t{i}" gear="2" forcerange="-.3 .4"/>'
        f'<position tendon="t{i}" kp="10"/><motor joint="a{i}"/>',
    ),
    "a tendon between trees with damping and a servo": (
        lambda i: arm(i) + arm(i + 20),
        lambda i: "",
        lambda i: fixed("t", i, 'damping="3"', i + 20),
        lambda i: f'<position tendon="t{i}" kp="10" kv="2" gear="1.5"/>',
    ),
    "a damped tendon between two fingers": (
        gripper,
        lambda i: "",
        lambda i: f'<fixed name="t{i}" damping="1.5"><joint joint="l{i}" coef="1"/>'
        f'<joint joint="r{i}" coef="-1.3"/></fixed>',
    ),
    "coupled tendons": (
        lambda i: arm(i) + arm(i + 20),
        lambda i: f'<tendon tendon1="t{i}" tendon2="u{i + 20}" polycoef="0 .5 .1 0 0"/>'
        f'<tendon tendon1="u{i + 20}" polycoef=".1 0 0 0 0" active="false"/>',
        lambda i: fixed("t", i) + fixed("u", i + 20),
    ),
    "a connect to the world": (
        lambda i: arm(i),
        lambda i: f'<connect site1="tip{i}" site2="hook{i}"/>',
    ),
    "two bodies connected": (
        lambda i: block(i) + block(i, 0.3),
        lambda i: f'<connect body1="block{i}" body2="block{i}y" anchor=".1 .15 .2"/>',
    ),
    "a loop": (
        lambda i: ball(i, end=f'<site name="end{i}" pos="0 0 -.4"/>') + arm(i),
        lambda i: f'<connect site1="end{i}" site2="tip{i}" solref=".1 1"/>',
    ),
    "a weld to the world": (
        lambda i: block(i),
        lambda i: f'<weld body1="block{i}" anchor="{0.5 * i} .1 2.1"/>',
    ),
    "two bodies welded": (
        lambda i: block(i) + block(i, 0.3),
        lambda i: f'<weld body1="block{i}" body2="block{i}y" anchor="0 .15 0" torquescale=".4"/>',
    ),
    "sites welded": (
        lambda i: block(i) + block(i, 0.3),
        lambda i: f'<weld site1="corner{i}" site2="corner{i}y" solimp=".8 .95 .02 .4 3"/>',
    ),
    "limited balls": (lambda i: ball(i, 'range="0 15" margin=".02" solreflimit=".05 1"'),
                      lambda i: ""),
}  # fmt: skip


UNFORCED = (
    "a tendon with actuators", "a tendon between trees with damping and a servo",
    "a damped tendon between two fingers",
)  # fmt: skip


def model_of(names, option=""):
    parts = {"worldbody": "", "equality": "", "tendon": "", "actuator": ""}
    for i, name in enumerate(names):
        parts["worldbody"] += f'<site name="hook{i}" pos="{0.5 * i + 0.1} .1 1"/>'
        for part, make_text in zip(parts, ROWS[name], strict=False):
            parts[part] += make_text(i)
    body = "".join(f"<{part}>{text}</{part}>" for part, text in parts.items() if text)
    return f"<mujoco><option {option}/>{body}</mujoco>"


def features_of(model):
    """Which entry of ROWS each degree of freedom belongs to, by place."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    place = np.round(data.xpos[model.body_rootid[model.dof_bodyid], 0] / 0.5).astype(int) % 20
    return place


@pytest.mark.parametrize("option", ["", 'integrator="implicitfast"'])
def test_one_step_with_rows_is_mujocos(option):
    names = list(ROWS)
    sim = make(model_of(names, option))
    model, generator = exact(sim.model), torch.Generator().manual_seed(5)
    feature = features_of(model)
    forced = np.zeros(len(names))
    for spread in SPREADS:
        stir(sim, generator, spread)
        before = sim.qvel.numpy().copy()
        datas = [stepped(model, sim, env) for env in range(N)]
        constraint = sim.qfrc_constraint
        sim.step()
        qvel = np.stack([d.qvel for d in datas])
        for i, name in enumerate(names):
            own = feature == i
            change = np.abs(qvel - before)[:, own].max(1).clip(1)
            error = np.abs(sim.qvel.numpy() - qvel)[:, own].max(1) / change
            assert error.max() < 1e-3, (name, error)
            expected = np.stack([d.qfrc_constraint for d in datas])[:, own]
            scale = 1 + np.abs(expected).max(1, keepdims=True)
            off = np.abs(constraint.numpy()[:, own] - expected) / scale
            assert off.max() < 1e-3, (name, off.max())
            forced[i] += (np.abs(expected).max(1) > 1e-6).mean() / len(SPREADS)
    for name, share in zip(names, forced, strict=True):
        assert share > 0.3 or name in UNFORCED, (name, share)


def test_equalities_are_switched_in_each_environment():
    names = [name for name, parts in ROWS.items() if parts[1](0)]
    sim = make(model_of(names))
    model, generator = exact(sim.model), torch.Generator().manual_seed(6)
    sim.step()
    assert (sim.eq_active[0] == torch.tensor(sim.model.eq_active0.tolist())).all()
    assert not sim.eq_active.all()  # one is off at first
    assert sim.eq_active.dtype == torch.float32  # as on engine mujoco
    for _ in range(2):
        stir(sim, generator, 0.1)
        sim.eq_active[:] = torch.rand(sim.eq_active.shape, generator=generator) < 0.5
        before, datas = sim.qvel.numpy().copy(), []
        for env in range(N):
            data = mujoco.MjData(model)
            data.qpos[:], data.qvel[:] = sim.qpos[env].numpy(), sim.qvel[env].numpy()
            data.ctrl[:], data.eq_active[:] = sim.ctrl[env].numpy(), sim.eq_active[env].numpy()
            mujoco.mj_step(model, data)
            datas.append(data)
        sim.step()
        qvel = np.stack([d.qvel for d in datas])
        change = np.abs(qvel - before).max(1, keepdims=True).clip(1)
        assert (np.abs(sim.qvel.numpy() - qvel) / change).max() < 1e-3
    sim.reset()
    assert not sim.eq_active.all()
    assert sim.eq_active.any()


def test_damping_along_branches_is_refused_with_implicitfast():
    """There MuJoCo leaves a part of it out."""
    palm = '<tendon><fixed name="all" damping="1"><joint joint="g0" coef="1"/>'
    xml = f"""<mujoco><option integrator="{{}}"/><worldbody>{gripper(0)}</worldbody>
    {palm}<joint joint="l0" coef="1"/><joint joint="r0" coef="1"/></fixed></tendon></mujoco>"""
    models = [mujoco.MjModel.from_xml_string(xml.format(x)) for x in ("Euler", "implicitfast")]
    assert why_not(models[0]) is None
    assert "along branches with implicitfast; use Euler (tendon 'all')" in why_not(models[1])
