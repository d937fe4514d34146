"""Kinds of models that the fused engine steps, on a GPU against MuJoCo: other tests do so on a CPU,
where another compiler makes the step."""

import pytest
import torch

from phalanx.sim import Sim
from test_fused import MOCAP, Text, stir
from test_fused import MODELS as TRUTHS
from test_fused_convex import MESHES
from test_fused_fluid import FLUIDS, SWIMMER
from test_fused_ground import CORNERED, ROD, ROUND, cornered, dropped, hills, rolling
from test_fused_rows import ROWS
from test_fused_rows import model_of as with_rows
from test_fused_sensors import SENSORS, WELDED, WORLD
from test_fused_thrust import DRONE, OPTIONS

N = 64
KINDS = (
    "Euler", "implicitfast", "activations, implicitfast", "affine gains", "balls and free joints",
    "RK4", "on a plane", "on a tilted plane", "friction between bodies", "fixed obstacles",
    "contacts between trees", "boxes between bodies", "elliptic cones between bodies",
)  # fmt: skip
STIRRED = {
    **{name: TRUTHS[name][1] for name in KINDS},
    "rows": with_rows(ROWS),
    "rows, implicitfast": with_rows(ROWS, 'integrator="implicitfast"'),
    "in water": SWIMMER(**{"option": "", **FLUIDS["water"]}),
    "in a fluid, RK4": SWIMMER(**FLUIDS["RK4"]),
    "a drone": DRONE(**OPTIONS["implicitfast"]),
    "welded": WELDED.format('cone="elliptic"'),
    "sensors": WORLD.format("".join(SENSORS.values())),
}
DROPPED = {
    "spheres on hills": hills(),
    "capsules on hills": hills(bodies=ROD),
    "round shapes on hills": hills(bodies="".join(map(rolling, ROUND.values()))),
    "boxes and hulls on hills": hills(
        bodies="".join(map(rolling, CORNERED.values())), assets=MESHES
    ),
}  # fmt: skip


class Exact(Text):
    """For MuJoCo: nearest points on hills as exact as the fused engine has them."""

    def compile(self, memory=-1):
        return cornered(super().compile(memory))


def compared(name, cpu, other):
    """How many worlds have another velocity, or a force or sensor, after one step of both."""
    generator, off = torch.Generator().manual_seed(1), []
    fields = ["qfrc_constraint", "sensordata"] if cpu.model.nsensordata else ["qfrc_constraint"]
    for sim in (cpu, other):
        for field in fields:
            getattr(sim, field)
    for spread in (1.0, 0.3, 0.1):
        if name in DROPPED:
            dropped(cpu, generator)
        else:
            stir(cpu, generator, spread)
        for field in ("qpos", "qvel", "ctrl", "act", *(MOCAP if cpu.model.nmocap else ())):
            getattr(other, field).copy_(getattr(cpu, field))
        before = cpu.qvel.clone()
        cpu.step()
        other.step()
        change = (cpu.qvel - before).abs().amax(1, keepdim=True).clamp(min=1)
        wrong = ((other.qvel.cpu() - cpu.qvel).abs() > 1e-3 * change).any(1)
        for field in fields:
            value, wanted = getattr(other, field).cpu(), getattr(cpu, field)
            scale = 1 + wanted.abs().amax(1, keepdim=True)
            wrong |= ((value - wanted).abs() > 2e-3 * scale).any(1)
        off.append(wrong)
    return torch.cat(off).float().mean()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", STIRRED | DROPPED)
def test_a_model_steps_on_a_gpu_as_mujocos(name):
    xml, exactly = (STIRRED | DROPPED)[name], Exact if name in DROPPED else Text
    cpu = Sim(exactly(xml), N, "cpu", engine="mujoco")
    gpu = Sim(Text(xml), N, "cuda", engine="fused")
    # A contact may begin in one and not yet in the other. Hulls, and capsules whose axis is in the
    # ground, have several ways out of a hill.
    assert compared(name, cpu, gpu) < (0.3 if "hulls" in name or "capsules" in name else 0.05)
