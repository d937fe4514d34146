"""The fused engine on GPUs, as far as a machine without one can tell: NVRTC compiles its text, and
its numbers are made there."""

import mujoco
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from phalanx import tasks
from phalanx.sim.engines.fused import cuda
from phalanx.sim.engines.fused.invweights import Invweights
from phalanx.sim.engines.fused.machine_code import places_used_twice
from phalanx.sim.engines.fused.numbers import Numbers, model_fields
from phalanx.sim.engines.fused.spreading import spread
from phalanx.sim.engines.fused.structure import Structure
from phalanx.sim.engines.fused.tables import VARIABLE, constants
from test_fused import ARMS
from test_fused import MODELS as TRUTHS
from test_fused_boxes import CONVEX as ON_BOXES
from test_fused_boxes import SHAPES, free
from test_fused_boxes import model_of as on_boxes
from test_fused_convex import MESHES
from test_fused_convex import MODELS as CONVEX
from test_fused_fluid import FLUIDS, SWIMMER
from test_fused_ground import BALLS, CORNERED, ROUND, hills, rolling
from test_fused_rows import ROWS, model_of
from test_fused_sensors import SENSORS, WELDED, WORLD
from test_fused_thrust import DRONE, OPTIONS

MODELS = {
    "joints": TRUTHS["implicitfast"][1],
    "balls": TRUTHS["balls and free joints"][1],
    "points": TRUTHS["on a plane"][1],
    "trees": TRUTHS["contacts between trees"][1],
    "obstacles": TRUTHS["fixed obstacles"][1],
    "hills": hills(bodies=BALLS + "".join(map(rolling, ROUND.values()))),
    "cornered on hills": hills(bodies="".join(map(rolling, CORNERED.values())), assets=MESHES),
    "many boxes": on_boxes("".join(free(own) for some in SHAPES.values() for own in some)),
    "round on many boxes": on_boxes(
        "".join(free(own[0]) for own in ON_BOXES.values()), assets=MESHES
    ),
    "convex": CONVEX["on what is fixed"][1].replace("<worldbody>", f"{MESHES}<worldbody>", 1),
    "lanes": f"<mujoco><worldbody>{ARMS}</worldbody></mujoco>",
    "rows": model_of(ROWS),
    "RK4": TRUTHS["RK4"][1],
    "lanes, RK4": f'<mujoco><option integrator="RK4"/><worldbody>{ARMS}</worldbody></mujoco>',
    "fluid": SWIMMER(**FLUIDS["RK4"]),
    "drone": DRONE(**OPTIONS["implicitfast"]),
    "welded": WELDED.format(""),
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
    wide = {"inertia", "limit", "point", "pair"}
    text = cuda.source(constants(structure, {"body_mass"}, wide, shapes, cuda.SIZES, lanes))
    cubin = cuda.compile_cubin(text, "sm_90")
    assert len(cubin) > 10_000
    assert not places_used_twice(cubin)


@pytest.mark.parametrize("name", ["Ant", "Go2Velocity"])
def test_numbers_are_made_on_the_gpu_without_waiting(name):
    """Fake tensors know their device and have no values: what mixes devices or waits, fails."""
    if not torch.backends.cuda.is_built():
        pytest.skip("torch's build for CPUs alone makes no fake tensors of a GPU")
    model = tasks.make(name, num_envs=2, device="cpu", engine="mujoco").sim.model
    gpu = torch.device("cuda")
    with FakeTensorMode(allow_non_fake_inputs=True):
        structure = Structure(model)
        lanes, numbers = spread(structure), Numbers(structure, gpu)
        shared = model_fields(model, gpu)

        def own(name):
            value = shared(name)
            return value.expand(8, *value.shape[1:]) if name in VARIABLE else value

        for field, envs in ((shared, 1), (own, 8)):
            made = {k: lanes.arranged(k, v) for k, v in numbers.make(field).items()}
            assert {v.device.type for v in made.values()} == {"cuda"}
            assert max(len(v) for v in made.values()) == envs
        zeros = [torch.zeros(8, *n, device=gpu) for n in ((model.nv, 6), *[(model.nbody, 3)] * 2)]
        found = Invweights(structure, gpu).find(torch.zeros_like, *zeros)
        assert found["body_invweight0"].shape == (8, model.nbody, 2)
        assert {x.device.type for x in found.values()} == {"cuda"}
