"""What users of other frameworks write in Python, their names, types and indices, is answered."""

import re

import numpy as np
import pytest
import torch

from phalanx import tasks
from phalanx.errors import PhalanxError
from phalanx.sim import Scene, Sim, actor, resolve_device, sim
from phalanx.tasks import checks


@pytest.fixture(scope="module")
def env():
    return tasks.make("Ant", num_envs=2, device="cpu")


def owners(env):
    robot = env.sim.actor("ant")
    return (
        (env, checks.ELSEWHERE, {"config": env.config, "sim": env.sim}),
        (env.sim, sim.ELSEWHERE, {"sim": env.sim, "model": env.sim.model}),
        (robot, actor.ELSEWHERE, {"sim": env.sim, "actor": robot}),
    )


def test_their_names_are_answered_with_ours_which_exist(env):
    for owner, elsewhere, held in owners(env):
        for name, cure in elsewhere.items():
            if name in ("robot", "actions"):  # tasks of their own may have these
                continue
            with pytest.raises(AttributeError) as missing:
                getattr(owner, name)
            assert str(missing.value).endswith(f"has no attribute {name!r}; here, {cure}")
            for first, way in re.findall(r"\bit is (?:in )?(\w+)((?:\.\w+)*)", cure):
                if first in ("len", "one", "phalanx", "a"):
                    continue
                if not way and hasattr(type(owner), first):
                    continue
                at = held[first] if first in held else getattr(owner, first)
                for part in way.split(".")[1:]:
                    at = getattr(at, part)


def test_a_misspelt_attribute_is_answered_with_the_nearest(env):
    for owner, wrong, right in (
        (env, "num_ob", "num_obs"),
        (env.sim, "qpso", "qpos"),
        (env.sim.actor("ant"), "joint_po", "joint_pos"),
    ):
        with pytest.raises(AttributeError, match=f"did you mean '{right}'"):
            getattr(owner, wrong)
        assert not hasattr(owner, wrong)


ARM = """<mujoco><worldbody><body><joint/><geom size=".1"/></body></worldbody>
<keyframe><key name="home" qpos="0.5"/></keyframe></mujoco>"""


def test_answers_are_the_initial_pose_of_a_keyframe_and_how_to_keep_earlier_actions(env, tmp_path):
    (tmp_path / "arm.xml").write_text(ARM)
    scene = Scene()
    scene.add_actor("arm", tmp_path / "arm.xml", keyframe="home")
    held = Sim(scene, 1, "cpu")
    with pytest.raises(AttributeError, match="soft ones are a part of them"):
        _ = held.actor("arm").soft_joint_pos_limits
    with pytest.raises(AttributeError) as missing:
        _ = held.actor("arm").default_joint_pos
    pose = re.search(r"sim(\.model.*?qpos)", str(missing.value))[1]
    assert eval(f"held{pose}").tolist() == held.qpos[0].tolist() == [0.5]
    with pytest.raises(AttributeError, match="copy previous_actions at the end of compute_reward"):
        _ = env.last_actions
    with pytest.raises(AttributeError, match="root_lin_vel_w and root_ang_vel_b, where"):
        _ = env.sim.actor("ant").write_root_state_to_sim


def test_an_attribute_missing_in_a_property_is_named_itself(env):
    class Own(type(env)):
        @property
        def height(self):
            return self.torso_heigth

    own = Own.__new__(Own)
    with pytest.raises(AttributeError, match="torso_heigth"):
        _ = own.height


def test_a_property_that_fails_once_is_not_suggested_for_itself(env):
    class Own(type(env)):
        @property
        def height(self):
            if fails:
                raise AttributeError(fails.pop())
            return 1.0

    fails = ["first"]
    with pytest.raises(AttributeError, match=r"^inside Own\.height an attribute was missing$"):
        _ = Own.__new__(Own).height


def test_indices_are_no_mask(env):
    for method in (env.sim.reset, env.sim.forward, env.sim.derive, env.sim.set_const):
        for given in (torch.tensor([0]), torch.tensor([0, 1]), [0], 0, torch.ones(3) > 0):
            with pytest.raises(PhalanxError, match=r"mask\[env_ids\] = True"):
                method(given)


@pytest.mark.parametrize("given", [0, -1, "16", 16.0, True, np.float32(4)])
def test_numbers_of_environments_are_whole(given, env):
    for make in (
        lambda: tasks.make("Cartpole", num_envs=given, device="cpu"),
        lambda: Sim(env.create_scene(), given, "cpu"),
    ):
        with pytest.raises(PhalanxError, match=r"must be (a whole number|1 or more)"):
            make()


def test_devices_are_what_torch_makes_of_them():
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")
    assert tasks.make("Cartpole", num_envs=np.int64(2), device=torch.device("cpu")).num_envs == 2
    for other in (torch.device("meta"), 300, None):
        with pytest.raises(PhalanxError, match="device"):
            resolve_device(other)
