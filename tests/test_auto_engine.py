"""`engine=auto`: the fused engine where that is possible, otherwise MuJoCo's own."""

import ctypes
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
from warp._src import build

from phalanx import tasks
from phalanx.cli.main import main
from phalanx.compute import cache, clang
from phalanx.compute.start_warp import standard_error_in
from phalanx.errors import PhalanxError, PhalanxWarning
from phalanx.sim import Scene, Sim
from phalanx.sim.engines import make_engine
from phalanx.sim.engines.auto import FEWEST, AutoEngine
from phalanx.sim.engines.fused import cpu
from test_fused import Text

BALL = '<mujoco><worldbody><body name="b">{0}<geom size=".1"/></body></worldbody></mujoco>'


def ball(tmp_path, joint, num_envs=FEWEST):
    (tmp_path / "ball.xml").write_text(BALL.format(joint))
    scene = Scene(0.01)
    scene.add_ground()
    scene.add_actor("ball", tmp_path / "ball.xml", pos=(0, 0, 1))
    return Sim(scene, num_envs, "cpu")


def ant(engine="auto", num_envs=FEWEST):
    torch.manual_seed(0)
    task = tasks.make("Ant", num_envs=num_envs, device="cpu", engine=engine)
    task.reset()
    return task


def moved(task, steps, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        task.step(2 * torch.rand(task.num_envs, 8, generator=generator) - 1)
    return task


def test_fused_where_that_is_possible_and_pays(tmp_path):
    assert ball(tmp_path, "<freejoint/>").engine.name == "fused"
    few = ball(tmp_path, "<freejoint/>", FEWEST - 1)
    assert few.engine.name == "mujoco"
    assert few.engine_report() == ""


def test_what_fused_refuses_runs_on_mujoco_and_says_why(tmp_path):
    refused = '<joint type="free" stiffness="1"/><geom size=".1"/>'
    sim = ball(tmp_path, refused)
    assert sim.engine.name == "mujoco"
    assert sim.engine_report().startswith("physics runs on engine mujoco: the fused engine does")


def auto_with_warp(scene, num_envs):
    """What "auto" is on a GPU."""
    device = torch.device("cpu")
    return AutoEngine(
        scene, num_envs, device, "warp", lambda: make_engine("warp", scene, num_envs, device)
    )


@pytest.mark.parametrize("other", ["mujoco", "warp"])
@pytest.mark.parametrize("asked", ["field", "model field"])
def test_what_is_asked_for_later_changes_the_engine_and_nothing_else(asked, other):
    task = moved(ant("auto" if other == "mujoco" else auto_with_warp), 20)
    sim, before = task.sim, task.sim.qpos.clone()
    held = {n: getattr(sim, n) for n in ("qpos", "qvel", "ctrl", "sensordata", "xpos", "M")}
    values = {name: value.clone() for name, value in held.items()}
    assert sim.engine.name == "fused"
    if asked == "field":
        assert len(sim.qfrc_bias) == FEWEST
    else:
        sim.model_field("geom_solmix")
    assert sim.engine.name == other
    for name, value in held.items():
        assert getattr(sim, name) is value
        torch.testing.assert_close(value, values[name], rtol=1e-5, atol=1e-5, msg=name)
    # From here on it is what the other engine does from this state.
    alone = moved(ant(other), 1)
    alone.sim.qpos.copy_(before)
    alone.sim.qvel.copy_(sim.qvel)
    for each in (sim, alone.sim):
        each.ctrl.fill_(0.3)
        each.step()
    for name in held:
        torch.testing.assert_close(getattr(alone.sim, name), held[name], rtol=1e-4, atol=1e-4)
    assert (sim.qpos - before).abs().max() > 0.01


def test_values_of_model_fields_are_kept():
    task = ant()
    mass = task.sim.model_field("body_mass")
    mass[3, 2] *= 5
    assert task.sim.engine.name == "fused"
    colour = task.sim.model_field("geom_rgba")  # only pictures show it
    colour[3, 0] = 0.5
    assert task.sim.engine.name == "fused"
    task.sim.model_field("geom_solmix")
    assert task.sim.engine.name == "mujoco"
    assert task.sim.engine_report().endswith("has no geom_solmix of each environment's own")
    assert task.sim.model_field("body_mass") is mass
    assert task.sim.model_of(3).geom_rgba[0, 0] == 0.5
    assert task.sim.model_of(3).body_mass[2] == pytest.approx(float(mass[3, 2]))


def test_a_value_that_fused_refuses_changes_the_engine(tmp_path):
    spring = '<body name="b" pos="0 0 2"><freejoint/><geom size=".1"/></body>'
    (tmp_path / "ball.xml").write_text(f"<mujoco><worldbody>{spring}</worldbody></mujoco>")
    for ask in (Sim.step, Sim.forward):
        scene = Scene(0.01)
        scene.add_actor("ball", tmp_path / "ball.xml")
        sim = Sim(scene, FEWEST, "cpu")
        qpos, xpos = sim.qpos, sim.xpos
        sim.step()
        sim.model_field("jnt_stiffness")[3] = 5
        sim.qpos[:, 0] += 1
        assert sim.engine.name == "fused"
        ask(sim)
        assert sim.engine.name == "mujoco"
        assert "a spring on a free joint" in sim.engine_report()
        sim.step()
        assert sim.qpos is qpos
        assert sim.xpos is xpos
        assert sim.qvel[3, 0] < -0.01
        assert sim.qvel[4, 0] == 0


SPHERES = "".join(f'<geom size=".1" pos="{i} 0 0"/>' for i in range(3))
TWO = f"""<mujoco><option timestep=".01" gravity="0 0 0" integrator="implicitfast"/><worldbody>
  <body>{SPHERES}</body>
  <body name="free" pos="0 0 .28"><freejoint/>{SPHERES}
    <body pos=".5 0 .2"><joint name="j" axis="0 1 0"/><geom size=".1" pos=".3 0 .1"/></body>
  </body></worldbody><sensor><subtreecom body="free"/></sensor></mujoco>"""
"""Spheres that touch only once they are larger, and bodies whose masses will differ."""


def two_bodies(engine):
    return Sim(Text(TWO), FEWEST, "cpu", engine=engine)


@pytest.mark.parametrize("other", ["mujoco", "warp"])
@pytest.mark.parametrize("left", [True, False])
def test_shapes_and_masses_of_their_own_are_what_they_are_from_the_start(other, left):
    """MuJoCo has more constants that follow from them than the fused engine: boxes around shapes,
    without which enlarged ones pass through each other, and masses of subtrees."""
    auto = two_bodies("auto" if other == "mujoco" else auto_with_warp)
    alone = two_bodies(other)
    growth = torch.linspace(1.6, 2.5, FEWEST)[:, None]
    for sim in (auto, alone):
        sim.subtree_com, sim.cvel, sim.cfrc_ext, sim.sensordata  # noqa: B018
        sim.model_field("geom_size")[..., 0] *= growth
        sim.model_field("geom_aabb")  # that of pictures
        sim.model_field("body_mass")[:, 3] *= growth[:, 0] ** 3
        sim.set_const()
        if left:
            assert sim.qfrc_bias.isfinite().all()
        sim.step()
        sim.step()
    assert auto.engine.name == (other if left else "fused")
    assert alone.qvel[:, 2].min() > 0.1  # they push each other away
    for name in ("qvel", "subtree_com", "cvel", "cfrc_ext", "sensordata"):
        expected = getattr(alone, name)
        torch.testing.assert_close(getattr(auto, name), expected, rtol=2e-3, atol=2e-4, msg=name)
    boxes = alone.model_field("geom_aabb").reshape(FEWEST, -1)
    torch.testing.assert_close(auto.model_field("geom_aabb").reshape(FEWEST, -1), boxes)
    for name in ("geom_aabb", "bvh_aabb", "geom_rbound", "body_subtreemass", "dof_M0"):
        values = (getattr(sim.model_of(9), name) for sim in (auto, alone))
        np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-6, err_msg=name)
    touching = mujoco.MjData(model := auto.model_of(9))
    mujoco.mj_forward(model, touching)
    assert touching.ncon == 3


def test_names_that_no_engine_has_change_nothing():
    task = ant()
    with pytest.raises(AttributeError, match="did you mean"):
        task.sim.qposs  # noqa: B018
    with pytest.raises(PhalanxError, match="no per-environment model field"):
        task.sim.model_field("body_masss")
    assert task.sim.engine.name == "fused"


def test_a_state_continues_on_the_engine_that_saved_it():
    saved = moved(ant("mujoco"), 5).state_dict()
    task = ant()
    task.load_state_dict(saved)
    assert task.sim.engine.name == "mujoco"
    fused = moved(ant(), 5)
    again = ant()
    again.load_state_dict(fused.state_dict())
    assert again.sim.engine.name == "fused"
    moved(fused, 3, seed=2)
    moved(again, 3, seed=2)
    assert torch.equal(fused.sim.qpos, again.sim.qpos)
    assert torch.equal(fused.obs_buf, again.obs_buf)


def test_a_saved_value_that_fused_refuses_is_loaded():
    saving, loading, alone = (two_bodies(engine) for engine in ("auto", "auto", "mujoco"))
    for sim in (saving, alone):
        sim.qvel[:, 1] = 0.5
        sim.model_field("jnt_stiffness")[5, 0] = 3
    loading.xpos  # noqa: B018
    loading.load_state_dict(saving.state_dict())
    assert loading.engine.name == "mujoco"
    for sim in (loading, alone):
        sim.step()
    torch.testing.assert_close(loading.xpos, alone.xpos)
    assert torch.equal(loading.qvel, alone.qvel)


def test_without_a_compiler_it_is_mujoco_and_says_so(monkeypatch):
    from warp._src import context

    ant()  # Warp has started
    monkeypatch.setattr(context.runtime, "llvm", None)
    sim = ant().sim
    assert sim.engine.name == "mujoco"
    assert sim.engine_report().endswith("this Warp came without its compiler for CPUs")


def test_code_that_does_not_compile_is_kept_with_its_model(monkeypatch, capfd):
    right = cpu.source
    monkeypatch.setattr(cpu, "source", lambda constants: right(constants) + "nonsense")
    sim = ant().sim
    assert sim.engine.name == "mujoco"
    code = Path(re.search(r"does not compile (\S+/code.cpp)", sim.engine_report())[1])
    assert "error: " in code.read_text().split("nonsense\n")[1]
    assert capfd.readouterr().err == ""
    assert mujoco.MjModel.from_binary_path(str(code.with_name("model.mjb"))).nq == sim.model.nq
    with pytest.raises(PhalanxError, match="use another engine"):
        ant("fused")


def test_code_that_does_not_compile_is_kept_beside_the_run(monkeypatch, tmp_path, capfd):
    right = cpu.source
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cache, "_refused_in", None)
    monkeypatch.setattr(cpu, "source", lambda constants: right(constants) + "nonsense")
    main(
        [
            "train",
            "task=Cartpole",
            "num_envs=64",
            "max_iterations=1",
            "sim_device=cpu",
            "rl_device=cpu",
        ]
    )
    assert Path("runs", "Cartpole").is_dir()
    (folder,) = Path("runs").glob("not_compiled_*")
    assert {p.name for p in folder.iterdir()} == {"code.cpp", "model.mjb"}
    said = capfd.readouterr()
    assert str(folder) in said.out
    assert "error:" not in said.err


def number_in_c(number):
    text = f'extern "C" int number() {{ return {number}; }}'
    return clang.functions(text, {"number": (ctypes.c_int,)})["number"]()


def test_a_compiler_that_does_not_know_the_processor_says_so_once(monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    monkeypatch.setattr(clang, "NATIVE", ("-march=unknown", ""))
    clang._say_slow.cache_clear()
    with pytest.warns(PhalanxWarning, match="does not take -march=unknown") as warned:
        assert [number_in_c(2), number_in_c(3)] == [2, 3]
    assert [w.category for w in warned].count(PhalanxWarning) == 1


def test_what_other_threads_say_while_something_compiles_is_not_lost(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    monkeypatch.setattr(clang, "NATIVE", ("-march=unknown", ""))
    build_cpu = build.build_cpu

    def build_and_say(*arguments, **options):
        os.write(2, b"another thread\n")
        return build_cpu(*arguments, **options)

    monkeypatch.setattr(build, "build_cpu", build_and_say)
    assert number_in_c(6) == 6
    assert capfd.readouterr().err == 2 * "another thread\n"


def test_two_threads_that_compile_at_once_give_standard_error_back(capfd):
    first, second, entered, go = [], [], threading.Event(), threading.Event()

    def redirect():
        with standard_error_in(second):
            entered.set()
            go.wait()
            os.write(2, b"second\n")

    own = os.dup(2)
    other = threading.Thread(target=redirect)
    with standard_error_in(first):
        other.start()
        entered.wait(0.5)  # it must not come in
        os.write(2, b"first\n")
    go.set()
    other.join()
    same = os.path.samestat(os.fstat(2), os.fstat(own))
    os.dup2(own, 2)
    os.close(own)
    assert same
    assert (first, second) == ([b"first\n"], [b"second\n"])


def test_a_processor_without_wide_vectors_is_named(monkeypatch):
    monkeypatch.setattr(clang, "_processor", lambda: "flags\t\t: fpu sse2 ssse3")
    clang._say_slow.cache_clear()
    with pytest.warns(PhalanxWarning, match="this processor has no AVX") as warned:
        assert [number_in_c(4), number_in_c(5)] == [4, 5]
    assert [w.category for w in warned].count(PhalanxWarning) == 1


def test_a_cache_that_cannot_be_written_costs_one_warning(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "file" / "phalanx")
    with pytest.warns(PhalanxWarning, match="every start compiles it again") as warned:
        assert cache.kept("a", "b", lambda text, target: b"built") == b"built"
    assert [w.category for w in warned].count(PhalanxWarning) == 1


def test_warp_starts_where_its_folder_cannot_be_written():
    program = "from phalanx.compute.cache import kept; print(kept('a', 'b', lambda *_: b'built'))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "WARP_CACHE_PATH": "/proc/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "b'built'\n"
    assert done.stderr.count("cannot keep compiled code in /proc/nowhere") == 1
