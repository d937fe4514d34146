"""isaacgym: height fields and meshes of the ground carry, stop and let slide what touches them."""

import math
import time

import mujoco
import numpy as np
import pytest
import torch

import isaacgym.physics
from isaac import GYM, World, options, params, pose
from isaacgym import ground, gymapi, gymtorch, terrain_utils
from isaacgym.contact_points import points_of
from isaacgym.terrain import Piece
from isaacgym.world import Ground
from phalanx.errors import PhalanxError
from phalanx.sim.engines import make_engine
from phalanx.sim.engines.auto import AutoEngine

G = 9.81
SLOPE = 0.2  # m each m
WALL = 3.0  # its upper edge, one cell beyond the lower one
TURN = gymapi.Quat.from_axis_angle(gymapi.Vec3(0, 0, 1), math.pi / 2)
SHIFT = gymapi.Vec3(-1, 2, 0.25)


@pytest.mark.parametrize("wrong", ["x", None, 10**400, [10**400], [math.nan], [[1], [2, 3]]])
def test_a_ground_of_no_numbers_is_refused(wrong):
    world, mesh = World(), gymapi.TriangleMeshParams()
    mesh.nb_vertices, mesh.nb_triangles = 3, 1
    right = (np.eye(3, dtype=np.float32).ravel(), np.arange(3, dtype=np.uint32))
    for given in ((wrong, right[1]), (right[0], wrong)):
        with pytest.raises(PhalanxError, match=r"^gym.add_triangle_mesh[^\n]*$"):
            GYM.add_triangle_mesh(world.sim, *given, mesh)


def test_a_mesh_of_small_integers_is_that_of_the_same_floats():
    """A slope down along x whose differences, computed in bytes, would wrap around."""
    points = np.uint8([[0, 0, 8], [4, 0, 0], [4, 4, 0], [0, 4, 8], [5, 5, 0], [6, 5, 0], [5, 6, 0]])
    given = gymapi.TriangleMeshParams()
    given.nb_vertices, given.nb_triangles = len(points), 3
    corners = np.uint32([0, 1, 2, 0, 2, 3, 4, 5, 6])
    piece = ground.triangle_mesh(points.ravel(), corners, given)
    ground.settle(piece, params())
    assert piece.heights[:5, 0].tolist() == [8, 6, 4, 2, 0]


def slope_and_step() -> np.ndarray:
    """6 m x 4 m in cells of 0.1 m, units of 5 mm: a slope up along x, beside a step of 0.3 m."""
    x = np.arange(61)[:, None] * 0.1 + np.zeros(41)
    slope, step = SLOPE * x, np.where(x > WALL - 0.01, 0.3, 0.0)
    return np.rint(np.where(np.arange(41) < 20, slope, step) / 0.005).astype(np.int16)


def add_heightfield(world: World, heights: np.ndarray, friction: float = 1.0) -> None:
    """Turned by 90 degrees and shifted, so that nothing lies along the world's axes by chance."""
    held = gymapi.HeightFieldParams()
    held.nbColumns, held.nbRows = heights.shape
    held.row_scale = held.column_scale = 0.1
    held.vertical_scale = 0.005
    held.dynamic_friction = held.static_friction = friction
    held.transform = gymapi.Transform(SHIFT, TURN)
    GYM.add_heightfield(world.sim, heights, held)


def at(x: float, y: float, z: float, tilt: float = 0.0) -> gymapi.Transform:
    """A pose in the frame of the height field; tilted up along x."""
    up = gymapi.Quat.from_axis_angle(gymapi.Vec3(0, 1, 0), -tilt)
    return gymapi.Transform(SHIFT + TURN.rotate(gymapi.Vec3(x, y, z)), TURN * up)


def local(roots: torch.Tensor) -> np.ndarray:
    """Positions (..., 3) of root states in the frame of the height field."""
    shifted = roots[..., :3].numpy() - [*SHIFT]
    return np.stack([shifted[..., 1], -shifted[..., 0], shifted[..., 2]], -1)


ROLLED = gymapi.Quat.from_axis_angle(gymapi.Vec3(1, 0, 0), math.pi / 2)


def let_y_point_up(world: World) -> None:
    held = GYM.get_sim_params(world.sim)
    held.up_axis, held.gravity = gymapi.UP_AXIS_Y, gymapi.Vec3(0, -G, 0)
    GYM.set_sim_params(world.sim, held)


@pytest.mark.parametrize("up", ["y", "z"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_height_field_lies_by_its_own_axes(up, turned):
    """It is checked when the content is fixed, as gravity may change until then."""
    world, field = World(dt=0.005), gymapi.HeightFieldParams()
    field.nbColumns = field.nbRows = 2
    field.column_scale = field.row_scale = 4.0
    turn = ROLLED.inverse() if turned else gymapi.Quat()
    field.transform.r = turn
    GYM.add_heightfield(world.sim, np.zeros((2, 2), np.int16), field)
    if up == "y":
        let_y_point_up(world)
    box = GYM.create_box(world.sim, 0.2, 0.2, 0.2, options())
    GYM.create_actor(world.env(), box, gymapi.Transform(r=turn) * pose(1.0, 2.0, 0.11), "box")
    if turned != (up == "y"):
        along = r"\[0.0, 1.0, 0.0\]" if up == "y" else r"\[0.0, -1.0, 0.0\]"
        for _ in range(2):
            with pytest.raises(PhalanxError, match=rf"own z axis points up; here up is {along}"):
                GYM.prepare_sim(world.sim)
        return
    world.step(50)
    height = world.tensor("actor_root_state")[0, "xyz".index(up)].item()
    assert height == pytest.approx(0.1, abs=3e-3)


@pytest.mark.parametrize("up", ["y", "y later", "z"])
def test_a_mesh_is_seen_from_above_whatever_axis_points_up(up):
    """A mesh whose heights are along y, in a world with y up, and rolled in one with z up."""
    world = World(dt=0.005)
    if up == "y":
        let_y_point_up(world)
    vertices, triangles = terrain_utils.convert_heightfield_to_trimesh(slope_and_step(), 0.1, 0.005)
    mesh = gymapi.TriangleMeshParams()
    mesh.nb_vertices, mesh.nb_triangles = len(vertices), len(triangles)
    mesh.transform.p = SHIFT
    mesh.transform.r = ROLLED if up == "z" else gymapi.Quat()
    rolled = vertices[:, [0, 2, 1]] * np.float32([1, 1, -1])  # x, height, -y
    GYM.add_triangle_mesh(world.sim, rolled.flatten(), triangles.flatten(), mesh)
    if up == "y later":
        let_y_point_up(world)
    place = gymapi.Transform(SHIFT, mesh.transform.r) * pose(4.0, 0.45, -3.0)
    box = GYM.create_box(world.sim, 0.2, 0.2, 0.2, options())
    GYM.create_actor(world.env(), box, place, "box")
    world.step(100)
    axis = "xyz".index(up[0])
    height = world.tensor("actor_root_state")[0, axis] - [*SHIFT][axis]
    assert height == pytest.approx(0.3 + 0.1, abs=3e-3)


@pytest.mark.parametrize("engine", ["mujoco", "warp"])
def test_boxes_rest_on_slope_and_step_and_hard_balls_gain_nothing(engine, monkeypatch):
    monkeypatch.setattr(isaacgym.physics, "ENGINE", engine)
    world = World(dt=0.005)
    add_heightfield(world, slope_and_step())
    box = GYM.create_box(world.sim, 0.4, 0.3, 0.2, options())
    ball = GYM.create_sphere(world.sim, 0.03, options())
    env = world.env()
    tilt = math.atan(SLOPE)
    places = [
        (box, at(2.0, 1.0, 2.0 * SLOPE + 0.15, tilt)),
        (box, at(WALL + 0.1, 3.0, 0.45)),  # a quarter of it over the edge
        (ball, at(WALL - 0.13, 3.5, 0.2)),  # its edge over the wall's foot
        (ball, at(WALL + 0.02, 2.5, 0.5)),  # and on the edge's flat side
        (ball, at(1.03, 3.0, 0.2)),
    ]
    for k, (asset, where) in enumerate(places):
        GYM.create_actor(env, asset, where, f"{k}", k, 0, 0)
    GYM.prepare_sim(world.sim)
    roots = world.tensor("actor_root_state")
    start = local(roots)
    roots[2:, 9] = -8.0
    GYM.set_actor_root_state_tensor(world.sim, gymtorch.unwrap_tensor(roots))
    forces = world.tensor("net_contact_force")
    highest = start[2:, 2] - 1
    for _ in range(150):
        world.step()
        sideways = world.tensor("net_contact_force")[2:, :2].norm(dim=-1)
        assert (sideways <= 1e-3 * forces[2:, 2].clamp_min(1)).all()
        highest = np.maximum(highest, local(world.tensor("actor_root_state"))[2:, 2])
    end = local(roots)
    assert (highest <= start[2:, 2]).all()
    np.testing.assert_allclose(end[2:, :2], start[2:, :2], atol=1e-3)
    np.testing.assert_allclose(end[2:, 2], [0.03, 0.33, 0.03], atol=2e-3)
    up = 0.1 / math.cos(tilt)
    np.testing.assert_allclose(end[0, 2], SLOPE * end[0, 0] + up, atol=3e-3)
    np.testing.assert_allclose(end[1], [WALL + 0.1, 3.0, 0.4], atol=3e-3)
    weight = 1000 * 0.4 * 0.3 * 0.2 * G
    np.testing.assert_allclose(forces[:2], [[0, 0, weight]] * 2, atol=0.02 * weight)
    np.testing.assert_allclose(roots[:2, 7:], 0, atol=0.02)


@pytest.mark.parametrize("engine", ["mujoco", "warp"])
def test_a_height_field_and_the_mesh_made_from_it_carry_a_ball(engine, monkeypatch):
    monkeypatch.setattr(isaacgym.physics, "ENGINE", engine)
    heights = np.zeros((40, 30), np.int16)  # x, y
    heights[20:, :] = 100  # a step of half a metre at x = 2 - 1
    heights[:, 20:] += 40
    for kind in ("heightfield", "mesh") if engine == "mujoco" else ("heightfield",):
        world = World(dt=0.005)
        if kind == "heightfield":
            held = gymapi.HeightFieldParams()
            held.nbRows, held.nbColumns = 30, 40
            held.row_scale = held.column_scale = 0.1
            held.vertical_scale = 0.005
            held.transform.p = gymapi.Vec3(-1, -1, 0)
            GYM.add_heightfield(world.sim, heights, held)
        else:
            vertices, triangles = terrain_utils.convert_heightfield_to_trimesh(
                heights, 0.1, 0.005, slope_threshold=0.75
            )
            mesh = gymapi.TriangleMeshParams()
            mesh.nb_vertices, mesh.nb_triangles = len(vertices), len(triangles)
            mesh.transform.p = gymapi.Vec3(-1, -1, 0)
            GYM.add_triangle_mesh(world.sim, vertices.flatten(), triangles.flatten(), mesh)
        ball = GYM.create_sphere(world.sim, 0.1, options(angular_damping=10))
        places = [(0.0, 0.0), (2.0, 0.0), (0.0, 1.5), (2.0, 1.5)]
        for k, (x, y) in enumerate(places):
            # Environments at places of their own; the ground is in the world's frame.
            env = world.env(0.05, 2)
            origin = GYM.get_env_origin(env)
            where = pose(x - origin.x, y - origin.y, 1.5)
            GYM.create_actor(env, ball, where, "ball", k, 0, 0)
        GYM.prepare_sim(world.sim)
        world.step(250)
        z = world.tensor("actor_root_state")[:, 2].tolist()
        ground = [0.0, 0.5, 0.2, 0.7]
        assert z == pytest.approx([g + 0.1 for g in ground], abs=0.01), kind
        # Put elsewhere, it meets the ground that is there: not what was below it before.
        roots = world.tensor("actor_root_state")
        roots[:, 0] = roots[[1, 0, 1, 0], 0]
        roots[:, 2] = torch.tensor([0.61, 0.11, 0.81, 0.31])
        GYM.set_actor_root_state_tensor(world.sim, gymtorch.unwrap_tensor(roots))
        world.step(2)
        assert world.tensor("actor_root_state")[:, 9].abs().max() < 0.2


def test_the_ground_stays_where_it_is_when_the_engine_changes(monkeypatch):
    """As "auto" does on a GPU when a program asks for what the fused engine has not."""

    def auto(scene, num_envs):
        device = torch.device("cpu")
        return AutoEngine(
            scene, num_envs, device, "warp", lambda: make_engine("warp", scene, num_envs, device)
        )

    monkeypatch.setattr("phalanx.sim.engines.auto.FEWEST", 1)
    monkeypatch.setattr(isaacgym.physics, "ENGINE", auto)
    world = World(dt=0.005)
    add_heightfield(world, slope_and_step())
    ball = GYM.create_sphere(world.sim, 0.1, options())
    GYM.create_actor(world.env(), ball, at(4.0, 3.0, 0.42), "ball")
    world.step(5)
    state = world.sim.physics.groups[0].state
    assert state.engine.engine.name == "fused"
    state.model_field("geom_solmix")
    assert state.engine.engine.name == "warp"
    roots = world.tensor("actor_root_state")
    roots[0, :3] = torch.tensor([*at(1.0, 3.0, 0.11).p])  # below the step
    roots[0, 7:] = 0
    GYM.set_actor_root_state_tensor(world.sim, gymtorch.unwrap_tensor(roots))
    world.step(40)
    end = local(world.tensor("actor_root_state"))[0]
    np.testing.assert_allclose(end, [1.0, 3.0, 0.1], atol=3e-3)


@pytest.mark.parametrize("engine", ["mujoco", "warp"])
def test_friction_and_scale_of_each_environment_hold_on_terrain(engine, monkeypatch):
    monkeypatch.setattr(isaacgym.physics, "ENGINE", engine)
    world = World(dt=0.005)
    add_heightfield(world, slope_and_step(), friction=0.3)
    box = GYM.create_box(world.sim, 0.2, 0.2, 0.1, options())
    tilt = math.atan(SLOPE)
    for k, (friction, scale) in enumerate([(0.05, 1.0), (0.8, 1.0), (0.8, 2.0)]):
        env = world.env()
        place = at(3.0, 1.0, 3.0 * SLOPE + 0.05 * scale / math.cos(tilt), tilt)
        GYM.create_actor(env, box, place, "box", k, 0, 0)
        shapes = GYM.get_actor_rigid_shape_properties(env, 0)
        shapes[0].friction = friction
        GYM.set_actor_rigid_shape_properties(env, 0, shapes)
        GYM.set_actor_scale(env, 0, scale)
    GYM.prepare_sim(world.sim)
    assert GYM.get_actor_rigid_shape_count(world.envs[0], 0) == 1
    world.step(100)
    speed = -world.tensor("actor_root_state")[:, 8]  # down the slope is against the world's y
    mean = (0.05 + 0.3) / 2
    slides = G * (math.sin(tilt) - mean * math.cos(tilt)) * 0.5 * math.cos(tilt)
    assert speed.tolist() == pytest.approx([slides, 0, 0], abs=0.02)
    end = local(world.tensor("actor_root_state"))
    above = (end[:, 2] - SLOPE * end[:, 0]) * math.cos(tilt)
    np.testing.assert_allclose(above, [0.05, 0.05, 0.1], atol=3e-3)


def test_two_pieces_of_ground_a_plane_beside_them_and_a_wall_for_a_large_ball():
    world = World(dt=0.005)
    add_heightfield(world, slope_and_step())
    add_heightfield(world, np.where(np.arange(61)[:, None] > 40, 160, -400) + np.zeros((61, 41)))
    world.ground()
    small = GYM.create_sphere(world.sim, 0.05, options(angular_damping=10))
    large = GYM.create_sphere(world.sim, 0.25, options())
    env = world.env()
    for k, (asset, where) in enumerate(
        [
            (small, at(1.0, 3.0, 0.2)),
            (small, at(5.0, 3.0, 0.9)),  # the second piece is 0.8 m high there
            (small, at(-1.0, 3.0, 0.0)),  # beside both: down to the plane
            (large, at(1.5, 3.5, 0.25)),
        ]
    ):
        GYM.create_actor(env, asset, where, f"{k}", k, 0, 0)
    GYM.prepare_sim(world.sim)
    roots = world.tensor("actor_root_state")
    roots[3, 8] = 2.0  # towards the wall, which is lower than the ball is thick
    GYM.set_actor_root_state_tensor(world.sim, gymtorch.unwrap_tensor(roots))
    farthest = 0.0
    for _ in range(200):
        world.step()
        x, _, z = local(world.tensor("actor_root_state"))[3]
        if z < 0.3:
            farthest = max(farthest, x)
    end = local(world.tensor("actor_root_state"))
    np.testing.assert_allclose(end[:3, 2], [0.05, 0.85, 0.05 - SHIFT.z], atol=2e-3)
    assert farthest < WALL - 0.15


def test_a_diverged_environment_comes_back_to_its_terrain():
    world = World(dt=0.005)
    add_heightfield(world, slope_and_step())
    box = GYM.create_box(world.sim, 0.2, 0.2, 0.2, options())
    for _ in range(2):
        GYM.create_actor(world.env(), box, at(4.0, 3.0, 0.41), "box", 0, 0, 0)
    GYM.prepare_sim(world.sim)
    roots = world.tensor("actor_root_state")
    roots[1, 7:] = torch.nan
    GYM.set_actor_root_state_tensor(world.sim, gymtorch.unwrap_tensor(roots))
    world.step(200)
    np.testing.assert_allclose(local(world.tensor("actor_root_state"))[:, 2], 0.4, atol=2e-3)


def test_a_cell_is_two_triangles_that_share_the_diagonal_from_its_first_corner():
    params = gymapi.TriangleMeshParams()
    heights = np.array([[0.0, 0.0], [1.0, 0.0]])  # the corner at (1, 0) is raised
    piece = Piece(Ground("mesh", params, heights), torch.device("cpu"), np.full(3, 0.1))
    centre = torch.tensor([[[0.75, 0.25, 1.0], [0.25, 0.75, 0.5], [1.5, 0.5, 0.0]]])
    gap, normal = piece.below(centre, torch.tensor([[0.1, 0.1, 0.1]]))
    lean = 1 / math.sqrt(3)
    assert gap[0, 0].item() == pytest.approx(0.5 * lean - 0.1 * lean / 0.9)
    assert gap[0, 1].item() == pytest.approx(0.4)
    assert gap[0, 2].item() > 100  # no ground beside it
    assert normal[0, 0].tolist() == pytest.approx([-lean, lean, lean])
    assert normal[0, 1].tolist() == [0, 0, 1]


SHAPES = """<mujoco><asset>
    <mesh name="m" vertex="0 0 0  .3 0 0  0 .2 0  0 0 .1  .29 .01 0  .1 .05 .02"/>
  </asset><worldbody><body><freejoint/>
  <geom type="sphere" size=".05"/>
  <geom type="capsule" size=".03 .2" euler="0 90 0" pos="1 0 0"/>
  <geom type="box" size=".2 .1 .05"/>
  <geom type="box" size=".2 .016 .012"/>
  <geom type="cylinder" size=".1 .02"/>
  <geom type="cylinder" size=".01 .2"/>
  <geom type="ellipsoid" size=".1 .2 .3"/>
  <geom type="mesh" mesh="m"/>
</body></worldbody></mujoco>"""


def test_points_reach_the_surface_of_each_shape_and_not_beyond(tmp_path):
    asset = World().load(tmp_path, "shapes.xml", SHAPES)
    model = asset.model
    counts = []
    for g in range(model.ngeom):
        pos, radius = points_of(asset, g)
        counts.append(len(pos))
        turn = np.zeros(9)
        mujoco.mju_quat2Mat(turn, model.geom_quat[g])
        inside = (pos - model.geom_pos[g]) @ turn.reshape(3, 3)
        centre, half = np.split(model.geom_aabb[g], 2)
        np.testing.assert_allclose(inside.max(0) + radius, centre + half, atol=5e-3)
        np.testing.assert_allclose(inside.min(0) - radius, centre - half, atol=5e-3)
    # 8 corners of the box, 2 points on each long edge and 1 on each middle one
    assert counts == [1, 4, 8 + 8 + 4, 4, 16, 4, 14, 4]


def test_large_triangles_beside_small_ones_are_drawn_at_once():
    """As mesh simplifiers give them: a roof of two large triangles and a fringe of small ones,
    700 cells a side. The roof is z = 0.1 x + 0.2 y."""
    cell, n = 0.05, 700
    size = n * cell
    corners = [(0, 0), (size, 0), (size, size), (0, size)]
    roof = [(0, 0), (size, 0), (size, size), (0, size)]
    vertices = [(x, y, 0.1 * x + 0.2 * y) for x, y in roof]
    triangles = [(0, 1, 2), (0, 2, 3)]
    for k in range(n):
        first = len(vertices)
        for x, y, z in ((size, k, 0), (size + cell, k, 1.0), (size, k + 1, 0)):
            vertices.append((x, y * cell, z))
        triangles.append((first, first + 1, first + 2))
    given = gymapi.TriangleMeshParams()
    given.nb_vertices, given.nb_triangles = len(vertices), len(triangles)
    begin = time.process_time()
    corners = np.uint32(triangles).ravel()
    piece = ground.triangle_mesh(np.float32(vertices).ravel(), corners, given)
    ground.settle(piece, params())
    assert time.process_time() - begin < 3  # a loop over cells took minutes
    assert piece.heights.shape == (n + 2, n + 1)
    x, y = np.meshgrid(cell * np.arange(n + 1), cell * np.arange(n + 1), indexing="ij")
    np.testing.assert_allclose(piece.heights[:-1], 0.1 * x + 0.2 * y, atol=1e-4)
    assert piece.heights[-1, 0] == 1.0
