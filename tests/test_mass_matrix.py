"""Linear systems with the mass matrix, against MuJoCo's own full matrix."""

from functools import partial

import mujoco
import numpy as np
import pytest
import torch

from phalanx.errors import PhalanxError
from phalanx.sim import Scene, Sim
from phalanx.sim.engines import kernels
from phalanx.sim.engines.plain import PlainEngine

TREE = """<mujoco><worldbody><body pos="0 0 1"><freejoint/><geom size=".1" mass="3"/>
<body pos=".2 0 0"><joint axis="0 1 0" armature=".01"/><geom pos=".1 0 0" size=".05" mass=".5"/>
<body name="tip" pos=".2 0 0"><joint axis="0 0 1"/><geom pos=".1 0 0" size=".03" mass=".2"/>
</body></body>
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


@pytest.mark.parametrize("engine", ["mujoco", "warp", "fused"])
def test_jacobians_are_mujocos(tmp_path, engine):
    """Of a joint tree in free fall after a step, at bodies' origins and at other points."""
    (tmp_path / "tree.xml").write_text(TREE)
    scene = Scene(0.01)
    scene.add_actor("tree", tmp_path / "tree.xml")
    sim = Sim(scene, 2, "cpu", engine=engine)
    names = [sim.model.body(i).name for i in range(sim.model.nbody)]
    tip = next(name for name in names if name.endswith("tip"))
    sim.jacobian(tip)
    generator = torch.Generator().manual_seed(0)
    sim.qpos[:, 3:7] = torch.nn.functional.normalize(torch.randn(2, 4, generator=generator), dim=1)
    sim.qpos[:, 7:] = torch.rand(2, 3, generator=generator)
    sim.qvel[:] = torch.randn(2, 9, generator=generator)
    sim.step()
    point = torch.randn(2, 3, generator=generator)
    own, elsewhere = sim.jacobian(tip), sim.jacobian(tip, point)
    data, rows = mujoco.MjData(sim.model), np.zeros((2, 3, 9))
    for env in range(2):
        data.qpos[:] = sim.qpos[env].numpy()
        mujoco.mj_forward(sim.model, data)
        body = sim.model.body(tip).id
        for found, at in ((own, data.xpos[body].copy()), (elsewhere, point[env].double().numpy())):
            mujoco.mj_jac(sim.model, data, rows[0], rows[1], at, body)
            np.testing.assert_allclose(found[env], rows.reshape(6, 9), atol=2e-5)
    for wrong in ("tib", None, 2):
        with pytest.raises(PhalanxError, match=f"no body {wrong!r} in the simulation"):
            sim.jacobian(wrong)
    with pytest.raises(PhalanxError, match=r"`at` is torch\.float64 of shape"):
        sim.jacobian(tip, point.double())


@pytest.mark.parametrize(
    "call",
    [
        lambda sim: sim.solve_m(torch.ones(3, 9), torch.zeros(3, 9)),
        lambda sim: (sim.set_const(), sim.step()),
    ],
)
def test_warp_compiles_what_a_call_launches_side_by_side(tmp_path, monkeypatch, call):
    """Each size of tree has modules of its own, which are slow to compile one after the other, and
    a step has others where what set_const writes differs between environments."""
    from warp._src.context import Module

    (tmp_path / "tree.xml").write_text(TREE)
    scene = Scene(0.01)
    scene.add_ground()
    scene.add_actor("tree", tmp_path / "tree.xml")
    sim = Sim(scene, 3, "cpu", engine="warp")
    noted, loaded, load, known = set(), set(), Module.load, set()

    def together(launch, opt):
        noted.update(module for module, *_ in kernels._launched_by(launch, opt))

    def one(module, *rest):
        loaded.add(module)
        return load(module, *rest)

    monkeypatch.setattr(
        Module, "load", lambda module, *rest: known.add(module) or load(module, *rest)
    )
    sim.step()
    monkeypatch.setattr(kernels, "load_together", together)
    monkeypatch.setattr(Module, "load", one)
    call(sim)
    assert loaded - known
    assert loaded - known <= noted
