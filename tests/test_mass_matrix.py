"""Linear systems with the mass matrix, against MuJoCo's own full matrix."""

from functools import partial

import mujoco
import numpy as np
import pytest
import torch

from phalanx.sim import Scene, Sim
from phalanx.sim.engines import kernels
from phalanx.sim.engines.plain import PlainEngine

TREE = """<mujoco><worldbody><body pos="0 0 1"><freejoint/><geom size=".1" mass="3"/>
<body pos=".2 0 0"><joint axis="0 1 0" armature=".01"/><geom pos=".1 0 0" size=".05" mass=".5"/>
<body pos=".2 0 0"><joint axis="0 0 1"/><geom pos=".1 0 0" size=".03" mass=".2"/></body></body>
<body pos="-.2 0 0"><joint axis="1 0 0"/><geom pos="0 0 -.1" size=".05" mass=".4"/></body>
</body></worldbody></mujoco>"""


@pytest.mark.parametrize("engine", ["mujoco", "warp", "fused", partial(PlainEngine)])
def test_solve_m_inverts_mujocos_mass_matrix_plus_added_inertia(tmp_path, engine):
    (tmp_path / "tree.xml").write_text(TREE)
    scene = Scene(0.01)
    scene.add_actor("tree", tmp_path / "tree.xml")
    sim = Sim(scene, 3, "cpu", engine=engine)
    generator = torch.Generator().manual_seed(0)
    sim.qpos[:, 7:] = torch.rand(3, 3, generator=generator)
    before = sim.qpos.double().numpy().copy()
    sim.step()
    force = torch.rand(3, 9, generator=generator)
    force[1] = 0
    added = 10 * torch.rand(3, 9, generator=generator)
    solved = sim.solve_m(force, added)
    assert (solved[1] == 0).all()
    data, full = mujoco.MjData(sim.model), np.zeros((9, 9))
    for env in (0, 2):
        data.qpos[:] = before[env]
        mujoco.mj_forward(sim.model, data)
        mujoco.mj_fullM(sim.model, data, full)
        expected = np.linalg.solve(full + np.diag(added[env]), force[env])
        np.testing.assert_allclose(solved[env], expected, rtol=1e-4, atol=1e-6)


def test_warp_compiles_what_solve_m_launches_side_by_side(tmp_path, monkeypatch):
    """Each size of tree has modules of its own, which are slow to compile one after the other."""
    from warp._src.context import Module

    (tmp_path / "tree.xml").write_text(TREE)
    scene = Scene(0.01)
    scene.add_actor("tree", tmp_path / "tree.xml")
    sim = Sim(scene, 3, "cpu", engine="warp")
    noted, loaded, load = set(), set(), Module.load

    def together(launch, opt):
        noted.update(module for module, *_ in kernels._launched_by(launch, opt))

    def one(module, *rest):
        loaded.add(module)
        return load(module, *rest)

    monkeypatch.setattr(kernels, "load_together", together)
    monkeypatch.setattr(Module, "load", one)
    sim.solve_m(torch.ones(3, 9), torch.zeros(3, 9))
    assert loaded
    assert loaded <= noted
