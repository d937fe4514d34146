"""Shapes that environments have moved touch what is there now, and not only where the scene had
them: MuJoCo's trees of bounding volumes are the scene's."""

import mujoco
import pytest
import torch

from phalanx.sim import Sim
from test_fused import Text

ROW = "".join(f'<geom type="box" pos="{0.5 * i} 0 -.1" size=".2 .2 .1"/>' for i in range(20))
SCENE = f"""<mujoco><worldbody>{ROW}<body pos="2.5 0 {{z}}">
<freejoint/>
<geom size="{{r}}"/><geom pos=".2 0 0"
size=".05"/><geom pos="-.2 0 0" size=".05"/></body></worldbody></mujoco>"""
CASES = {
    "a higher box of the world": ("geom_pos", (slice(None), 5, 2), -0.08, {}, 0.065),
    "a larger sphere": ("geom_size", (slice(None), 20, 0), 0.12, {"r": 0.12}, 0.115),
}


@pytest.mark.parametrize("engine", ["mujoco", "fused"])
@pytest.mark.parametrize("name", CASES)
def test_what_an_environment_has_moved_touches_as_if_the_scene_had_it_there(name, engine):
    field, at, value, changed, z = CASES[name]
    own = {"r": 0.05, "z": z}
    sim = Sim(Text(SCENE.format(**own)), 2, "cpu", engine=engine)
    sim.model_field(field)[at] = value
    text = SCENE.format(**own | changed)
    if field == "geom_pos":
        text = text.replace('pos="2.5 0 -.1"', f'pos="2.5 0 {value}"')
    else:
        sim.set_const()
    model = mujoco.MjModel.from_xml_string(text)
    data = mujoco.MjData(model)
    data.qpos[:] = sim.qpos[0].double()
    mujoco.mj_forward(model, data)
    assert data.ncon
    here, there = sim.model_of(1), mujoco.MjData(model)
    there.qpos[:] = data.qpos
    mujoco.mj_forward(here, there)
    assert there.ncon == data.ncon
    mujoco.mj_step(model, data)
    sim.step()
    torch.testing.assert_close(
        sim.qvel, torch.tensor(data.qvel).float().expand(2, -1), atol=1e-3, rtol=0
    )
