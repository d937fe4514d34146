"""Kernels loaded side by side, and what a user sees of it."""

import io
import re
import time
from types import SimpleNamespace

import pytest
import warp as wp
from rich.console import Console

from phalanx.cli import warmup
from phalanx.cli.main import main
from phalanx.sim.engines import kernels


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty kernel cache."""
    wp.init()
    monkeypatch.setattr(wp.config, "kernel_cache_dir", str(tmp_path))
    return tmp_path


def add_builder(constant):
    """A kernel in a module of its own, which no other test has compiled."""

    @wp.kernel(module="unique", enable_backward=False)
    def add(x: wp.array(dtype=float)):
        x[wp.tid()] = x[wp.tid()] + wp.static(float(constant))

    return add


def test_a_step_is_compiled_without_being_run(cache):
    x = wp.zeros(3, dtype=float, device="cpu")
    opt = SimpleNamespace(graph_conditional=True, iterations=5)
    adds, during, told = [add_builder(0.25), add_builder(0.5)], [], []

    def step():
        during.append((opt.graph_conditional, opt.iterations))
        for add in adds:
            wp.launch(add, dim=3, inputs=[x], device="cpu")

    with kernels.progress(lambda *counts: told.append(counts)):
        kernels.load_together(step, opt)
    already = len(told)
    kernels.load_together(lambda: None, opt)  # nothing to load, nobody listens any more
    assert len(told) == already
    assert x.numpy().tolist() == [0.0, 0.0, 0.0]
    assert during == [(False, 1)]
    assert (opt.graph_conditional, opt.iterations) == (True, 5)
    assert (told[0], told[-1]) == ((0, 2), (2, 2))
    assert told == sorted(told)
    assert kernels.cached_modules() == 2
    for add in adds:  # nothing is left to compile
        add.module._compile = lambda *args, **kwargs: pytest.fail("compiled again")
    step()
    assert x.numpy().tolist() == [0.75, 0.75, 0.75]


def test_kernels_asked_for_a_block_size_are_compiled_with_the_others(cache, monkeypatch):
    """On a GPU MuJoCo Warp asks for the block size of convex collisions' kernels before it launches
    them, which compiled each for 20 s, one after the other, before anything ran side by side."""
    gpu, opt = SimpleNamespace(is_cuda=True), SimpleNamespace(graph_conditional=True, iterations=0)
    convex, other = add_builder(0.75), add_builder(1.5)
    monkeypatch.setattr(wp, "get_device", lambda device=None: gpu)
    for add in (convex, other):
        add.module._compile = lambda *args, **kwargs: pytest.fail("compiled in the dry run")
    convex.module.options["block_dim"] = 64

    def step():
        other.module.load(gpu, 256)
        wp.get_suggested_block_size(convex, gpu)
        convex.module.load(gpu, 64)

    found = kernels._launched_by(step, opt)
    assert [(module, dim) for module, _, dim in found] == [
        (convex.module, 64),
        (other.module, 256),
    ]


def test_long_compiling_without_a_listener_is_logged(cache, caplog, monkeypatch):
    opt = SimpleNamespace(graph_conditional=True, iterations=0)
    adds = [add_builder(2.0), add_builder(4.0)]
    x = wp.zeros(1, dtype=float, device="cpu")
    monkeypatch.setattr(kernels, "QUICK_S", 0.0)
    monkeypatch.setattr(kernels, "SECONDS_BETWEEN_WORDS", 1e-9)
    step = lambda: [wp.launch(add, dim=1, inputs=[x], device="cpu") for add in adds]  # noqa: E731
    with kernels.progress(lambda *counts: None):
        kernels.load_together(lambda: wp.launch(add_builder(8.0), 1, [x], device="cpu"), opt)
    assert not caplog.text
    kernels.load_together(step, opt)
    assert caplog.text.count("compiling 2 modules of kernels") == 1


def test_an_error_in_the_dry_run_restores_warp(cache):
    opt = SimpleNamespace(graph_conditional=True, iterations=0)
    with pytest.raises(ZeroDivisionError):
        kernels.load_together(lambda: 1 / 0, opt)
    x = wp.zeros(1, dtype=float, device="cpu")
    wp.launch(add_builder(0.125), dim=1, inputs=[x], device="cpu")
    assert x.numpy().tolist() == [0.125]
    assert (opt.graph_conditional, opt.iterations) == (True, 0)


def shown(seconds_each, monkeypatch):
    console = Console(file=io.StringIO(), width=100)
    clock = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: seconds_each * next(clock))
    with warmup.loading_shown(console):
        for loaded in range(4):
            kernels._report_progress(loaded, 3)
    return console.file.getvalue()


def test_only_compiling_is_shown(monkeypatch):
    assert shown(0.01, monkeypatch) == ""
    said = shown(10.0, monkeypatch)
    assert "compiling kernels of MuJoCo Warp" in said
    assert "3 modules of kernels loaded in 30 s" in said


def test_a_step_is_compiled_once_on_a_cpu(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("warp.config.kernel_cache_dir", str(tmp_path))
    command = ["warmup", "task=Cartpole", "num_envs=64", "sim_device=cpu", "rl_device=cpu"]
    main(command)
    said = capsys.readouterr().out  # the step, and what the learner computes
    assert re.search(r"Cartpole: [1-9] modules? of code compiled, ready after", said)
    main(command)
    assert "everything was compiled already" in capsys.readouterr().out


def test_warmup_checks_its_options(capsys):
    with pytest.raises(SystemExit):
        main(["warmup", "task=Atn"])
    assert "unknown task 'Atn'; did you mean 'Ant'?" in capsys.readouterr().err


def test_an_interrupt_leaves_out_what_has_not_begun_to_compile(monkeypatch):
    loaded = []

    def load(*_):
        time.sleep(0.02)
        loaded.append(1)

    def stop(done, modules):
        if done:
            raise KeyboardInterrupt

    module = SimpleNamespace(kernels=(), load=load)
    monkeypatch.setattr(kernels, "_launched_by", lambda *_: [(module, None, None)] * 200)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    with pytest.raises(KeyboardInterrupt), kernels.progress(stop):
        kernels.load_together(None, None)
    assert len(loaded) < 200
