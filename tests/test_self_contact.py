"""Forces between the bodies of one robot, apart from those of the ground and of others."""

import pytest
import torch

from phalanx import tasks
from phalanx.errors import PhalanxError
from phalanx.sim import Scene, Sim

pytestmark = pytest.mark.usefixtures("one_thread")

FOLDED = """<mujoco><worldbody><body name="torso"><freejoint/><geom size=".1" mass="3"/>
<body name="arm" pos="-.3 0 .129"><joint axis="0 1 0" damping=".1"/>
  <geom type="capsule" size=".02" fromto="0 0 0 .1 0 0" mass=".2"/>
<body name="hand" pos=".15 0 0"><joint axis="0 1 0" damping=".1"/>
  <geom type="capsule" size=".03" fromto=".1 0 0 .2 0 0" mass=".5"/>
</body></body></body></worldbody></mujoco>"""


def folded(tmp_path):
    """Two robots side by side on the ground, each with a hand that rests on its torso."""
    (tmp_path / "folded.xml").write_text(FOLDED)
    scene = Scene(0.002)
    scene.add_ground()
    for k, name in enumerate(("one", "two")):
        scene.add_actor(name, tmp_path / "folded.xml", pos=(0, 0.199 * k, 0.0995))
        scene.add_contact_force_sensors(name)
        scene.add_self_contact_sensors(name)
    sim = Sim(scene, 3, "cpu", 1, engine="mujoco")
    sim.reset()
    for _ in range(25):
        sim.advance()
    return sim


def test_a_robot_feels_itself_apart_from_ground_and_others(tmp_path):
    one = folded(tmp_path).actor("one")
    assert one.self_contact_body_names == ["torso", "arm", "hand"]
    own, every = one.self_contact_force, one.contact_force
    assert (own[:, 2].norm(dim=1) > 0.5).all()  # the hand on the torso
    assert own.sum(1).abs().max() < 1e-4
    # the torso also touches the ground and the other robot
    assert ((every - own)[:, 0, 2] > 5).all()
    assert ((every - own)[:, 0, 1] < -0.01).all()
    assert torch.equal(every[:, 2], own[:, 2])


def test_a_robot_without_such_sensors_says_how_to_ask_for_them(tmp_path):
    (tmp_path / "folded.xml").write_text(FOLDED)
    scene = Scene(0.002)
    scene.add_actor("one", tmp_path / "folded.xml")
    with pytest.raises(PhalanxError, match=r"scene.add_self_contact_sensors\('one'\)"):
        Sim(scene, 1, "cpu", 1, engine="mujoco").actor("one").self_contact_force  # noqa: B018
    with pytest.raises(PhalanxError, match=r"'hnad'.*'hand'"):
        scene.add_self_contact_sensors("one", ["hnad"])


def test_mjlabs_g1_pays_for_legs_that_cross_but_not_for_knees_on_the_ground():
    task = tasks.make("G1VelocityMjlab", num_envs=2, device="cpu", engine="mujoco", randomize=False)
    task.reset()
    robot, joint = task.robot, task.robot.joint_names.index
    press = torch.zeros(2, 29)
    for side, sign in (("left", -1.0), ("right", 1.0)):
        robot.joint_pos[0, joint(f"{side}_hip_roll_joint")] = 0.19 * sign
        press[0, joint(f"{side}_hip_roll_joint")] = 3 * sign
        robot.joint_pos[1, joint(f"{side}_hip_pitch_joint")] = 0.0
        robot.joint_pos[1, joint(f"{side}_knee_joint")] = 1.6
    robot.root_pos[:, 2] = torch.tensor([2.5, 0.5])
    press[1] = (robot.joint_pos[1] - task.default_pos) / task.action_scale  # stay on its knees
    task.sim.forward()
    on_ground, on_itself = [], []
    for _ in range(25):
        task.step(press)
        on_ground.append(robot.contact_force[:, task.not_to_touch].norm(dim=2).amax(1))
        on_itself.append(robot.self_contact_force.norm(dim=2).amax(1))
    assert torch.stack(on_itself).amax(0)[0] > 10
    assert torch.stack(on_itself).amax(0)[1] == 0
    assert torch.stack(on_ground).amax(0)[1] > 10
    assert task.scalars()["reward/self_collision"] < -0.1
