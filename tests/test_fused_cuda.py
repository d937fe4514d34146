"""The fused engine on a GPU: against MuJoCo C, and the same bits eagerly, in graphs and twice."""

import copy

import pytest
import torch

from phalanx import tasks
from phalanx.errors import PhalanxError
from phalanx.sim import Sim
from phalanx.sim.engines.fused import cuda
from test_fused import TASKS, Text, exact, launched, stepped, stir
from test_fused_boxes import CONVEX as ROUND
from test_fused_boxes import ROBOTS, SHAPES, dropped, free, model_of, robot, row
from test_fused_convex import MESHES
from test_fused_convex import MODELS as CONVEX
from test_fused_sensors import RANGES

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

N = 64


def make(name, device="cuda", num_envs=N, engine="fused"):
    task = tasks.make(name, num_envs=num_envs, device=device, engine=engine)
    task.reset()
    return task


def copied(source, target):
    """The state and the controls of one simulation in another."""
    for name in ("qpos", "qvel", "ctrl"):
        getattr(target, name).copy_(getattr(source, name))


def differ(cpu, gpu):
    """Which velocities differ after one step from the state of `cpu`."""
    copied(cpu, gpu)
    before = cpu.qvel.clone()
    cpu.step()
    gpu.step()
    change = (cpu.qvel - before).abs().amax().clamp(min=1)
    return (gpu.qvel.cpu() - cpu.qvel).abs() > 1e-3 * change


@pytest.mark.parametrize("name", TASKS)
def test_robots_step_as_mujocos_on_a_gpu(name):
    gpu, cpu = make(name).sim, make(name, "cpu", engine="mujoco").sim
    model, generator = exact(cpu.model), torch.Generator().manual_seed(1)
    forces = gpu.qfrc_constraint, gpu.actuator_force, gpu.xpos, gpu.sensordata
    for _ in range(4):
        launched(cpu, generator)
        copied(cpu, gpu)
        before = cpu.qvel.clone()
        datas = [stepped(model, cpu, env) for env in range(N)]
        gpu.advance(1)
        for env, data in enumerate(datas):
            expected = torch.from_numpy(data.qvel).float()
            change = (expected - before[env]).abs().max().clamp(min=1)
            error = (gpu.qvel[env].cpu() - expected).abs().max() / change
            assert error < 2 * TASKS[name][0], env  # --use_fast_math
    assert all(field.isfinite().all() for field in forces)


@pytest.mark.parametrize("name", CONVEX)
def test_convex_shapes_touch_as_mujocos_on_a_gpu(name):
    xml = CONVEX[name][1].replace("<worldbody>", f"{MESHES}<worldbody>", 1)
    cpu, gpu = Sim(Text(xml), N, "cpu", engine="mujoco"), Sim(Text(xml), N, "cuda", engine="fused")
    generator, off = torch.Generator().manual_seed(1), []
    for spread in (0.5, 0.3):
        stir(cpu, generator, spread)
        off.append(differ(cpu, gpu))
    # Which of two faces counts may differ, see docs/physics.md; on a CPU 2 % of the numbers do.
    assert torch.stack(off).float().mean() < 0.04


@pytest.mark.parametrize("name", ROBOTS)
def test_robots_on_many_boxes_step_as_mujocos_on_a_gpu(name):
    cpu, gpu = robot(name, engine="mujoco"), robot(name, device="cuda")
    forces, off = (cpu.qfrc_constraint, gpu.qfrc_constraint), []
    for _ in range(8):
        cpu.advance(20)
        copied(cpu, gpu)
        before = cpu.qvel.clone()
        for sim in (cpu, gpu):
            sim.advance(1)
        change = (cpu.qvel - before).abs().amax(1, keepdim=True).clamp(min=1)
        error = (gpu.qvel.cpu() - cpu.qvel).abs() / change
        off += (error.amax(1) > 2 * ROBOTS[name]).tolist()
        assert all(force.any() for force in forces)
    assert sum(off) <= 3  # of 128: a foot may begin 1e-7 m above a box, where forces jump


@pytest.mark.parametrize("kind", SHAPES | ROUND)
def test_shapes_touch_many_boxes_as_mujocos_on_a_gpu(kind):
    text = Text(model_of("".join(map(free, (SHAPES | ROUND)[kind])), assets=MESHES))
    cpu, gpu = Sim(text, N, "cpu", engine="mujoco"), Sim(text, N, "cuda", engine="fused")
    generator, off = torch.Generator().manual_seed(1), []
    for _ in range(3):
        dropped(cpu, generator)
        off.append(differ(cpu, gpu))
    # Which of two faces counts may differ, see docs/physics.md; on a CPU 2.5 to 4.3 % do.
    assert torch.stack(off).float().mean() < (0.01 if kind in SHAPES else 0.09)


def test_another_friction_of_one_box_of_many_is_refused_after_a_graph():
    sim = Sim(Text(model_of(free('size=".1"'), row(40))), N, "cuda", engine="fused")
    friction = sim.model_field("geom_friction")
    sim.advance()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), sim.engine.capture():
        friction.mul_(0.9)
        sim.advance()
    graph.replay()
    assert sim.engine.grow() is None
    friction[1, 3] *= 2
    graph.replay()
    with pytest.raises(PhalanxError, match="one of many fixed boxes"):
        sim.engine.grow()


def test_boxes_that_differ_are_obstacles_one_by_one_on_a_gpu():
    text = Text(model_of(free('size=".1"'), row(40)))
    cpu, gpu = Sim(text, N, "cpu", engine="mujoco"), Sim(text, N, "cuda", engine="fused")
    for sim in (cpu, gpu):
        sim.model_field("geom_friction")[1, 3] *= 2
    dropped(cpu, torch.Generator().manual_seed(1), 0.5)
    off = differ(cpu, gpu)
    assert not gpu.engine._structure.box_fields
    assert off.float().mean() < 0.01


@pytest.mark.parametrize("name", TASKS)
def test_a_thousand_captured_steps_give_the_bits_of_eager_ones_twice(name):
    task = make(name, num_envs=256)
    sim = task.sim
    shown = [sim.xpos, sim.sensordata]
    start = copy.deepcopy(sim.state_dict())
    ctrl = torch.rand(
        sim.ctrl.shape, generator=torch.Generator("cuda").manual_seed(2), device="cuda"
    )

    def steps(count):
        for k in range(count):
            sim.ctrl.copy_(2 * ctrl.roll(k, 0) - 1)
            sim.advance()

    graph = torch.cuda.CUDAGraph()
    steps(1)
    with torch.cuda.graph(graph), sim.engine.capture():
        steps(20)
    results = []
    for run in (
        lambda: [graph.replay() for _ in range(50)],
        lambda: [steps(20) for _ in range(50)],
    ):
        for _ in range(2):
            sim.load_state_dict(start)
            run()
            results.append([sim.qpos.clone(), sim.qvel.clone(), *(x.clone() for x in shown)])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))


def test_model_fields_of_each_environment_count_on_a_gpu_and_in_graphs():
    gpu, cpu = make("Ant").sim, make("Ant", "cpu", engine="mujoco").sim
    generator = torch.Generator().manual_seed(5)
    launched(cpu, generator)
    copied(cpu, gpu)
    for name in ("body_mass", "dof_damping", "geom_friction", "actuator_gear"):
        field = gpu.model_field(name)
        field *= (0.7 + 0.6 * torch.rand(field.shape, generator=generator)).to("cuda")
    gpu.set_const()
    datas = [stepped(exact(gpu.model_of(env)), cpu, env) for env in range(N)]
    gpu.advance(1)
    expected = torch.tensor([d.qvel.tolist() for d in datas])
    change = (expected - cpu.qvel).abs().amax(1, keepdim=True).clamp(min=1)
    assert ((gpu.qvel.cpu() - expected).abs() / change).max() < 2 * TASKS["Ant"][0]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), gpu.engine.capture():
        gpu.advance(1)
    copied(cpu, gpu)
    graph.replay()
    assert ((gpu.qvel.cpu() - expected).abs() / change).max() < 2 * TASKS["Ant"][0]
    mass = gpu.model_field("body_mass")
    halved = torch.cuda.CUDAGraph()
    with torch.cuda.graph(halved), gpu.engine.capture():  # writes inside of a graph
        mass.mul_(0.5)
        gpu.set_const()
        gpu.advance(1)
    copied(cpu, gpu)
    halved.replay()
    datas = [stepped(exact(gpu.model_of(env)), cpu, env) for env in range(N)]
    expected = torch.tensor([d.qvel.tolist() for d in datas])
    assert ((gpu.qvel.cpu() - expected).abs() / change).max() < 2 * TASKS["Ant"][0]
    mass.mul_(2)  # and outside of the first graph
    gpu.set_const()
    gpu.take_model_fields()
    copied(cpu, gpu)
    graph.replay()
    datas = [stepped(exact(gpu.model_of(env)), cpu, env) for env in range(N)]
    expected = torch.tensor([d.qvel.tolist() for d in datas])
    assert ((gpu.qvel.cpu() - expected).abs() / change).max() < 2 * TASKS["Ant"][0]


def test_rangefinders_in_a_graph_are_those_of_a_cpu():
    sensors = "".join(f'<rangefinder site="{site}"/>' for site in ("s0", "tip", "inside"))
    text = Text(RANGES.format('<site name="s0" euler="60 20 0"/>', sensors))
    cpu, gpu = Sim(text, N, "cpu", engine="mujoco"), Sim(text, N, "cuda", engine="fused")
    seen = cpu.sensordata, gpu.sensordata
    stir(cpu, torch.Generator().manual_seed(1))
    copied(cpu, gpu)
    cpu.step()
    gpu.advance()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), gpu.engine.capture():
        gpu.advance()
    for name in ("qpos", "qvel"):
        getattr(gpu, name).copy_(getattr(cpu, name))
    graph.replay()
    cpu.step()
    near = (seen[1].cpu() - seen[0]).abs() < 1e-3
    assert near.float().mean() > 0.98  # a ray may just miss an edge
    assert 0.2 < (seen[0] > 0).float().mean() < 1


def test_contacts_that_do_not_fit_are_not_dropped(monkeypatch):
    from phalanx.sim.engines.fused import cuda
    from phalanx.sim.engines.fused.source import Sizes

    large = make("Humanoid").sim
    monkeypatch.setattr(cuda, "SIZES", Sizes(pairs=1, rows=1))
    small = make("Humanoid").sim
    generator = torch.Generator().manual_seed(3)
    host = make("Humanoid", "cpu", engine="mujoco").sim
    launched(host, generator)
    host.qpos[:, 7:] *= 2.5  # limbs through each other
    for sim in (large, small):
        copied(host, sim)
        sim.advance(2)
    assert "enlarged" in small.engine.grow()
    assert small.engine.grow() is None
    assert torch.equal(large.qpos, small.qpos)


def test_an_input_that_a_graph_would_not_see_is_refused():
    sim = make("Cartpole").sim
    sim.advance()
    with torch.cuda.graph(torch.cuda.CUDAGraph()), sim.engine.capture():
        sim.advance()
    with pytest.raises((AttributeError, PhalanxError), match="after a CUDA graph was captured"):
        sim.xfrc_applied  # noqa: B018


def test_training_on_a_gpu_repeats_bit_for_bit(tmp_path):
    from phalanx.rl import Runner

    weights = []
    for k in range(2):
        config = {"num_envs": 512, "engine": "fused"}
        params = {
            "seed": 5,
            "algo": {"name": "a2c_continuous"},
            "model": {"name": "continuous_a2c_logstd"},
            "network": {
                "name": "actor_critic",
                "mlp": {"units": [64, 32], "activation": "elu"},
                "space": {"continuous": {"fixed_sigma": True}},
            },
            "config": {
                "name": "Ant", "env_name": "rlgpu", "env_config": config, "num_actors": 512,
                "device": "cuda", "sim_device": "cuda", "horizon_length": 16,
                "minibatch_size": 2048, "mini_epochs": 2, "max_epochs": 5,
                "train_dir": str(tmp_path / str(k)),
                "gamma": 0.99, "tau": 0.95, "learning_rate": 3e-4, "e_clip": 0.2,
                "deterministic": True,
            },
        }  # fmt: skip
        config.pop("num_envs")
        runner = Runner()
        runner.load({"params": params})
        agent = runner.algo_factory.create("a2c_continuous", base_name="run", params=runner.params)
        agent.train()
        weights.append([p.detach().clone() for p in agent.model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("MOST_LOCAL", 1e-4, "of the GPU's memory, for its pairs of shapes"),
        ("places_used_twice", lambda _: 1, "nested too deeply for a GPU"),
    ],
)
def test_a_step_that_a_gpu_cannot_run_well_is_left_to_warp(name, value, reason, monkeypatch):
    monkeypatch.setattr(cuda, name, value)
    text = Text(model_of(free('size=".1"'), row(20, 'euler="0 0 5"')))
    sim = Sim(text, N, "cuda", engine="auto")
    assert sim.engine.name == "warp"
    assert reason in sim.engine.reason
