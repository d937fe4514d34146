"""Cylinders, ellipsoids and hulls on the fused engine, against MuJoCo C.

MuJoCo makes one contact or up to four, depending on how shapes lie on each other, and decides that
with tolerances: in a few random states rounding decides otherwise, so some steps may differ.
"""

import ctypes

import mujoco
import numpy as np
import pytest
import torch

import cuda_on_cpu
from cuda_on_cpu import lanes_on_cpu  # noqa: F401
from phalanx.sim import Sim
from phalanx.sim.engines.fused import why_not
from phalanx.sim.engines.fused.slower import WARP, _near, _poses, slower
from phalanx.sim.engines.fused.structure import Structure
from test_fused import (
    GROUND,
    N,
    Text,
    between_trees,
    exact,
    make,
    on_obstacles,
    resting,
    stepped,
    stir,
)

CORNERS = np.random.default_rng(0).normal(size=(30, 3))
CORNERS *= np.array([0.14, 0.1, 0.12]) / np.linalg.norm(CORNERS, axis=1, keepdims=True)
MESHES = '<asset><mesh name="stone" vertex="{}"/><mesh name="brick" vertex="{}"/></asset>'.format(
    " ".join(f"{x:.5f}" for x in CORNERS.ravel()),
    " ".join(
        f"{x * 0.2 - 0.1} {y * 0.3 - 0.15} {z * 0.1}"
        for x in (0, 1)
        for y in (0, 1)
        for z in (0, 1)
    ),
)
STONE, BRICK = 'type="mesh" mesh="stone"', 'type="mesh" mesh="brick"'
CAPSULE, BOX = 'type="capsule" size=".06 .2"', 'type="box" size=".2 .1 .05"'
CYLINDER, DISC = 'type="cylinder" size=".1 .12"', 'type="cylinder" size=".15 .06"'
EGG, LENS = 'type="ellipsoid" size=".08 .1 .14"', 'type="ellipsoid" size=".2 .1 .05"'
PAIRS = {
    "a capsule and a cylinder": (CAPSULE, DISC),
    "two cylinders": (CYLINDER, f'{DISC} condim="4"'),
    "a cylinder and a box": (CYLINDER, BOX),
    "a sphere and an ellipsoid": ('size=".13"', LENS),
    "a capsule and an ellipsoid": (CAPSULE, f'{LENS} condim="6"'),
    "two ellipsoids": (EGG, f'{LENS} margin=".01"'),
    "an ellipsoid and a cylinder": (EGG, DISC),
    "an ellipsoid and a box": (EGG, f'{BOX} margin=".01"'),
    "a sphere and a hull": ('size=".13"', STONE),
    "a capsule and a hull": (CAPSULE, f'{STONE} margin=".01"'),
    "an ellipsoid and a hull": (EGG, STONE),
    "a cylinder and a hull": (CYLINDER, STONE),
    "a box and a hull": ('type="box" size=".1 .12 .08"', f'{STONE} margin=".01"'),
    "two hulls": (BRICK, STONE),
    "two bricks": (BRICK, BRICK),
}
SPREADS = (0.5, 0.3, 0.1, 0.02)
LEVEL = ("two cylinders", "a cylinder and a box")
"""Level in the last two spreads: then any four of 16 corners of a circle have the most area."""
GROUNDED = {
    "an ellipsoid": 'type="ellipsoid" size=".2 .25 .19" pos="0 0 -.05"',
    "a stone": f'{STONE} pos="0 0 -.15" margin=".02"',
    "a brick": f'{BRICK} pos="0 0 -.25"',
}


def grounded():
    only = 'contype="1" conaffinity="0"'
    bodies = [resting(f"<geom {geom} {only}/>")[0] for geom in GROUNDED.values()]
    text = f"<mujoco><worldbody>{GROUND('')}{''.join(bodies)}</worldbody></mujoco>"
    return list(GROUNDED), text


MODELS = {
    "between bodies": between_trees(PAIRS),
    "on what is fixed": on_obstacles(dict(list(PAIRS.items())[::4])),
    "on a plane": grounded(),
}


@pytest.mark.parametrize("name", MODELS)
def test_convex_shapes_touch_as_mujocos(name):
    features, xml = MODELS[name]
    sim = make(xml.replace("<worldbody>", f"{MESHES}<worldbody>", 1))
    model, generator = exact(sim.model), torch.Generator().manual_seed(0)
    tree, touched = model.dof_treeid, np.zeros(len(features))
    errors = []
    for spread in SPREADS:
        stir(sim, generator, spread)
        before = sim.qvel.numpy().copy()
        datas = [stepped(model, sim, env) for env in range(N)]
        sim.step()
        qvel = np.stack([d.qvel for d in datas])
        for i, _ in enumerate(features):
            own = tree == i
            change = np.abs(qvel - before)[:, own].max(1).clip(1)
            errors.append(np.abs(sim.qvel.numpy() - qvel)[:, own].max(1) / change)
            touched[i] += sum(np.abs(d.qfrc_constraint[own]).max() > 0 for d in datas)
    assert (touched > N // 3).all(), dict(zip(features, touched, strict=True))
    off = np.stack(errors).reshape(len(SPREADS), len(features), N) > 1e-4
    off[2:, [feature in LEVEL for feature in features]] = False
    assert off.mean() < 0.02
    assert (off.mean((0, 2)) < 0.1).all(), dict(zip(features, off.sum((0, 2)), strict=True))


NEAREST = """
extern "C" void nearest_of(const double *sizes, const double *places, long count, double *out) {
  for (long k = 0; k < count; k++) {
    Shape s[2];
    Nearest f = {};
    for (int i = 0; i < 2; i++) {
      s[i].kind = CYLINDER_SHAPE, s[i].corner = 0, s[i].radius = 0;
      for (int j = 0; j < 9; j++) s[i].R[j] = j % 4 == 0;
      for (int j = 0; j < 3; j++) s[i].centre[j] = i * places[3 * k + j];
      for (int j = 0; j < 3; j++) s[i].size[j] = sizes[6 * k + 3 * i + j];
    }
    nearest(s[0], s[1], 0, 0.1, f);
    out[3 * k] = f.dist, out[3 * k + 1] = dot3(f.n, f.n), out[3 * k + 2] = overlap(s[0], s[1], f.n);
  }
}
"""


def test_a_distance_and_its_direction_are_of_one_step_of_gjk(lanes_on_cpu, monkeypatch):  # noqa: F811
    """Cylinders end on end, where GJK comes to its last digits."""
    monkeypatch.setattr(cuda_on_cpu, "ENTRY", cuda_on_cpu.ENTRY + NEAREST)
    sim = make(MODELS["on what is fixed"][1].replace("<worldbody>", f"{MESHES}<worldbody>", 1), 1)
    rng, count = np.random.default_rng(0), 500
    sizes = rng.uniform(0.3, 1, (count, 2, 3))
    depth = rng.choice([0.005, 0.2], count)
    places = np.column_stack([rng.uniform(-0.2, 0.2, (count, 2)), sizes[..., 1].sum(1) - depth])
    out = np.zeros((count, 3))
    pointers = [x.ctypes.data_as(ctypes.c_void_p) for x in (sizes, places)]
    library = sim.engine._step._library
    library.nearest_of(*pointers, ctypes.c_long(count), out.ctypes.data_as(ctypes.c_void_p))
    dist, square, over = out.T
    np.testing.assert_allclose(square, 1, atol=1e-9)
    np.testing.assert_allclose(dist, -over, atol=1e-6)
    np.testing.assert_allclose(dist, -depth, atol=1e-6)


def test_auto_leaves_many_convex_pairs_to_mujoco():
    cans = "".join(
        f'<body pos="{i} 0 1"><freejoint/><geom type="cylinder" size=".1 .1"/></body>'
        for i in range(15)
    )
    model = f"<mujoco><worldbody>{cans}</worldbody></mujoco>"
    sim = Sim(Text(model), 64, "cpu", engine="auto", threads=1)
    assert "slower with 105 pairs of convex shapes, more than 10" in sim.engine.reason
    assert why_not(sim.model) is None


def hand(span, radius=0.12):
    """Six cylinders around a sphere, whose hinges turn by `span` degrees at most."""
    fingers = "".join(
        f"""<body pos="{radius * np.cos(k)} {radius * np.sin(k)} 0" euler="0 0 {np.rad2deg(k)}">
        <joint axis="0 1 0" range="-{span} {span}"/>
        <geom type="cylinder" size=".04 .15" pos="0 0 .2"/></body>"""
        for k in np.arange(6) * np.pi / 3
    )
    palm = "<body pos='0 0 1'><freejoint/><geom size='.05'/>"
    return f"<mujoco><worldbody>{palm}{fingers}</body></worldbody></mujoco>"


@pytest.mark.parametrize(("span", "left"), [("5", False), ("90", True)])
def test_auto_leaves_a_robot_whose_convex_shapes_often_touch_to_mujoco(span, left):
    sim = Sim(Text(hand(span)), 64, "cpu", engine="auto", threads=1)
    assert ("of 15 pairs of convex shapes touch" in sim.engine.reason) == left


@pytest.mark.parametrize(("radius", "left"), [(0.12, True), (0.16, True), (0.18, False)])
def test_auto_leaves_a_robot_whose_convex_shapes_come_near_each_other_to_warp(radius, left):
    structure = Structure(mujoco.MjModel.from_xml_string(hand("20", radius)))
    near = _near(structure, structure.pairs)
    reason = slower(structure, "cuda") or ""
    assert (f"{near} of 15 pairs of convex shapes are near each other" in reason) == left
    assert slower(structure, "cpu") is None
    boxes = hand("20", radius).replace("cylinder", "box").replace(".04 .15", ".04 .04 .15")
    model = mujoco.MjModel.from_xml_string(boxes)
    touching = set()
    for data in _poses(model, WARP):
        mujoco.mj_fwdPosition(model, data)
        touching |= {tuple(geoms) for geoms in data.contact.geom.tolist()}
    assert near == len(touching)


def test_what_convex_shapes_need_is_named():
    """A mesh without its hull cannot come from MuJoCo's compiler, so it is taken away."""
    model = mujoco.MjModel.from_xml_string(
        MODELS["between bodies"][1].replace("<worldbody>", f"{MESHES}<worldbody>", 1)
    )
    assert why_not(model) is None
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_NATIVECCD
    assert "libccd" in why_not(model)
    model.opt.disableflags = 0
    model.mesh_graphadr[0] = -1
    assert "without a convex hull (geom" in why_not(model)
