"""A robot in a page: posed by sliders while physics is off, pulled by servos while it is on."""

import threading
import time
from typing import Any

import mujoco
import numpy as np
import viser

from phalanx.robot import HeldRobot, facts_of
from phalanx.robot.drives import limits_of
from phalanx.robot.held import NAME
from phalanx.sim.robot import sentences
from phalanx.viewer.scene import SceneView
from phalanx.viewer.server import HOST, close, open_server

FRAME = 1 / 30
"""Time between two pictures [s]."""
SPEEDS = {"1/10": 0.1, "1/4": 0.25, "1": 1.0, "2": 2.0}
STEP = 0.001
"""Of a slider [rad or m]."""
FREE_RANGE = {False: 3.142, True: 0.5}
"""Range of a slider for a joint without limits, to both sides: hinge [rad], slide [m]."""


def view_robot(held: HeldRobot, host: str = HOST, port: int | None = None) -> None:
    """Show a robot until Ctrl-C. Raises PhalanxError as `open_server` does."""
    view = RobotView(held, open_server(held.file.spec.modelname, host, port))
    try:
        view.run()
    except KeyboardInterrupt:
        print()
    finally:
        close(view.server)


class RobotView:
    """The page of one robot. `run` moves and draws it; the page's sliders and buttons call methods
    from threads of viser, so that whoever touches `held` takes `lock`."""

    def __init__(self, held: HeldRobot, server: viser.ViserServer) -> None:
        self.held, self.server = held, server
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.running = False
        self.speed = 1.0
        self.scene = SceneView(server, held.model)
        self.sliders: list[viser.GuiSliderHandle[float]] = []
        """One for each of `held.drives`."""
        self._changed = True
        root = held.model.body_rootid[held.file.base]
        tree = held.model.body_rootid == root
        extent = float(max(np.ptp(held.data.xpos[tree], axis=0).max(initial=0.2), 0.2))
        self.scene.look_at(held.data.subtree_com[root], extent)
        self._add_controls()

    def run(self) -> None:
        """Move and draw until `stopped` is set."""
        owed, last = 0.0, time.perf_counter()
        while not self.stopped.wait(FRAME):
            now = time.perf_counter()
            owed, last = owed + (now - last) * self.speed, now
            with self.lock:  # what is stopped has come to rest when `running` says so
                owed = self._catch_up(owed, now + FRAME) if self.running else 0.0
                self._changed |= self.running
            if self.held.burst:
                self._end_burst()
            if self._changed or self.scene.changed:
                self._changed = False
                with self.lock:
                    self.scene.show(self.held.data)
                self._say_status()

    def reset(self) -> None:
        """The initial pose, at rest."""
        with self.lock:
            self.held.reset()
            targets = self.held.targets.copy()
        self._set_sliders(targets)

    def step(self) -> None:
        """One physics step."""
        with self.lock:
            self.held.step()
        self._changed = True

    def set_running(self, running: bool) -> None:
        """Switch physics on, or off: nothing moves any more when this is back."""
        with self.lock:
            self.running = running
        self.button.label = "Stop physics" if running else "Start physics"
        self.button.icon = viser.Icon.PLAYER_PAUSE if running else viser.Icon.PLAYER_PLAY

    def set_target(self, index: int, value: float) -> None:
        """Pull a joint to `value` [rad or m]; while physics is off, put it there."""
        held = self.held
        with self.lock:
            held.targets[index] = value
            if not self.running:
                held.data.qpos[held.joint_qpos[index]] = value
                held.data.qvel[:] = 0
                mujoco.mj_forward(held.model, held.data)
        self._changed = True

    def _catch_up(self, owed: float, until: float) -> float:
        """Simulate `owed` seconds, but only until this time; returns what remains. A slow robot is
        shown in slow motion, with the page still answering."""
        while owed >= self.held.model.opt.timestep:
            self.held.step()
            owed -= self.held.model.opt.timestep
            if time.perf_counter() > until:
                return 0.0
        return owed

    def _end_burst(self) -> None:
        self.set_running(False)
        self.reset()
        for client in self.server.get_clients().values():
            client.add_notification(
                "It burst", "A number was not finite. The robot is back in its initial pose."
            )

    def _set_sliders(self, targets: Any) -> None:
        for slider, value in zip(self.sliders, targets, strict=True):
            slider.value = _rounded(value, slider.min, slider.max)
        self._changed = True

    def _say_status(self) -> None:
        data = self.held.data
        force = self.held.contact_forces().sum()
        self.status.content = f"time {data.time:.2f} s, {data.ncon} contacts, {force:.0f} N in all"

    # The page -----------------------------------------------------------------------------------

    def _add_controls(self) -> None:
        gui, held = self.server.gui, self.held
        self.status = gui.add_markdown("")
        self.button = gui.add_button("Start physics", icon=viser.Icon.PLAYER_PLAY)
        self.button.on_click(lambda _: self.set_running(not self.running))
        gui.add_button("One step", icon=viser.Icon.PLAYER_TRACK_NEXT).on_click(
            lambda _: self.step()
        )
        gui.add_button("Reset", icon=viser.Icon.REFRESH).on_click(lambda _: self.reset())
        speed = gui.add_dropdown("Speed", list(SPEEDS), initial_value="1")

        @speed.on_update
        def _(_: object) -> None:
            self.speed = SPEEDS[speed.value]

        with gui.add_folder("Show"):
            self.scene.add_switches()
        if held.drives:
            with gui.add_folder("Joints"):
                for index in range(len(held.drives)):
                    self.sliders.append(self._slider(index))
        with gui.add_folder("Robot", expand_by_default=False):
            gui.add_markdown(self._about())

    def _slider(self, index: int) -> "viser.GuiSliderHandle[float]":
        held = self.held
        name = held.drives[index].joint
        joint = held.model.joint(f"{NAME}/{name}").id
        is_slide = held.model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE
        free = FREE_RANGE[is_slide]
        low, high = limits_of(held.model, joint) or (-free, free)
        low, high = np.ceil(low / STEP) * STEP, np.floor(high / STEP) * STEP
        low, high = round(float(low), 3), round(float(max(high, low + STEP)), 3)
        value = _rounded(held.targets[index], low, high)
        slider = self.server.gui.add_slider(name, low, high, STEP, value)

        @slider.on_update
        def _(event: Any) -> None:
            if event.client is not None:  # otherwise `reset` has moved it
                self.set_target(index, slider.value)

        return slider

    def _about(self) -> str:
        """The robot in a few lines of Markdown."""
        facts = facts_of(self.held.file, self.held.pose.qpos)
        overlaps = facts.overlaps
        touching = [f"{o.first} and {o.second} by {1000 * o.depth:.1f} mm" for o in overlaps]
        lines = [
            facts.file,
            f"{facts.mass:.4g} kg, {len(facts.bodies)} bodies, {len(facts.joints)} joints,"
            f" {len(facts.actuators)} actuators",
            f"Starts with {self.held.pose.name}.",
            *([f"Overlapping: {', '.join(touching)}"] if touching else []),
            *sentences([note for note in facts.notes if note.kind != "unused"]),
        ]
        return "\n\n".join(lines)


def _rounded(value: float, low: float, high: float) -> float:
    """`value` as a slider between these shows it."""
    return round(float(np.clip(value, low, high)), 3)
