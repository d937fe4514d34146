"""Thousands of fixed boxes, which are one ground on the fused engine, against MuJoCo C."""

import mujoco
import numpy as np
import pytest
import torch

from cuda_on_cpu import lanes_on_cpu  # noqa: F401
from phalanx import tasks
from phalanx.errors import PhalanxError
from phalanx.sim import Sim
from phalanx.sim.engines.fused import boxfields, cpu, placing, support
from phalanx.sim.engines.fused.boxfields import MANY
from phalanx.sim.engines.fused.engine import FusedEngine
from phalanx.sim.engines.fused.slower import slower
from phalanx.sim.engines.fused.source import Sizes
from phalanx.sim.engines.fused.structure import Structure
from phalanx.sim.engines.fused.values import DoesNotFit, rules_of_boxes
from test_fused import Text, exact, make, stepped
from test_fused_convex import MESHES, STONE
from test_fused_ground import errors, hills

N, STEPS, TREAD = 16, 10, 0.25
X, Y = 30.0, 20.0  # far from the world's origin, where float32 has fewer digits


def box(x, y, top, half_x, half_y, depth=0.5, more=""):
    """A box whose top is at height `top`."""
    return (
        f'<geom type="box" pos="{X + x:.9g} {Y + y:.9g} {top - depth:.9g}"'
        f' size="{half_x:.9g} {half_y:.9g} {depth:.9g}" {more}/>'
    )


def ground(seed=0, more=""):
    """Stairs, columns of random height and width, and two boxes of equal height side by side, on a
    slab below all of them."""
    rng = np.random.default_rng(seed)
    boxes = [box(0, 0, -0.1, 4, 4, 0.2, more)]
    for i in range(STEPS):
        boxes.append(box(TREAD * i, 1, 0.08 * i, TREAD / 2, 1, 0.5, more))
    for x in np.arange(-2.0, 0, 0.4):
        for y in np.arange(-2.0, 0, 0.4):
            width, depth, top = rng.uniform(0.05, 0.2), rng.uniform(0.05, 0.3), rng.uniform(0, 0.3)
            boxes.append(box(x, y, top, width, depth, 0.5, more))
    boxes += [box(0.5, -1, 0.05, 0.5, 0.5, 0.3, more), box(1.5, -1, 0.05, 0.5, 0.5, 0.3, more)]
    return "".join(boxes)


def model_of(bodies, boxes=None, option="", assets="", before=""):
    return (
        f"<mujoco><option timestep='.002' {option}/>{assets}<worldbody>{before}"
        f"{ground() if boxes is None else boxes}{bodies}</worldbody></mujoco>"
    )


def free(geom, more=""):
    """A free body that touches the ground and nothing else."""
    return (
        f'<body pos="{X} {Y} 1"><freejoint/><geom {geom} contype="0" conaffinity="1" mass="1"'
        f" {more}/></body>"
    )


SHAPES = {
    "spheres": ('size=".05"', 'size=".12"', 'size=".022" margin=".01"'),
    "capsules": ('type="capsule" size=".06 .2"', 'type="capsule" size=".03 .05" condim="4"'),
    "boxes": ('type="box" size=".1 .08 .06"', 'type="box" size=".15 .05 .02" margin=".005"'),
}
CONVEX = {
    "cylinders": ('type="cylinder" size=".1 .08"', 'type="cylinder" size=".03 .1"'),
    "ellipsoids": ('type="ellipsoid" size=".12 .08 .15"',),
    "hulls": (STONE,),
}


def top_of(model, data, x, y):
    far = mujoco.mj_ray(
        model, data, np.array([x, y, 5.0]), np.array([0, 0, -1.0]), None, 1, -1,
        np.zeros(1, np.int32), None,
    )  # fmt: skip
    return 5 - far


def dropped(sim, generator, spread=2.2):
    """Every body in or on the ground, not deeper than it is thin, turned anyhow."""
    sim.reset()
    model, data = sim.model, mujoco.MjData(sim.model)
    mujoco.mj_forward(model, data)
    moving = [g for g in range(model.ngeom) if model.geom_bodyid[g]]
    for env in range(sim.num_envs):
        for i, g in enumerate(moving):
            at = (2 * torch.rand(2, generator=generator) - 1) * spread
            size = model.geom_size[g]
            thin = min(s for s in size if s > 0)
            depth = float(torch.rand(1, generator=generator))
            x, y = X + float(at[0]), Y + float(at[1])
            z = top_of(model, data, x, y) + thin * (0.6 + 0.5 * depth)
            sim.qpos[env, 7 * i : 7 * i + 3] = torch.tensor([x, y, z])
            quat = torch.randn(4, generator=generator)
            if model.geom_type[g] == mujoco.mjtGeom.mjGEOM_CAPSULE:  # lies, not quite level
                quat = torch.tensor([1.0, 1, 0, 0]) + 0.2 * quat
            sim.qpos[env, 7 * i + 3 : 7 * i + 7] = quat / quat.norm()
    sim.qvel[:] = 2 * torch.rand(sim.qvel.shape, generator=generator) - 1


def fields_of(sim):
    """How many box fields there are."""
    return len(sim.engine._structure.box_fields)


@pytest.mark.parametrize("cone", ["pyramidal", "elliptic"])
@pytest.mark.parametrize("kind", SHAPES)
def test_shapes_touch_many_boxes_as_mujocos(kind, cone):
    sim = make(model_of("".join(map(free, SHAPES[kind])), option=f'cone="{cone}"'), N)
    assert fields_of(sim) == 1
    model, generator = exact(sim.model), torch.Generator().manual_seed(0)
    counts = []
    for _ in range(6):
        dropped(sim, generator)
        error, datas = errors(sim, model)
        assert error.max() < 5e-4
        counts += [data.ncon for data in datas]
    assert sum(counts) > 300
    assert max(counts) > 4


@pytest.mark.parametrize("kind", CONVEX)
def test_round_shapes_and_hulls_touch_many_boxes_as_mujocos(kind):
    sim = make(model_of("".join(map(free, CONVEX[kind])), assets=MESHES), N)
    assert fields_of(sim) == 1
    model, generator = exact(sim.model), torch.Generator().manual_seed(0)
    off = []
    for _ in range(6):
        dropped(sim, generator)
        error, datas = errors(sim, model)
        off.append(error.max(1)[[data.ncon > 0 for data in datas]])
    assert len(np.concatenate(off)) > 3 * N
    assert np.quantile(np.concatenate(off), 0.9) < 2e-4  # the others: see docs/physics.md


@pytest.mark.parametrize("kind", SHAPES | CONVEX)
def test_a_box_field_is_touched_as_boxes_one_by_one(kind, monkeypatch):
    text = model_of("".join(map(free, (SHAPES | CONVEX)[kind])), assets=MESHES)
    many = make(text, N)
    monkeypatch.setattr(boxfields, "MANY", 1000)
    each = make(text, N)
    assert (fields_of(many), fields_of(each)) == (1, 0)
    generator = torch.Generator()
    for k in range(4):
        for sim in (many, each):
            dropped(sim, generator.manual_seed(k))
            sim.step()
        torch.testing.assert_close(many.qvel, each.qvel, rtol=0, atol=1e-3)


BALL = 'size=".1"'
PLACED = {
    "on the seam of two boxes": (BALL, (1.0, -1.0, 0.14), 2),
    "beside the seam": (BALL, (0.99, -1.2, 0.14), 2),
    "on an edge": (BALL, (2.02, -1.0, 0.12), 1),
    "on a corner": (BALL, (2.03, -0.47, 0.12), 1),
    "against a riser": (BALL, (3 * TREAD - TREAD / 2 - 0.09, 1.0, 0.08 * 2 + 0.09), 2),
    "inside a box": (BALL, (0.5, -1.0, 0.04), 1),
    "a rod across a seam": ('type="capsule" size=".05 .2"', (1.0, -1.0, 0.09), 4),
    "a crate on a seam": ('type="box" size=".1 .1 .1"', (1.02, -1.0, 0.149), 8),
}


@pytest.mark.parametrize("name", PLACED)
def test_edges_corners_risers_and_seams_are_mujocos(name):
    geom, (x, y, z), contacts = PLACED[name]
    sim = make(model_of(free(geom)), 1)
    sim.qpos[0, :3] = torch.tensor([X + x, Y + y, z])
    if "rod" in name:
        sim.qpos[0, 3:] = torch.tensor([0.5, 0.5, 0.5, 0.5])
    sim.qvel[0, :3] = torch.tensor([0.5, 0.2, -0.3])
    error, datas = errors(sim, exact(sim.model))
    assert error.max() < 2e-4
    assert datas[0].ncon == contacts


def test_bodies_outside_of_the_grid_touch_nothing():
    sim = make(model_of("".join(map(free, SHAPES["spheres"])), boxes=ground()), N)
    for far in (40.0, -40.0, 1e6, -1e6):
        sim.reset()
        sim.qpos[:, 0::7] += far
        sim.qpos[: N // 2, 1::7] -= far
        error, _ = errors(sim, exact(sim.model))
        assert error.max() < 1e-5
    sim.qpos[0, 0] = torch.nan
    sim.step()
    assert sim.qvel[1:].isfinite().all()


def test_boxes_a_height_field_and_a_plane_touch_together():
    """Hills, boxes on them, and a plane that cuts through both."""
    plane = f'<geom type="plane" size="9 9 1" pos="{X} {Y} .2"/>'
    text = hills("elliptic", bodies="".join(map(free, SHAPES["spheres"][:2])))
    sim = make(text.replace("<body", f"{ground()}{plane}<body", 1), N)
    assert fields_of(sim) == 1
    model, generator = exact(sim.model), torch.Generator().manual_seed(3)
    kinds = set()
    for _ in range(4):
        dropped(sim, generator, 1.5)
        error, datas = errors(sim, model)
        assert error.max() < 5e-4
        for data in datas:
            kinds |= {int(g) for g in model.geom_type[data.contact.geom[:, 0]]}
            kinds |= {int(g) for g in model.geom_type[data.contact.geom[:, 1]]}
    assert {0, 1, 6} <= kinds


ROBOTS = {"Go1Velocity": 5e-4, "Go2Velocity": 5e-4, "AnymalVelocity": 5e-4, "G1Velocity": 2e-3}


class On:
    """The scene of a task without its ground, on boxes around the world's origin."""

    actors: dict = {}  # noqa: RUF012

    def __init__(self, spec):
        self.spec = spec.copy()
        for geom in self.spec.worldbody.geoms:
            self.spec.delete(geom)
        rng = np.random.default_rng(0)
        for i, x in enumerate(np.arange(-2, 2, 0.3)):
            for j, y in enumerate(np.arange(-2, 2, 0.4)):
                self.spec.worldbody.add_geom(
                    name=f"ground_{i}_{j}", type=mujoco.mjtGeom.mjGEOM_BOX,
                    pos=[x, y, -0.5 + 0.05 * i + rng.uniform(-0.03, 0.03)], size=[0.15, 0.2, 0.5],
                )  # fmt: skip

    def compile(self, memory=-1):
        return self.spec.compile()


def robot(name, num_envs=N, device="cpu", engine="fused"):
    """A robot on stairs, standing, lying or upside down, with its joints turned at random."""
    task = tasks.make(name, num_envs=num_envs, device="cpu", engine="mujoco")
    task.reset()
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape):
        return 2 * torch.rand(*shape, generator=generator) - 1

    sim = Sim(On(task.create_scene().spec), num_envs, device, engine=engine)
    sim.ctrl.copy_(task.sim.ctrl)
    qpos = task.sim.qpos.clone()
    qpos[:, :2] = 1.5 * uniform(num_envs, 2)
    qpos[:, 2] += 0.16 * qpos[:, 0] + 0.25
    qpos[:, 3:7] += torch.linspace(0, 3, num_envs)[:, None] * uniform(num_envs, 4)
    qpos[:, 3:7] /= qpos[:, 3:7].norm(dim=1, keepdim=True)
    qpos[:, 7:] += 0.2 * uniform(num_envs, qpos.shape[1] - 7)
    sim.qpos.copy_(qpos)
    sim.qvel.copy_(0.5 * uniform(sim.qvel.shape))
    return sim


@pytest.mark.parametrize("name", ROBOTS)
def test_robots_fall_on_stairs_of_boxes_as_mujocos(name):
    sim = robot(name)
    assert fields_of(sim) == 1
    model, touched, off = exact(sim.model), 0, []
    for _ in range(12):
        sim.advance(20)
        error, datas = errors(sim, model)
        off += (error.max(1) > ROBOTS[name]).tolist()
        touched += sum(data.ncon for data in datas)
    assert touched > 12 * N
    assert sum(off) <= 2  # a foot may begin 1e-7 m above a box, where MuJoCo's own force jumps


def test_a_trajectory_down_stairs_follows_mujocos():
    sim = make(model_of("".join(map(free, SHAPES["spheres"]))), N)
    dropped(sim, torch.Generator().manual_seed(1))
    model = exact(sim.model)
    datas = [stepped(model, sim, env, steps=0) for env in range(4)]
    for _ in range(10):
        sim.advance(2)
        for data in datas:
            mujoco.mj_step(model, data, 2)
    np.testing.assert_allclose(sim.qpos[:4], [d.qpos for d in datas], atol=2e-4)


def structure_of(boxes, bodies="", before=""):
    text = model_of(bodies or free('size=".1"'), boxes, before=before)
    return Structure(mujoco.MjModel.from_xml_string(text))


def row(count, more="", y=0.0):
    return "".join(box(0.2 * i, y, 0.0, 0.1, 0.1, 0.2, more) for i in range(count))


def test_what_is_a_box_field():
    few, many = structure_of(row(MANY)), structure_of(row(MANY + 1))
    assert not few.box_fields
    assert len(few.obstacles) == MANY
    assert [len(own) for own in many.box_fields.values()] == [MANY + 1]
    assert len(many.obstacles) == 1
    # two kinds of ground, boxes of which there are few, and one that is turned
    rest = row(5, 'friction=".1"', 1) + box(0, 2, 0, 0.1, 0.1, more='euler="0 0 20"')
    kinds = structure_of(row(40) + row(50, 'friction=".5"', 3) + rest)
    assert sorted(len(own) for own in kinds.box_fields.values()) == [40, 50]
    assert len(kinds.obstacles) == 2 + 6
    quarter = structure_of(row(30) + row(30, 'euler="0 90 0"', 3))
    assert [len(own) for own in quarter.box_fields.values()] == [60]


WIDE_OR_FAR = {
    "a slab of 2 km": box(0, 0, -0.1, 1000, 1000),
    "a box parked far away": box(1e5, 1e5, 0, 0.1, 0.1),
    "both": box(0, 0, -0.1, 1000, 1000) + box(-1e5, 0, 0, 0.1, 0.1),
}


@pytest.mark.parametrize("kind", WIDE_OR_FAR)
def test_a_few_boxes_that_are_wide_or_far_stand_alone_and_cells_stay_small(kind):
    more = WIDE_OR_FAR[kind]
    alone, both = structure_of(row(60)), structure_of(more + row(60))
    assert [len(own) for own in both.box_fields.values()] == [60]
    assert len(both.obstacles) == 1 + more.count("<geom")
    cells = [[grid.starts.tolist() for grid in s.grids.values()] for s in (alone, both)]
    assert cells[0] == cells[1]

    sim = make(model_of("".join(map(free, SHAPES["spheres"])), more + ground()), N)
    model, touched = exact(sim.model), 0
    for seed in range(3):
        dropped(sim, torch.Generator().manual_seed(seed), 6.0)
        error, datas = errors(sim, model)
        assert error.max() < 5e-4
        touched += sum(data.ncon for data in datas)
    assert touched > 0


def test_grids_are_no_larger_than_their_boxes_need():
    """Small boxes far apart, of 16 materials."""
    rng = np.random.default_rng(0)
    boxes = [
        box(*rng.uniform(-50, 50, 2), 0, 0.025, 0.025, more=f'friction="{0.5 + 0.01 * f}"')
        for f in range(16) for _ in range(40)
    ]  # fmt: skip
    s = structure_of("".join(boxes))
    assert len(s.grids) == 16
    assert sum(len(grid.starts) + len(grid.items) for grid in s.grids.values()) < 250 * len(boxes)


def test_all_grids_share_the_memory_of_one(monkeypatch):
    monkeypatch.setattr(boxfields, "MOST_CELLS", 200)
    rows = "".join(row(40, f'friction="{0.5 + 0.1 * f}"', f) for f in range(8))
    assert sum(len(grid.starts) - 1 for grid in structure_of(rows).grids.values()) <= 200


@pytest.mark.parametrize("half", [2e7, 1e300])
def test_counts_of_cells_do_not_overflow(half):
    slabs = f'<geom type="box" pos="0 0 -1" size="{half} {half} .9"/>' * 12
    thin = "".join(box(i, 0, 0, 0.005, 0.5) for i in range(40))
    (grid,) = structure_of(slabs + thin).grids.values()
    assert 0 < len(grid.starts) - 1 == grid.shape.prod() <= 64 * 52


def test_boxes_on_other_bodies_are_one_ground_unless_it_counts_whose_they_are():
    def fixed(name, count=1, y=0):
        return f'<body name="{name}">{row(count, y=y)}</body>'

    one_each = "".join(fixed(f"b{i}", 1, 0.2 * i) for i in range(40))
    assert [len(own) for own in structure_of(one_each).box_fields.values()] == [40]
    excluded = model_of(f'<body name="ball" pos="{X} {Y} 1"><freejoint/><geom size=".1"/></body>',
                        one_each)  # fmt: skip
    excluded = excluded.replace(
        "</mujoco>", '<contact><exclude body1="ball" body2="b3"/></contact></mujoco>'
    )
    structure = Structure(mujoco.MjModel.from_xml_string(excluded))
    assert [len(own) for own in structure.box_fields.values()] == [39]
    assert len(structure.obstacles) == 1
    structure = Structure(mujoco.MjModel.from_xml_string(excluded), shows_welds=True)
    assert not structure.box_fields


def test_turned_boxes_and_those_of_pairs_touch_one_by_one_as_mujocos():
    turned = row(40, 'euler="0 0 90"') + box(0.3, 0, 0.1, 0.1, 0.2, more='euler="5 0 20"')
    named = box(-0.4, 0, 0.05, 0.1, 0.3, more='name="own"')
    ball = free('size=".1" name="ball"')
    text = model_of(ball, turned + named).replace(
        "</mujoco>", '<contact><pair geom1="ball" geom2="own" condim="1"/></contact></mujoco>'
    )
    sim = make(text, N)
    assert len(sim.engine._structure.obstacles) == 3
    generator, touched = torch.Generator().manual_seed(0), 0
    for _ in range(3):
        dropped(sim, generator, 0.4)
        error, datas = errors(sim, exact(sim.model))
        assert error.max() < 5e-4
        touched += sum(data.ncon for data in datas)
    assert touched > N / 2


@pytest.mark.parametrize("most", [1, 7, 300])
def test_a_grid_of_few_large_cells_finds_the_same_contacts(most, monkeypatch):
    """More boxes than a grid has room for as fine as they are."""
    text = model_of("".join(map(free, SHAPES["spheres"] + SHAPES["boxes"])))
    fine = make(text, N)
    monkeypatch.setattr(boxfields, "MOST_CELLS", most)
    coarse = make(text, N)
    cells = [[len(g.starts) for g in x.engine._structure.grids.values()] for x in (fine, coarse)]
    assert cells[1][0] <= most + 1 < cells[0][0]
    for sim in (fine, coarse):
        dropped(sim, torch.Generator().manual_seed(5))
        sim.step()
    torch.testing.assert_close(fine.qvel, coarse.qvel, rtol=0, atol=1e-5)


def test_contacts_with_many_boxes_that_do_not_fit_are_not_dropped(monkeypatch):
    text = model_of("".join(map(free, SHAPES["spheres"] + SHAPES["capsules"])))
    large = make(text, N)
    monkeypatch.setattr(cpu, "SIZES", Sizes(pairs=4, rows=8, ground=1))
    small = make(text, N)
    for sim in (large, small):
        dropped(sim, torch.Generator().manual_seed(3))
        sim.step()
    assert "many fixed boxes" in small.engine.grow()
    assert torch.equal(large.qvel, small.qvel)


def test_fields_of_the_robot_and_of_all_boxes_differ_between_environments():
    sim = make(model_of(free('size=".1" name="ball"')), N)
    field = {n: sim.model_field(f"geom_{n}") for n in ("friction", "size", "solref", "pos")}
    ball = sim.model.geom("ball").id
    scale = torch.linspace(0.3, 1.5, N)
    field["friction"][:, :, 0] *= scale[:, None]  # of the ground, too
    field["solref"][:, :, 0] *= scale[:, None]
    field["size"][:, ball] *= scale[:, None]
    field["pos"][:, ball, 0] += 0.02 * scale
    sim.model_field("geom_sameframe")[:] = 0  # else MuJoCo does not look at places
    sim.set_const()
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        dropped(sim, generator)
        before = sim.qvel.numpy().copy()
        datas = [stepped(exact(sim.model_of(env)), sim, env) for env in range(N)]
        sim.step()
        qvel = np.stack([d.qvel for d in datas])
        change = np.abs(qvel - before).max(1, keepdims=True).clip(1)
        assert (np.abs(sim.qvel.numpy() - qvel) / change).max() < 5e-4
        assert sum(data.ncon for data in datas) > N / 2


OWN = {
    "geom_pos": "another place of one of many fixed boxes",
    "geom_quat": "another rotation of one of many fixed boxes",
    "geom_size": "another size of one of many fixed boxes",
    "geom_friction": "another friction of one of many fixed boxes than of the others",
    "geom_margin": "another margin of one of many fixed boxes than of the others",
}


@pytest.mark.parametrize("name", OWN)
def test_boxes_that_differ_between_environments_are_obstacles_one_by_one(name):
    boxes = row(20) + row(1, 'name="step"', 1) + row(20, y=2)
    text = model_of(free('size=".1"'), boxes)
    for sim in (make(text, 64), Sim(Text(text), 64, "cpu", engine="auto", threads=1)):
        assert fields_of(sim) == 1
        values = sim.model_field(name)
        values[:, 20] += 0.02 * torch.rand(values[:, 20].shape)
        if name == "geom_quat":
            values[:, 20] /= values[:, 20].norm(dim=-1, keepdim=True)
        sim.model_field("geom_sameframe")[:] = 0  # else MuJoCo does not look at places
        sim.qpos[:, :3] = torch.tensor([X, Y + 1, 0.097])
        sim.qvel[:, 0] = 1
        datas = [stepped(exact(sim.model_of(env)), sim, env) for env in range(8)]
        sim.step()
        assert sim.engine.name == "fused"
        assert fields_of(sim) == 0
        assert sum(data.ncon for data in datas) == 8
        np.testing.assert_allclose(sim.qvel[:8], [d.qvel for d in datas], atol=5e-4)


def test_only_boxes_of_a_ground_that_differs_become_obstacles():
    boxes = row(40) + row(50, 'friction=".5"', 3)
    sim = make(model_of(free('size=".1"'), boxes), 2)
    sim.model_field("geom_friction")[1, 60] *= 2
    sim.step()
    assert [len(own) for own in sim.engine._structure.box_fields.values()] == [40]
    assert len(sim.engine._structure.obstacles) == 1 + 50
    sim.engine._rebuild(shows_welds=True)
    assert len(sim.engine._structure.obstacles) == 1 + 50


@pytest.mark.parametrize("again", [False, True])
def test_a_state_whose_boxes_differ_or_did_continues_with_the_same_bits(again):
    text = model_of("".join(map(free, SHAPES["boxes"] + SHAPES["spheres"])))
    saved, fresh = make(text, N), make(text, N)
    friction = saved.model_field("geom_friction")
    before = saved.state_dict()
    friction[1, 3] *= 2
    saved.step()
    if again:
        friction[1, 3] /= 2
    dropped(saved, torch.Generator().manual_seed(0))
    saved.advance(3)
    fresh.load_state_dict(saved.state_dict())
    for sim in (saved, fresh):
        sim.advance(10)
    assert torch.equal(saved.qpos, fresh.qpos)
    saved.load_state_dict(before)
    saved.step()
    assert fields_of(saved) == 1


@pytest.mark.parametrize("name", OWN)
def test_a_field_of_one_box_of_too_many_is_refused(name, monkeypatch):
    monkeypatch.setattr(support, "OBSTACLES", 40)
    boxes = row(20) + row(1, 'name="step"', 1) + row(20, y=2)
    text = model_of(free('size=".1"'), boxes)
    sim, auto = make(text, 2), Sim(Text(text), 64, "cpu", engine="auto")
    for some in (sim, auto):
        values = some.model_field(name)
        values[1, 20] += 0.01
        if name == "geom_quat":
            values[1, 20] /= values[1, 20].norm()
    with pytest.raises(PhalanxError, match=rf"{OWN[name]} \(geom 'step'\)"):
        sim.step()
    auto.step()
    assert OWN[name] in auto.engine.reason
    sim.model_field(name)[1, 20] = sim.model_field(name)[0, 20]
    sim.step()


def test_places_of_bodies_with_too_many_boxes_are_refused(monkeypatch):
    boxes = f'<body name="stairs">{row(40)}</body>'
    sim, small = (make(model_of(free('size=".1"'), boxes), 2) for _ in range(2))
    small.model_field("body_pos")[1, 1, 2] += 0.1
    small.step()
    assert fields_of(small) == 0
    monkeypatch.setattr(support, "OBSTACLES", 39)
    sim.model_field("body_pos")[1, 1, 2] += 0.1
    with pytest.raises(PhalanxError, match=r"another place of many fixed boxes \(body 'stairs'\)"):
        sim.step()


def as_on_a_gpu(engine):
    """It does not wait for what model fields have, but notes it."""
    engine._by_version = True
    on = placing.Device(torch.device("cpu"))
    engine._box_rules = list(rules_of_boxes(engine._structure, on))


def test_a_gpu_notes_fields_of_one_box_and_refuses_them_at_the_next_step(monkeypatch):
    """It does not wait in a graph; the next step or reading raises."""
    monkeypatch.setattr(support, "OBSTACLES", 39)
    sim = make(model_of(free('size=".1"'), row(40)), 2)
    engine = sim.engine
    as_on_a_gpu(engine)
    friction = sim.model_field("geom_friction")
    friction *= 0.5
    sim.step()
    assert engine.grow() is None
    friction[1, 3] *= 2
    engine.update_tables()
    for look in (engine.grow, sim.step):
        with pytest.raises(PhalanxError, match=r"than of the others \(geom 3\)"):
            look()
    friction[1, 3] /= 2
    sim.step()


def test_a_gpu_makes_boxes_that_differ_obstacles_unless_a_graph_has_the_step():
    sim, replayed = (make(model_of(free('size=".1"'), row(40)), 2) for _ in range(2))
    for some in (sim, replayed):
        as_on_a_gpu(some.engine)
        some.model_field("geom_friction")[1, 3] *= 2
    sim.step()
    assert fields_of(sim) == 0
    replayed.engine.captured = True
    with pytest.raises(PhalanxError, match=r"than of the others \(geom 3\)"):
        replayed.step()


def test_a_gpu_forgets_fields_that_were_mended_before_a_step_had_them(monkeypatch):
    monkeypatch.setattr(support, "OBSTACLES", 39)
    sim = make(model_of(free('size=".1"'), row(40)), 2)
    as_on_a_gpu(sim.engine)
    friction, size = sim.model_field("geom_friction"), sim.model_field("geom_size")
    friction[1, 3] *= 2
    sim.take_model_fields()
    friction[1, 3] /= 2
    sim.step()
    friction[1, 3] *= 2
    sim.take_model_fields()
    size *= 1  # written to, and fits
    with pytest.raises(PhalanxError, match=r"than of the others \(geom 3\)"):
        sim.step()
    sim.engine._replayed.fill_(True)  # a step has been replayed in a graph
    sim.take_model_fields()
    friction[1, 3] /= 2
    with pytest.raises(PhalanxError, match="one of many fixed boxes"):
        sim.step()
    sim.step()


def test_boxes_that_differ_stay_refused_if_a_step_with_them_cannot_be_built(monkeypatch):
    text = Text(model_of(free('size=".1"'), row(40)))
    sim, auto = Sim(text, 64, "cpu", engine="fused"), Sim(text, 64, "cpu", engine="auto")
    whole, build = fields_of(sim), FusedEngine._build

    def full(engine):
        if not engine._structure.box_fields:
            raise PhalanxError("more than this GPU holds")
        build(engine)

    monkeypatch.setattr(FusedEngine, "_build", full)
    for some in (sim, auto):
        some.model_field("geom_friction")[1, 3] *= 2
    with pytest.raises(PhalanxError, match=r"than of the others \(geom 3\)"):
        sim.step()
    auto.step()
    assert auto.engine.name == "mujoco"
    sim.model_field("geom_friction")[1, 3] /= 2
    sim.step()
    assert fields_of(sim) == whole == 1


def test_what_a_gpu_notes_in_a_graph_does_not_compile_a_hook_again():
    sim = make(model_of(free('size=".1"'), row(40)), 2)
    as_on_a_gpu(sim.engine)
    friction = sim.model_field("geom_friction")
    friction *= 0.5
    sim.step()

    @torch.compile(backend="eager")
    def hook():
        friction.mul_(0.9)
        sim.engine.update_tables()

    hook()
    hook()
    sim.engine.captured = True
    sim.engine._replayed.fill_(True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        hook()


def test_auto_leaves_the_fused_engine_where_it_reads_that_boxes_differ(monkeypatch):
    monkeypatch.setattr(support, "OBSTACLES", 39)
    sim = Sim(Text(model_of(free('size=".1"'), row(40))), 64, "cpu", engine="auto")
    as_on_a_gpu(sim.engine._engine)
    sim.model_field("geom_friction")[1, 3] *= 2
    sim.take_model_fields()
    assert sim.engine.name == "fused"
    assert sim.engine.grow() is None
    assert sim.engine.name == "mujoco"
    assert "than of the others (geom 3)" in sim.engine.reason


def test_many_boxes_one_by_one_are_left_to_mujoco_on_a_cpu():
    found = []
    for count in (166, 167):
        turned = row(count, 'euler="0 0 5"')
        structure = structure_of(
            turned, "".join(free(f'size="{0.1 + 0.001 * i}"') for i in range(60))
        )
        found.append([slower(structure, device) for device in ("cpu", "cuda")])
    (few, _), (many, on_gpu) = found
    assert few is on_gpu is None
    assert "slower on a CPU with 10020 pairs of geoms of which one is fixed" in many


def test_auto_leaves_cylinders_on_many_boxes_to_mujoco_on_a_cpu():
    for kind, left in (("cylinders", True), ("ellipsoids", True), ("boxes", False)):
        geom = (CONVEX | SHAPES)[kind][0]
        sim = Sim(Text(model_of(free(geom))), 64, "cpu", engine="auto", threads=1)
        assert (f"slower on a CPU with {kind} on many fixed boxes" in sim.engine.reason) == left


def test_lanes_step_on_many_boxes_as_one_lane_does(request):
    one = robot("Go2Velocity", 4)
    request.getfixturevalue("lanes_on_cpu")
    many = robot("Go2Velocity", 4)
    assert many.engine._lanes.count > 1
    off = []
    for _ in range(10):
        one.advance(20)
        for name in ("qpos", "qvel", "ctrl"):
            getattr(many, name).copy_(getattr(one, name))
        for sim in (one, many):
            sim.advance(1)
        off += ((one.qvel - many.qvel).abs().amax(1) > 2e-3).tolist()
        assert one.qfrc_constraint.any()
    assert sum(off) <= 1


@pytest.mark.parametrize("margin", [-0.05, -0.3])
def test_a_margin_below_zero_is_mujocos(margin):
    shapes = 'size=".1"', 'type="box" size=".1 .2 .3"'
    text = Text(model_of("".join(free(f'{shape} margin="{margin}"') for shape in shapes)))
    ours, theirs = (Sim(text, 64, "cpu", engine=name) for name in ("fused", "mujoco"))
    dropped(theirs, torch.Generator().manual_seed(0))
    for name in ("qpos", "qvel"):
        getattr(ours, name).copy_(getattr(theirs, name))
    ours.step()
    theirs.step()
    assert ((ours.qvel - theirs.qvel).abs() > 1e-3 * theirs.qvel.abs().amax()).float().mean() < 0.01


@pytest.mark.parametrize("engine", ["auto", "fused"])
def test_a_step_that_grows_too_large_is_left_and_took_no_time(monkeypatch, engine):
    monkeypatch.setattr(cpu, "SIZES", Sizes(pairs=4, rows=8, ground=1))
    make, made = cpu.CpuStep, []

    def step(text, threads):
        made.append(text)
        if len(made) == 2:
            raise DoesNotFit("it would take 80 GiB; use another engine")
        return make(text, threads)

    monkeypatch.setattr(cpu, "CpuStep", step)
    text = Text(model_of("".join(map(free, SHAPES["boxes"]))))
    sim, theirs = Sim(text, 64, "cpu", engine=engine), Sim(text, 64, "cpu", engine="mujoco")
    dropped(sim, torch.Generator().manual_seed(0))
    before = {name: getattr(sim, name).clone() for name in ("qpos", "qvel", "time")}
    for name in ("qpos", "qvel"):
        getattr(theirs, name).copy_(before[name])
    if engine == "fused":
        with pytest.raises(PhalanxError, match="80 GiB"):
            sim.step()
        assert all(torch.equal(getattr(sim, name), value) for name, value in before.items())
        return
    sim.step()
    theirs.step()
    assert sim.engine.name == "mujoco"
    assert sim.engine.reason == "it would take 80 GiB"
    assert torch.equal(sim.qvel, theirs.qvel)
