"""isaacgym: shapes from mesh files: where the files lie, which sizes actors may have."""

import math

import numpy as np
import pytest

import isaacgym.physics
from isaac import GYM, World, pose
from isaacgym import asset as assets
from isaacgym import gymapi, gymtorch
from isaacgym.mesh_stand_ins import SDF, URDF

VERTICES = [(x, y, z) for x in (-0.05, 0.05) for y in (-0.05, 0.05) for z in (-0.05, 0.05)]
FACES = ["1 2 4 3", "5 7 8 6", "1 5 6 2", "3 4 8 7", "1 3 7 5", "2 6 8 4"]
CUBE = "".join(f"v {x} {y} {z}\n" for x, y, z in VERTICES) + "".join(f"f {f}\n" for f in FACES)
BODY = """<robot name="o"><link name="o"><inertial><mass value="0.05"/>
  <inertia ixx="1e-4" iyy="1e-4" izz="1e-4"/></inertial>
  <visual><geometry><mesh filename="meshes/cube.obj"/></geometry></visual>
  <collision><geometry>{shape}</geometry></collision></link></robot>"""


@pytest.mark.parametrize("shape", ['<sphere radius="0.05"/>', '<box size="0.1 0.1 0.1"/>'])
def test_an_actor_with_a_mesh_that_is_only_drawn_may_have_any_size(tmp_path, shape):
    """The mesh lies beside the folder of the URDF. A scale of s lifts the centre to 0.05 s."""
    for folder in ("meshes", "urdf"):
        (tmp_path / folder).mkdir()
    (tmp_path / "meshes" / "cube.obj").write_text(CUBE)
    world = World(dt=0.005)
    world.ground()
    asset = world.load(tmp_path, "urdf/o.urdf", BODY.format(shape=shape))
    scales = [0.5, 1.0, 1.5]
    for k, scale in enumerate(scales):
        GYM.create_actor(world.env(), asset, pose(z=0.1), "o", k, 0, 0)
        GYM.set_actor_scale(world.envs[k], 0, scale)
    world.step(200)
    heights = world.tensor("actor_root_state")[:, 2].tolist()
    assert heights == pytest.approx([0.05 * s for s in scales], abs=1e-3)


def test_a_file_is_read_once_until_its_text_changes(tmp_path, monkeypatch):
    """As programs load each object, and again as its goal, which floats. Density is the only option
    here that reading depends on."""
    reads = []
    read = assets.load_robot
    monkeypatch.setattr(assets, "load_robot", lambda *a, **k: reads.append(a) or read(*a, **k))
    world = World()
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes" / "cube.obj").write_text(CUBE)
    text = BODY.format(shape='<sphere radius="0.05"/>')
    thing = world.load(tmp_path, "o.urdf", text)
    goal = world.load(tmp_path, "o.urdf", text, disable_gravity=True)
    assert len(reads) == 1
    assert [a.bodies["flags"][0] for a in (thing, goal)] == [0, 1]
    world.load(tmp_path, "o.urdf", text, density=500.0)
    heavy = world.load(tmp_path, "o.urdf", text.replace('"0.05"/>\n', '"0.07"/>\n', 1))
    assert len(reads) == 3
    assert [a.bodies["mass"][0] for a in (thing, heavy)] == pytest.approx([0.05, 0.07])
    for k, asset in enumerate((thing, goal)):
        GYM.create_actor(world.env(), asset, pose(z=1.0), "o", k, 0, 0)
    world.step(5)
    heights = world.tensor("actor_root_state")[:, 2]
    assert heights[0] < 0.999 < heights[1]


PEG = """<robot name="peg"><link name="peg"><inertial><mass value="1"/>
  <inertia ixx="1e-3" iyy="1e-3" izz="1e-3"/></inertial>
  <collision><origin xyz="0 0 0.03"/><geometry><cylinder radius="0.008" length="0.06"/></geometry>
  </collision></link></robot>"""
RING = """<robot name="ring"><link name="ring"><inertial><mass value="0.02"/>
  <inertia ixx="5e-6" iyy="5e-6" izz="1e-5"/></inertial>
  <collision><geometry><mesh filename="ring.obj"/></geometry>{sdf}</collision></link></robot>"""


def ring(sides=12):
    """OBJ of a ring 10 mm high, with a hole of radius 12 mm and an edge of 30 mm."""
    turns = [2 * math.pi * k / sides for k in range(sides)]
    rows = [(z, r) for z in (-0.005, 0.005) for r in (0.012, 0.03)]  # inside and outside, twice
    lines = [f"v {r * math.cos(a)} {r * math.sin(a)} {z}" for z, r in rows for a in turns]
    for k in range(1, sides + 1):
        after = k % sides + 1
        for first, second in ((1, 3), (2, 0), (3, 2), (0, 1)):  # out, in, top, bottom
            corners = (first, k), (first, after), (second, after), (second, k)
            lines.append("f " + " ".join(str(row * sides + n) for row, n in corners))
    return "\n".join(lines)


def test_a_ring_slides_down_a_peg_if_the_program_asks_for_convex_parts(
    tmp_path, monkeypatch, caplog
):
    """Around the peg the ring's centre comes to lie at half its height, 5 mm. A convex hull has no
    hole and stays on top of the peg, at 65 mm."""
    pytest.importorskip("coacd", reason="needs phalanx[decompose]")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ring.obj").write_text(ring())
    world = World(dt=1 / 120)
    world.ground()
    peg = world.load(tmp_path, "peg.urdf", PEG, fix_base_link=True)
    sdf = RING.format(sdf='<sdf resolution="256"/>')
    rings = [
        world.load(tmp_path, "sdf.urdf", sdf),
        world.load(tmp_path, "vhacd.urdf", RING.format(sdf=""), vhacd_enabled=True),
        world.load(tmp_path, "plain.urdf", RING.format(sdf="")),
    ]
    assert [len(asset.shapes) > 6 for asset in rings] == [True, True, False]
    for k, asset in enumerate(rings):
        GYM.create_actor(world.env(), peg, pose(), "peg", k, 0, 0)
        GYM.create_actor(world.envs[-1], asset, pose(z=0.07), "ring", k, 0, 0)
    world.step(90)
    heights = world.tensor("actor_root_state")[1::2, 2].tolist()
    assert heights == pytest.approx([0.005, 0.005, 0.065], abs=1e-3)
    assert "once" not in caplog.text  # it is made of layers, so nothing is searched
    few = gymapi.VhacdParams()
    few.max_convex_hulls = 4
    asset = world.load(
        tmp_path, "v.urdf", RING.format(sdf=""), vhacd_enabled=True, vhacd_params=few
    )
    assert len(asset.shapes) == 4
    monkeypatch.setattr(assets, "find_spec", lambda name: None)
    held = world.load(tmp_path, "vhacd.urdf", RING.format(sdf=""), vhacd_enabled=True)
    assert len(held.shapes) == 1
    assert "pip install 'phalanx[decompose]'" in caplog.text


TABLE = """<robot name="t"><link name="t"><inertial><mass value="2"/>
  <inertia ixx="0.02" iyy="0.02" izz="0.02"/></inertial>
  <collision><origin xyz="-0.1 0 0"/><geometry><mesh filename="{mesh}"/></geometry></collision>
  <collision><origin xyz="0.1 0 0"/><geometry><mesh filename="{mesh}"/></geometry></collision>
  </link></robot>"""


def foot(height, lean):
    """OBJ of a foot that is wider below than above, where its origin is, as for a texture."""
    rows = [(-height, 0.06, lean), (0.0, 0.03, 0.0)]
    corners = [(x, y) for x in (-0.5, 0.5) for y in (-0.5, 0.5)]
    lines = [f"v {w * x + dx} {w * y} {z}" for z, w, dx in rows for x, y in corners]
    lines += [f"vt {(1 + k) / 10} 0.5" for k in range(8)]
    faces = "134 142 568 587 126 165 378 384 157 173 248 286".split()
    return "\n".join([*lines, *(f"f {a}/{a} {b}/{b} {c}/{c}" for a, b, c in faces)])


@pytest.mark.parametrize("engine", ["mujoco", "warp"])
def test_environments_with_other_meshes_are_copies_of_one_model(tmp_path, monkeypatch, engine):
    """A table stands on two feet; its origin is as high as they are. The meshes' own frames differ,
    since the feet lean by different amounts. One foot in twice its size is another mesh."""
    monkeypatch.setattr(isaacgym.physics, "ENGINE", engine)
    world = World(dt=0.005)
    world.ground()
    feet = [(0.05, 0.0, 1.0), (0.15, 0.04, 1.0), (0.08, -0.03, 1.0), (0.08, -0.03, 2.0)]
    for k, (height, lean, scale) in enumerate(feet):
        (tmp_path / f"{height}.obj").write_text(foot(height, lean))
        table = world.load(tmp_path, f"{height}.urdf", TABLE.format(mesh=f"{height}.obj"))
        at = pose(z=height * scale + 0.002)
        GYM.create_actor(world.env(), table, at, "table", k, 0, 0)
        GYM.set_actor_scale(world.envs[k], 0, scale)
    GYM.prepare_sim(world.sim)
    assert len(world.sim.physics.groups) == 1
    contact = world.tensor("net_contact_force")
    world.step(100)
    heights = [height * scale for height, _, scale in feet]
    roots = world.tensor("actor_root_state")
    assert roots[:, 2].tolist() == pytest.approx(heights, abs=1e-3)
    assert abs(roots[:, 3:6]).max() < 5e-3  # upright
    world.tensor("net_contact_force")
    assert contact[:, 2].tolist() == pytest.approx([2 * 9.81 * s**3 for _, _, s in feet], rel=1e-2)
    GYM.set_actor_scale(world.envs[0], 0, 3.0)  # a mesh that the model does not have yet
    raised = world.tensor("actor_root_state")
    raised[0, 2] = 0.152
    GYM.set_actor_root_state_tensor(world.sim, gymtorch.unwrap_tensor(raised))
    world.step(100)
    assert world.tensor("actor_root_state")[0, 2] == pytest.approx(0.15, abs=1e-3)


def test_stand_ins_for_pysdf_and_urdfpy_measure_a_cube(tmp_path):
    """A cube of 0.2 m, its centre at (1, 0, 0) in the link: the centre is 0.1 m inside, (1, 0, 0.3)
    is 0.2 m outside, and so is a point 0.2 m from a corner."""
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes" / "cube.obj").write_text(CUBE)
    shape = '<mesh filename="meshes/cube.obj" scale="2 2 2"/></geometry><origin xyz="1 0 0"/>'
    (tmp_path / "o.urdf").write_text(
        BODY.format(shape=f"{shape}<geometry>").replace("<geometry></geometry>", "")
    )
    (link,) = URDF.load(str(tmp_path / "o.urdf")).links
    mesh = link.collision_mesh
    assert (link.name, mesh.volume) == ("o", pytest.approx(0.008, rel=1e-5))
    sdf = SDF(mesh.vertices, mesh.faces)
    corner = 0.1 + 0.2 / math.sqrt(3)
    points = np.array([[1, 0, 0], [1, 0, 0.3], [1 + corner, corner, corner]])
    assert sdf(points).tolist() == pytest.approx([0.1, -0.2, -0.2], abs=1e-5)
    assert sdf.contains(points).tolist() == [True, False, False]
