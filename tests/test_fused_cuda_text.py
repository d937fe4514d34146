"""The fused engine's text for GPUs compiles; NVRTC needs no GPU to say so."""

import mujoco
import pytest
import torch

from phalanx.sim.engines.fused import cuda
from phalanx.sim.engines.fused.lanes import spread
from phalanx.sim.engines.fused.numbers import Numbers, model_fields
from phalanx.sim.engines.fused.structure import Structure
from phalanx.sim.engines.fused.tables import constants
from test_fused import ARMS
from test_fused import MODELS as TRUTHS
from test_fused_rows import ROWS, model_of
from test_fused_sensors import SENSORS, WORLD

MODELS = {
    "joints": TRUTHS["implicitfast"][1],
    "balls": TRUTHS["balls and free joints"][1],
    "points": TRUTHS["on a plane"][1],
    "trees": TRUTHS["contacts between trees"][1],
    "obstacles": TRUTHS["fixed obstacles"][1],
    "lanes": f"<mujoco><worldbody>{ARMS}</worldbody></mujoco>",
    "rows": model_of(ROWS),
    "sensors": WORLD.format("".join(SENSORS.values())),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_text_for_gpus_compiles_without_one(name):
    pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC comes with torch's CUDA build")
    structure = Structure(mujoco.MjModel.from_xml_string(MODELS[name]))
    lanes = spread(structure)
    host = torch.device("cpu")
    made = Numbers(structure, host).make(model_fields(structure.model, host))
    shapes = {name: lanes.arranged(name, values).shape[1:] for name, values in made.items()}
    varies = {"inertia", "limit", "point", "pair"}
    text = cuda.source(constants(structure, varies.__contains__, shapes, cuda.SIZES, lanes))
    assert len(cuda.compile_cubin(text, "sm_90")) > 10_000
