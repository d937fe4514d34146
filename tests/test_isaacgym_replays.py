"""What a GPU replays as graphs, with a stand-in for CUDA's."""

import pytest
import torch

from isaac import FOOT, GYM, PENDULUM, World, indices, pose
from isaacgym import gymapi, gymtorch, replays
from phalanx.errors import PhalanxError
from recorded_graph import Recorded

KINDS = ("actor_root_state", "dof_state", "rigid_body_state", "dof_force")


@pytest.fixture
def captures(monkeypatch):
    """Switches capturing on or off for simulations that are made from then on."""
    monkeypatch.setattr(replays, "Graph", Recorded)
    init = replays.Replays.__init__

    def switch(on: bool) -> None:
        def made(self, device):
            init(self, device)
            self.captures = on

        monkeypatch.setattr(replays.Replays, "__init__", made)

    return switch


def mixed_world(folder, structures: int) -> World:
    """Fixed and free actors in turn, in another order in the second half of the environments if
    there are two structures."""
    world = World(substeps=2)
    foot = world.load(folder, "foot.urdf", FOOT)
    rod = world.load(folder, "rod.urdf", PENDULUM, fix_base_link=True)
    for n in range(4):
        env = world.env()
        order = [rod, foot, rod, foot][: 4 - (structures > 1 and n > 1)]
        for k, asset in enumerate(order):
            GYM.create_actor(env, asset, pose(x=2.0 * k, z=2), f"a{k}", n, 1, 0)
    for name in KINDS:
        world.tensor(name)
    return world


def play(world: World, steps: int, before_step=lambda k: None) -> list[torch.Tensor]:
    """Every kind of setter with lists of many lengths, and all tensors after every step."""
    draw, shown, sim = torch.Generator().manual_seed(0), [], world.sim
    actors = GYM.get_sim_actor_count(sim)

    def some(k):
        count = [3, 0, actors + 5, 1, actors][k % 5]  # there may be more than there are actors
        return indices(*torch.randint(actors, (count,), generator=draw).tolist()), count

    for k in range(steps):
        before_step(k)
        noise = [torch.randn(world.tensors[name].shape, generator=draw) for name in KINDS]
        roots, dofs, _, efforts = (gymtorch.unwrap_tensor(x) for x in noise)
        GYM.set_actor_root_state_tensor_indexed(sim, roots, *some(k))
        GYM.set_dof_state_tensor_indexed(sim, dofs, *some(k + 1))
        GYM.set_dof_actuation_force_tensor_indexed(sim, efforts, *some(k + 2))
        GYM.set_dof_position_target_tensor_indexed(sim, efforts, *some(k + 3))
        if k % 3 == 2:
            GYM.set_actor_root_state_tensor(sim, roots)
            GYM.set_dof_state_tensor(sim, dofs)
            GYM.set_dof_velocity_target_tensor(sim, efforts)
        force, place = (
            torch.randn(GYM.get_sim_rigid_body_count(sim), 3, generator=draw) for _ in "ab"
        )
        force, place = gymtorch.unwrap_tensor(force), gymtorch.unwrap_tensor(place)
        for space in gymapi.CoordinateSpace:
            GYM.apply_rigid_body_force_tensors(sim, force, None, space)
            GYM.apply_rigid_body_force_tensors(sim, force, place, space)
            GYM.apply_rigid_body_force_at_pos_tensors(sim, force, place, space)
        if k % 2:
            shown += [world.tensor(name).clone() for name in KINDS]
        world.step()
        for key in (*((name,) for name in KINDS), ("jacobian", "a1"), ("mass_matrix", "a1")):
            world.tensor(*key)
        shown += [tensor.clone() for tensor in world.tensors.values()]
    return shown


@pytest.mark.parametrize("structures", [1, 2])
def test_replayed_calls_leave_the_same_bits_as_eager_ones(tmp_path, captures, structures):
    found = []
    for on in (False, True):
        captures(on)
        world = mixed_world(tmp_path, structures)

        def change(k, world=world):
            """What a graph cannot know: another engine, because joints get limits; a centre of mass
            beside its frame's origin; tensors of more kinds, and of one that others are of."""
            for env in world.envs if k == 3 else ():
                limits = GYM.get_actor_dof_properties(env, 0)
                limits["hasLimits"], limits["lower"], limits["upper"] = True, -1.0, 1.0
                GYM.set_actor_dof_properties(env, 0, limits)
            if k in (5, 6, 8):
                props = GYM.get_actor_rigid_body_properties(world.envs[0], 1)
                props[0].com = gymapi.Vec3(0.1 * (k != 6), 0.0, 0.0)
                GYM.set_actor_rigid_body_properties(world.envs[0], 1, props)
            if k > 6:
                world.tensor("jacobian", "a0")
            if k > 11:
                world.tensor("net_contact_force")

        found.append(play(world, 14, change))
    for eager, replayed in zip(*found, strict=True):
        assert torch.equal(eager, replayed)


def test_listed_actors_alone_are_set_however_often_they_are_listed(tmp_path, captures):
    captures(True)
    world = mixed_world(tmp_path, 1)
    roots = world.tensor("actor_root_state")
    for k, listed in enumerate([[0, 3, 3, 0, 3], [], [15], [2, 1]]):
        before, new = roots.clone(), torch.zeros_like(roots)
        new[:, 0], new[:, 6] = k + 1.0, 1.0
        given = gymtorch.unwrap_tensor(new), indices(*listed, 7), len(listed)  # the last is beyond
        GYM.set_actor_root_state_tensor_indexed(world.sim, *given)
        GYM.refresh_actor_root_state_tensor(world.sim)
        rest = [i for i in range(len(roots)) if i not in listed]
        torch.testing.assert_close(roots[listed], new[listed])
        assert torch.equal(roots[rest], before[rest])


def test_a_bad_index_leaves_nothing_to_the_next_call(tmp_path):
    world = mixed_world(tmp_path, 1)
    dofs = world.tensor("dof_state")
    before, new = dofs.clone(), gymtorch.unwrap_tensor(dofs + 1)
    for bad in (16, -1):
        with pytest.raises(PhalanxError, match=f"index {bad};"):
            GYM.set_dof_state_tensor_indexed(world.sim, new, indices(2, bad), 2)
    GYM.set_dof_state_tensor_indexed(world.sim, new, indices(0), 1)
    shown = world.tensor("dof_state")
    assert torch.equal(shown[0], before[0] + 1)
    assert torch.equal(shown[1:], before[1:])
