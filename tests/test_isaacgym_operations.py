"""What the calls of a step cost on a GPU's host: operations of torch, whatever the number of
environments."""

import math
import subprocess
import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from isaac import FOOT, GYM, PENDULUM, World, indices, pose
from isaacgym import gymtorch

VIEWS = {"alias", "detach", "expand", "select", "slice", "unsqueeze", "view"}


class Operations(TorchDispatchMode):
    """Counts operations other than views."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ not in VIEWS
        return func(*args, **(kwargs or {}))


def cost(call, *args) -> int:
    with Operations() as operations:
        call(*args)
    return operations.count


def test_a_robot_costs_few_operations_in_every_call(tmp_path):
    world = World()
    robot = world.load(tmp_path, "foot.urdf", FOOT)
    for n in range(3):
        GYM.create_actor(world.env(), robot, pose(z=2), "robot", n, 1, 0)
    dofs, roots = world.tensor("dof_state"), world.tensor("actor_root_state")
    world.step()
    sim, some = world.sim, indices(0, 2)
    joints, bases, efforts = map(gymtorch.unwrap_tensor, (dofs, roots, dofs[:, 0].contiguous()))
    assert cost(GYM.refresh_dof_state_tensor, sim) <= 1
    assert cost(GYM.refresh_actor_root_state_tensor, sim) <= 8
    assert cost(GYM.set_dof_actuation_force_tensor, sim, efforts) <= 1
    assert cost(GYM.set_dof_state_tensor_indexed, sim, joints, some, 2) <= 10
    assert cost(GYM.set_actor_root_state_tensor_indexed, sim, bases, some, 2) <= 20


@pytest.mark.parametrize("mixed", [False, True])
def test_states_that_are_set_come_back_whatever_the_order_of_actors(tmp_path, mixed):
    """Fixed and free actors in turn are places that do not follow each other. A quarter turn about
    z, and speeds of the centre of mass, which lies 0.5 m below the free pendulum's root."""
    world = World(gravity=0.0)
    lamp = PENDULUM.replace(
        '<link name="pivot"/>',
        '<link name="pivot"><inertial><origin xyz="0 0 -0.5"/><mass value="1"/>'
        '<inertia ixx="0.1" iyy="0.1" izz="0.1"/></inertial></link>',
    )
    free = world.load(tmp_path, "free.urdf", lamp)
    fixed = world.load(tmp_path, "fixed.urdf", PENDULUM, fix_base_link=True)
    for n in range(2):
        env = world.env()
        for k, asset in enumerate([fixed, free, fixed, free] if mixed else [free]):
            GYM.create_actor(env, asset, pose(x=2.0 * k), f"a{k}", n, 1, 0)
    dofs, roots = world.tensor("dof_state"), world.tensor("actor_root_state")
    before = roots.clone(), dofs.clone()
    moving = torch.tensor([i for i in range(len(roots)) if not mixed or i % 2])
    half = math.sqrt(0.5)
    for i, row in enumerate(roots):
        row[:7] = torch.tensor([i, 1, 2, 0, 0, half, half])
    roots[moving, 7:] = torch.arange(6.0) + moving[:, None]
    dofs.copy_(torch.arange(float(dofs.numel())).view_as(dofs) / 100)
    new, last = (roots.clone(), dofs.clone()), len(roots) - 1
    for name, tensor, k in (("actor_root_state", roots, 0), ("dof_state", dofs, 1)):
        call = getattr(GYM, f"set_{name}_tensor_indexed")
        call(world.sim, gymtorch.unwrap_tensor(tensor), indices(0, last), 2)
        tensor.fill_(torch.nan)
        shown = world.tensor(name)
        torch.testing.assert_close(shown[[0, last]], new[k][[0, last]])
        torch.testing.assert_close(shown[1:last], before[k][1:last])


def test_physics_on_a_cpu_does_not_load_torchs_compiler():
    """Which takes seconds; only a GPU's engine needs it."""
    code = (
        "import sys, isaacgym, phalanx.sim.engines.auto; sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
