"""isaacgym: IsaacGymEnvs' hands hold a cube, its nut goes onto its bolt, as in its tasks. The
files are in $PHALANX_SHARED/assets/isaacgymenvs or in $ISAACGYMENVS/assets, a checkout of that
repository; where neither has them these tests are skipped."""

import math
import os
from pathlib import Path

import pytest

from isaac import GYM, World, options, pose
from isaacgym import gymapi

PLACES = [
    Path(os.environ.get("PHALANX_SHARED", "")) / "assets" / "isaacgymenvs",
    Path(os.environ.get("ISAACGYMENVS", "")) / "assets",
]
SHADOW = "mjcf/open_ai_assets/hand/shadow_hand.xml"
ALLEGRO = "urdf/kuka_allegro_description/allegro_touch_sensor.urdf"


def folder(file):
    held = next((place for place in PLACES if (place / file).is_file()), None)
    if held is None:
        pytest.skip(f"no {file} in $PHALANX_SHARED/assets/isaacgymenvs or $ISAACGYMENVS/assets")
    return str(held)


def quat(axis, angle):
    return gymapi.Quat.from_axis_angle(gymapi.Vec3(*axis), angle)


@pytest.mark.parametrize(
    ("file", "cube", "turn", "at", "half", "density"),
    [
        (SHADOW, "urdf/objects/cube_multicolor.urdf", gymapi.Quat(), (-0.39, 0.10), 0.025, 567.0),
        (
            ALLEGRO,
            "urdf/objects/cube_multicolor_allegro.urdf",
            quat((0, 1, 0), math.pi)
            * quat((1, 0, 0), 0.47 * math.pi)
            * quat((0, 0, 1), 0.25 * math.pi),
            (-0.2, 0.06),
            0.0325,
            400.0,
        ),
    ],
    ids=["shadow", "allegro"],
)
def test_a_cube_rests_in_the_palm_and_falls_from_the_turned_hand(
    file, cube, turn, at, half, density
):
    """The palm of the first hand, at 0.5 m, carries the cube's weight, from the density in its
    file. The second hand is upside down, so the cube lies on the ground."""
    root = folder(file)
    world = World(dt=1 / 60, substeps=2)
    world.ground()
    mode = gymapi.DOF_MODE_NONE if file == SHADOW else gymapi.DOF_MODE_POS
    held = {"fix_base_link": True, "collapse_fixed_joints": True, "disable_gravity": True}
    hand = GYM.load_asset(world.sim, root, file, options(default_dof_drive_mode=mode, **held))
    block = GYM.load_asset(world.sim, root, cube, options())
    for k, over in enumerate((gymapi.Quat(), quat((0, 1, 0), math.pi))):
        env = world.env(2.0)
        GYM.create_actor(env, hand, pose(z=0.5, r=over * turn), "hand", k, -1, 0)
        if file == ALLEGRO:
            drives = GYM.get_actor_dof_properties(env, 0)
            drives["stiffness"], drives["damping"], drives["effort"] = 3, 0.1, 0.5
            drives["friction"], drives["armature"] = 0.01, 0.001
            GYM.set_actor_dof_properties(env, 0, drives)
        y, z = at
        GYM.create_actor(env, block, pose(y=y, z=0.5 + (z if k == 0 else -z)), "cube", k, 0, 0)
    GYM.prepare_sim(world.sim)
    contact = world.tensor("net_contact_force").view(2, -1, 3)
    world.step(90)
    cubes = world.tensor("actor_root_state").view(2, 2, 13)[:, 1]
    world.tensor("net_contact_force")
    weight = 8 * half**3 * density * 9.81
    assert contact[:, -1, 2].tolist() == pytest.approx([weight, weight], rel=1e-2)
    assert cubes[0, 2] > 0.5  # the palm's own surface is curved
    assert cubes[1, 2] == pytest.approx(half, abs=1e-3)
    assert cubes[:, 7:].abs().max() < 0.01


def test_trifingers_cube_lies_on_its_table_at_half_its_edge():
    root = folder("trifinger/objects/urdf/cube_multicolor_rrc.urdf")
    world = World(dt=0.02, substeps=4)
    flat = {"fix_base_link": True, "disable_gravity": True}
    file = "robot_properties_fingers/urdf/table_without_border.urdf"
    table = GYM.load_asset(world.sim, f"{root}/trifinger", file, options(**flat))
    file = "objects/urdf/cube_multicolor_rrc.urdf"
    cube = GYM.load_asset(world.sim, f"{root}/trifinger", file, options())
    GYM.create_actor(world.env(), table, pose(), "table", 0, 1, 0)
    GYM.create_actor(world.envs[0], cube, pose(z=0.034), "cube", 0, 0, 0)
    world.step(50)
    assert world.tensor("actor_root_state")[1, 2] == pytest.approx(0.0325, abs=3e-4)


def test_a_nut_slides_down_a_bolts_shaft_to_its_head(tmp_path, monkeypatch):
    """It is steel of 7850 kg/m^3; the bolt stands on its head, which is 16 mm high."""
    pytest.importorskip("coacd", reason="needs phalanx[decompose]")
    root = folder("factory/urdf/factory_nut_m16_loose.urdf") + "/factory/urdf"
    monkeypatch.chdir(tmp_path)
    world = World(dt=1 / 120, substeps=4)
    steel = {"density": 7850.0}
    nut = GYM.load_asset(world.sim, root, "factory_nut_m16_loose.urdf", options(**steel))
    held = options(fix_base_link=True, **steel)
    bolt = GYM.load_asset(world.sim, root, "factory_bolt_m16_loose.urdf", held)
    GYM.create_actor(world.env(), bolt, pose(), "bolt", 0, 0, 0)
    GYM.create_actor(world.envs[0], nut, pose(z=0.06), "nut", 0, 0, 0)
    mass = GYM.get_actor_rigid_body_properties(world.envs[0], 1)[0].mass
    GYM.prepare_sim(world.sim)
    contact = world.tensor("net_contact_force")
    world.step(60)
    assert world.tensor("actor_root_state")[1, 2] == pytest.approx(0.016, abs=2e-3)
    world.tensor("net_contact_force")
    assert contact[1].tolist() == pytest.approx([0, 0, mass * 9.81], abs=0.02 * mass * 9.81)


@pytest.mark.parametrize(
    ("kind", "scale", "start", "bottom"),
    [
        ("round_{}_12mm", 1.0, 0.03, 0.0),
        ("rectangular_{}_8mm", 1.0, 0.03, 0.0),
        ("rectangular_{}_8mm", 1.5, 0.0245, 0.0235),
    ],
)
def test_a_peg_slides_into_the_hole_of_its_tray(
    tmp_path, monkeypatch, caplog, kind, scale, start, bottom
):
    """IndustReal's round peg of 12 mm has 0.1 mm of room. Its file puts its lower end 3 mm above
    its origin, as thick as the tray's floor: inside, both have the same origin. A peg of 8 x 6.9 mm
    fits a hole of 9 x 8 mm; 1.5 times as large it stands on the tray, which is 28 mm high."""
    pytest.importorskip("coacd", reason="needs phalanx[decompose]")
    tray_file, peg_file = (f"industreal_{kind.format(name)}.urdf" for name in ("hole", "peg"))
    root = folder(f"industreal/urdf/{tray_file}") + "/industreal/urdf"
    monkeypatch.chdir(tmp_path)
    world = World(dt=1 / 60, substeps=8)
    peg = GYM.load_asset(world.sim, root, peg_file, options())
    tray = GYM.load_asset(world.sim, root, tray_file, options(fix_base_link=True))
    assert "once" not in caplog.text  # the peg is convex, the tray is made of layers
    assert len(tray.shapes) > 20
    GYM.create_actor(world.env(), tray, pose(), "tray", 0, 0, 0)
    GYM.create_actor(world.envs[0], peg, pose(z=start), "peg", 0, 0, 0)
    GYM.set_actor_scale(world.envs[0], 1, scale)
    world.step(60)
    assert world.tensor("actor_root_state")[1, 2] == pytest.approx(bottom, abs=2e-3)
