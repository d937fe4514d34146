"""The live page: environments that move while they learn or while a policy plays, in a browser."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest
import torch

from browser import LOADING, choose, page_at, page_of, pixels, running, wait_for
from phalanx import tasks
from phalanx.cli import console, train
from phalanx.cli.config import compose_config
from phalanx.cli.main import main
from phalanx.cli.play_source import PlaySource
from phalanx.cli.sim2sim_viewer import in_browser
from phalanx.cli.watch import Watch
from phalanx.sim import Scene, Sim
from phalanx.sim.latest import LatestStates
from phalanx.sim.recorder import ROWS, Recorder, rows_since
from phalanx.tasks.cartpole import Cartpole
from phalanx.tasks.commands import CommandSettings
from phalanx.viewer import crowd, open_server
from phalanx.viewer.live_view import FRAME, SLOWEST, LiveView
from phalanx.viewer.scene import COLLIDES
from phalanx.viewer.server import close
from phalanx.viewer.source import CURVES, TrainingSource
from phalanx.viewer.states import ROWS as FILE_ROWS
from phalanx.viewer.states import StateReader, StateWriter
from ports import free_port


def test_the_recorder_keeps_the_latest_states_of_the_first_environments():
    env = tasks.make("Cartpole", num_envs=5, device="cpu", engine="mujoco")
    recorder = Recorder(env.sim, 3)
    env.watchers.append(recorder.record)
    env.reset()
    seen = []
    for _ in range(ROWS + 10):
        env.step(torch.zeros(5, 1))
        seen.append(env.sim.qpos[:3].clone())
    last = int(env.sim.steps)
    rows, follows = rows_since(recorder.ring.clone(), last, last - 7)
    assert follows
    assert torch.equal(rows, torch.stack(seen[-7:]))
    rows, follows = rows_since(recorder.ring.clone(), last, last - ROWS - 1)
    assert not follows  # some are lost
    assert torch.equal(rows, torch.stack(seen[-ROWS:]))
    rows, follows = rows_since(recorder.ring.clone(), 4, 9)  # time was set back
    assert (len(rows), follows) == (4, False)


def test_the_recorder_keeps_bodies_that_are_set_too(tmp_path):
    (tmp_path / "two.xml").write_text(
        """<mujoco><worldbody><body mocap="true" pos="1 2 3"><geom size=".1"/></body>
        <body pos="0 0 1"><freejoint/><geom size=".1"/></body></worldbody></mujoco>"""
    )
    scene = Scene(timestep=0.01)
    scene.add_actor("two", tmp_path / "two.xml")
    sim = Sim(scene, num_envs=3, device="cpu")
    recorder = Recorder(sim, 2)
    sim.mocap_pos[:, 0, 0] = torch.arange(3.0)
    recorder.record()
    row = recorder.ring[int(sim.steps) % ROWS]
    assert torch.equal(row[:, :7], sim.qpos[:2])
    assert row[:, 7:].tolist() == [[0, 2, 3, 1, 0, 0, 0], [1, 2, 3, 1, 0, 0, 0]]


def test_states_are_kept_and_handed_over_only_while_somebody_looks(tmp_path):
    env = tasks.make("Cartpole", num_envs=5, device="cpu", engine="mujoco")
    watch = Watch(None, 3, "127.0.0.1", None)
    watch.folder, watch.states = tmp_path, LatestStates(env, 3)
    watch.writer = StateWriter(tmp_path, *watch.states.recorder.ring.shape[1:])
    (tmp_path / CURVES).touch()
    source = TrainingSource(tmp_path, env.sim.dt)
    env.reset()

    def train(steps):
        watch.states._asked = 0.0
        for _ in range(steps):
            env.step(torch.zeros(5, 1))
        watch.after_steps()
        return source._reader.written

    assert train(3) == 3  # the first ones say that training has begun
    source.watched(False)
    train(1)
    kept = watch.states.recorder.ring.clone()
    assert train(5) == 3
    assert torch.equal(watch.states.recorder.ring, kept)
    source.watched(True)
    train(1)
    assert train(4) == 7
    source.advance(100)
    assert torch.equal(torch.from_numpy(source.states), env.sim.qpos[:3])
    assert int(source._reader._file[FILE_ROWS]["begin"]) == 3  # a cut, not a jump


def test_states_arrive_in_order_and_a_slow_reader_goes_on_with_the_newest(tmp_path):
    writer = StateWriter(tmp_path, 2, 3)
    reader = StateReader(tmp_path)
    number = iter(range(10**6))

    def write(count, follows=True):
        writer.append(np.array([np.full((2, 3), next(number)) for _ in range(count)]), follows)

    def take(most):
        return reader.take(most)[:, 0, 0].tolist()

    assert take(5) == []
    write(7)
    assert take(5) == [0, 1, 2, 3, 4]
    assert take(5) == [5, 6]
    write(3)
    assert take(2) == [7, 8]
    for _ in range(20):
        write(FILE_ROWS // 8)
    last = next(number) - 1
    assert take(4) == [last - 3, last - 2, last - 1, last]  # a cut
    write(2, follows=False)
    assert take(9) == [last + 2, last + 3]


def test_training_faster_than_real_time_is_shown_in_pieces_without_cuts(tmp_path):
    writer = StateWriter(tmp_path, 1, 1)
    (tmp_path / CURVES).write_text('{"iteration": 3, "values": {"return": 1.5}}\n{"itera')
    source = TrainingSource(tmp_path, dt=0.1)
    shown, count = [], 0
    for _ in range(200):
        writer.append(np.arange(count, count + 60, dtype=np.float32).reshape(-1, 1, 1))
        count += 60
        source.advance(2)
        shown.append(float(source.states[0, 0]))
    steps = np.diff(shown)
    assert set(steps[steps <= 2]) == {2.0}
    assert (steps > 2).sum() < len(steps) / 15  # 40 steps of each piece, 2 at a time
    assert source.status() == "training, iteration 3"
    assert source.curves.series == {"return": [1.5]}
    with (tmp_path / CURVES).open("a") as file:
        file.write('tion": 4, "values": {"return": 2.5, "reward/up": 1}}\n')
    assert source.status() == "training, iteration 4"
    assert source.curves.series["return"] == [1.5, 2.5]
    assert np.isnan(source.curves.series["reward/up"][0])
    source.curves.clear()
    terms = [f"reward/{letter}" for letter in "qwertyuiop"]
    source.curves.add(0.0, dict.fromkeys(terms, 1.0))
    assert list(source.curves.series) == terms  # colours of a task's terms do not change


class Player:
    """Stands still; counts what it is asked for."""

    def __init__(self, env):
        self.env, self.restored = env, []

    def act(self, obs):
        return torch.zeros(self.env.num_envs, self.env.num_actions)

    def reset(self):
        pass

    def reset_states(self, done):
        pass

    def restore(self, path):
        self.restored.append(path)


@pytest.fixture
def view(tmp_path):
    """The page of a quadruped that takes commands, running."""
    (tmp_path / "last_Go2.pth").touch()
    env = tasks.make("Go2Velocity", num_envs=3, device="cpu", engine="mujoco", randomize=False)
    source = PlaySource(Player(env), tmp_path / "last_Go2.pth")
    view = LiveView(open_server("Go2"), env.sim.model_of(0), source, "Go2")
    with running(view):
        yield view


ROOM_BESIDE_NUMBERS = """() => Object.values(__viserTestpoints.uplots).map(({chart}) => {
    const axis = chart.axes[1], text = document.createElement("canvas").getContext("2d");
    text.font = axis.font[0];
    const width = text.measureText("-1,000,000").width / devicePixelRatio;
    return Math.min(axis._size - axis.gap - width, chart.over.offsetTop - axis.font[1] / 2);
})"""
"""Space [pixels] that a long number leaves at the left of each plot, or the top one above it."""


def test_every_control_of_the_page_reaches_what_plays(view, tmp_path):
    source, env = view.source, view.source.env
    with page_of(view.server) as page:
        button = lambda text: page.get_by_role("button", name=text, exact=True)  # noqa: E731
        wait_for(lambda: source._time > 0.3)
        wait_for(lambda: page.locator(".uplot").count() == 2)  # return, terms of the reward
        assert min(page.evaluate(ROOM_BESIDE_NUMBERS)) > 0
        page.locator(".u-over").first.hover()
        shown = page.locator(".u-legend .u-value").all_inner_texts
        wait_for(lambda: "--" not in (shown()[1:2] or ["--"]))
        button("Pause").click()
        wait_for(lambda: not view.running)
        time = source._time
        button("One step").click()
        wait_for(lambda: source._time == pytest.approx(time + source.dt))
        page.wait_for_timeout(1000)
        robots = pixels(page.locator("canvas").first.screenshot())
        assert len(np.unique(robots.reshape(-1, 3), axis=0)) > 200  # shaded shapes

        before = env.sim.qvel[:, :3].clone()
        button("Push").click()
        wait_for(lambda: not torch.equal(env.sim.qvel[0, :3], before[0]))
        assert float((env.sim.qvel[0, :2] - before[0, :2]).norm()) == pytest.approx(2.0, abs=0.1)
        assert torch.equal(env.sim.qvel[1:, :3], before[1:])
        before = env.sim.qvel.clone()
        page.set_viewport_size({"width": 1100, "height": 500})  # the panel leaves the middle free

        def dragged():
            page.wait_for_timeout(1000)
            box = page.locator("canvas").first.bounding_box()
            x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            page.mouse.move(x, y)  # the followed robot is in the middle
            page.mouse.down()
            page.mouse.move(x + 60, y, steps=6)
            page.wait_for_timeout(300)
            page.mouse.up()
            page.wait_for_timeout(300)
            return not torch.equal(env.sim.qvel[0], before[0])

        wait_for(dragged)
        assert torch.equal(env.sim.qvel[1:], before[1:])

        page.keyboard.press("w")
        wait_for(lambda: float(env.commands.values[0, 0]) == pytest.approx(0.2))
        assert env.commands.values.tolist()[1] == pytest.approx([0.2, 0.0, 0.0])
        (tmp_path / "Go2.pth").touch()
        os.utime(tmp_path / "Go2.pth", (1e9, 1e9))  # the clock was set back
        view.say()
        button("Play the newest checkpoint").click()
        wait_for(lambda: source.player.restored == [str(tmp_path / "Go2.pth")])
        button("Reset").click()
        wait_for(lambda: source._time == 0)
        button("Top").click()
        camera = next(iter(view.server.get_clients().values())).camera
        wait_for(lambda: camera.position[2] > 3 * abs(camera.position[1]) + 0.3)
        choose(page, "Follow", "environment 2")
        wait_for(lambda: view.followed == 2 and view._label.text == "Go2 environment 2")


def test_what_takes_long_to_load_is_said_to_be_loading(view):
    def slow():
        view.say()  # as every second
        assert view.status.content == "loading: another"
        return view.source

    view.others = {"another": slow}
    view.choose("another")
    assert view.status.content == view.source.status()


def test_what_is_paused_has_come_to_rest(view, monkeypatch):
    moving = threading.Event()

    def advance(steps, until):
        moving.set()
        time.sleep(0.2)
        moving.clear()

    monkeypatch.setattr(view.source, "advance", advance)
    monkeypatch.setattr(view.server, "get_clients", lambda: {0: None})
    assert moving.wait(60)
    view.set_running(False)
    assert not moving.is_set()


def test_a_page_of_training_draws_less_often_where_pictures_are_dear(view, monkeypatch):
    view.most_cores = 0.02
    assert view.frame_after(1.0) == FRAME  # one that simulates is never slowed down
    monkeypatch.setattr(PlaySource, "touchable", False)
    assert view.frame_after(0.0001) == FRAME
    assert view.frame_after(0.002) == pytest.approx(0.1)
    assert view.frame_after(1.0) == SLOWEST


def test_shapes_that_appear_while_nothing_moves_are_where_the_robots_are(view, monkeypatch):
    view.set_running(False)
    view.source.advance(20)
    monkeypatch.setattr(view.server, "get_clients", lambda: {0: "somebody"})
    view._changed = True
    wait_for(lambda: not view._changed)
    hidden, body = next((h, b) for h, b in view.crowd.moving if not h.visible)
    view.crowd.set_visible(COLLIDES, True)
    drawn = next(h for h, b in view.crowd.moving if b == body and h is not hidden)
    same = lambda: np.array_equal(hidden.batched_positions, drawn.batched_positions)  # noqa: E731
    wait_for(same)
    assert same()


def test_sliders_begin_at_the_command_and_leave_out_what_has_no_range():
    straight = {"lin_vel_y": [0.1, 0.1]}
    env = tasks.make("Go2Velocity", num_envs=2, device="cpu", engine="mujoco", commands=straight)
    start = PlaySource(Player(env), None).command
    assert start == pytest.approx([0.0, 0.1, 0.0])  # as near to standing still as it goes
    env.give_command([0.5, 0.1, -0.2])
    server = open_server("Go2")
    view = LiveView(server, env.sim.model_of(0), PlaySource(Player(env), None), "Go2")
    sliders = [h for h in view._touching if hasattr(h, "min")]
    assert [s.value for s in sliders] == pytest.approx([0.5, 0.1, -0.2])
    assert [s.visible for s in sliders] == [True, False, True]
    close(server)


def test_sliders_of_a_robot_that_was_told_to_stand_are_as_near_as_their_ranges_allow():
    settings = CommandSettings(lin_vel_x=(0.5, 1.5), ang_vel_z=(-1.0, -0.2))
    env = tasks.make("Go2Velocity", 2, device="cpu", engine="mujoco", commands=settings)
    env.give_command([0, 0, 0])
    server = open_server("Go2")
    view = LiveView(server, env.sim.model_of(0), PlaySource(Player(env), None), "Go2")
    sliders = [h for h in view._touching if hasattr(h, "min")]
    assert [s.value for s in sliders] == pytest.approx([0.5, 0.0, -0.2])
    assert not env.commands.values.any()  # until a slider is moved
    close(server)


class OneRobot:
    """A trial of `phalanx sim2sim` without a policy."""

    def __init__(self):
        self.task = tasks.make("Go2Velocity", num_envs=1, device="cpu", engine="mujoco")
        model = self.task.sim.model_of(0)
        self.robots = [SimpleNamespace(model=model, data=mujoco.MjData(model), frame=lambda: 0)]
        self.about = SimpleNamespace(task="Go2Velocity", control_dt=0.02)

    def step(self):
        pass


def test_the_page_of_sim2sim_commands_the_robot(monkeypatch):
    trial = OneRobot()

    class Page:
        def __init__(self, *_, server, **__):
            self.server = server

        def run(self):
            with page_of(self.server) as page:
                page.get_by_text("lin_vel_x").first.wait_for()
                page.keyboard.press("w")
                wait_for(lambda: trial.task.commands.fixed)
            close(self.server)

    monkeypatch.setattr("mjviser.Viewer", Page)
    in_browser(trial)
    assert trial.task.commands.values.tolist()[0] == pytest.approx([0.2, 0.0, 0.0])


class Alive(Cartpole):
    def compute_reward(self):
        _, ended = super().compute_reward()
        return torch.ones(self.num_envs), ended

    def log_terms(self, rewards=None, ends=None, numbers=None):
        super().log_terms({"alive": torch.tensor(1.5)})


def test_a_term_that_is_the_same_everywhere_has_a_curve():
    source = PlaySource(Player(Alive(Alive.Config(num_envs=2), "cpu", "mujoco")), None)
    source.advance(20)
    assert set(source.curves.series["reward/alive"]) == {1.5}


def test_an_impulse_changes_a_body_as_far_as_its_joints_let_it():
    env = tasks.make("Cartpole", num_envs=2, device="cpu", engine="mujoco")
    source = PlaySource(Player(env), None)
    env.sim.qpos.zero_()
    env.sim.qvel.zero_()
    cart = int(env.sim.model.body("cartpole/cart").id)
    source.push(1, (7.0, 0.5, 7.0), cart)  # the rail is along y
    assert env.sim.qvel[0].abs().max() == 0
    assert float(env.sim.qvel[1, 0]) == pytest.approx(0.5, abs=1e-5)


def test_without_a_checkpoint_play_shows_a_task(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["play", "task=Cartpole", "sim_device=cpu", "games=4", "num_envs=2", "engine=mujoco"])
    assert "no policy plays: random actions\nCartpole: return" in capsys.readouterr().out
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    short = ["sim_device=cpu", "games=4", "num_envs=2", "engine=mujoco"]
    main(["play", "actions=zero", *short, "port=9000", "view_envs=2"])
    said = capsys.readouterr().out
    assert "no policy plays: zero actions" in said
    assert "options without effect: view_envs= needs view=true, port= needs view=true" in said
    assert "2 of 4 episodes, step " in said  # a line now and then, where no line can change


def test_the_page_of_a_training_takes_its_port_when_it_opens():
    """Two that begin together would want the same one."""
    options = compose_config(["task=Cartpole", "view=true"])
    with train._watch(console.Lines(), options) as watch:
        assert watch.port is None


def policies_of_page(training):
    """Under which the system runs the threads of a run's page, by thread."""
    children = Path(f"/proc/{training}/task/{training}/children").read_text().split()
    page = next(c for c in children if b"watch_page" in Path(f"/proc/{c}/cmdline").read_bytes())
    threads = [int(t.name) for t in Path(f"/proc/{page}/task").iterdir()]
    return {thread: os.sched_getscheduler(thread) for thread in threads}


def test_training_can_be_watched(tmp_path):
    command = [sys.executable, "-m", "phalanx", "train", "task=Cartpole", "headless=False"]
    command += ["num_envs=64", "sim_device=cpu", "engine=mujoco", "max_iterations=100000"]
    command += [f"port={free_port()}"]
    run = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, bufsize=1)
    late = threading.Timer(300, run.terminate)
    late.start()
    try:
        port = next(int(line.rpartition(":")[2]) for line in run.stdout if "watch:" in line)
        late.cancel()
        threading.Thread(target=run.stdout.read, daemon=True).start()
        with page_at(port) as page:
            page.get_by_text("training, iteration").wait_for(timeout=LOADING)
            policies = policies_of_page(run.pid)
            assert {*policies.values()} == {os.SCHED_IDLE}  # training comes first
            for thread in policies:  # from here on as all others: the cores may never be idle
                with contextlib.suppress(OSError):
                    os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
            page.wait_for_timeout(1000)
            canvas = page.locator("canvas").first
            first = pixels(canvas.screenshot()).astype(int)
            wait_for(lambda: (abs(pixels(canvas.screenshot()) - first).max(2) > 40).mean() > 1e-3)
            wait_for(lambda: page.locator(".uplot").count() >= 1)
            choose(page, "Show", "newest policy")
            page.get_by_text("policy of").wait_for(timeout=LOADING)
    finally:
        late.cancel()
        run.terminate()
        assert run.wait(60) == 130
    with pytest.raises(ConnectionRefusedError):  # the page ends with the training
        socket.create_connection(("127.0.0.1", port), timeout=5)


@pytest.mark.parametrize("most", [10**6, 60])
def test_hills_are_drawn_where_they_are(monkeypatch, most):
    monkeypatch.setattr(crowd, "MOST_HEIGHTS", most)
    spec = mujoco.MjSpec()
    heights = np.random.default_rng(0).random((12, 17))
    spec.add_hfield(name="h", nrow=12, ncol=17, size=[3, 2, 0.5, 0.1], userdata=heights.ravel())
    spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_HFIELD, hfieldname="h", pos=[1, 2, 3], quat=[1, 0, 0, 1]
    )
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    vertices, faces = crowd.hills(model, 0)
    assert len(vertices) == (12 * 17 if most > 60 else 7 * 9)
    assert np.allclose(np.abs(vertices[:, :2]).max(0), [3, 2])  # up to its edges
    above, down = np.array([1e-4, 1e-4, 5.0]), np.array([0.0, 0.0, -1.0])  # beside an edge
    within = vertices[(np.abs(vertices[:, :2]) < [2.9, 1.9]).all(1)]
    for point in within @ data.geom_xmat[0].reshape(3, 3).T + data.geom_xpos[0]:
        distance = mujoco.mj_ray(model, data, point + above, down, None, 1, -1, None)
        assert distance == pytest.approx(5, abs=1e-3)
    corners = vertices[faces]
    up = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2]
    assert (up > 0).all()
    assert up.sum() / 2 == pytest.approx(6 * 4)  # all of it
