"""isaacgym: shapes from mesh files: where the files lie, which sizes actors may have."""

import pytest

from isaac import GYM, World, pose

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
