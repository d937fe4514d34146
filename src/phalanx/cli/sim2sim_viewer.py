"""Shows a sim2sim trial in MuJoCo's viewer or in a web page, in real time."""

import os
import sys
import time
from typing import Any

from phalanx.errors import PhalanxError

# GLFW's codes of the arrow keys -> parts of the commands' ranges: forward, left, turn left
KEYS = {265: (0.05, 0, 0), 264: (-0.05, 0, 0), 263: (0, 0, 0.05), 262: (0, 0, -0.05)}


def steer(task: Any, key: int) -> None:
    """Change the command of a task that takes commands: up and down change the velocity, left and
    right the rate of turning. Other keys do nothing."""
    if key in KEYS and hasattr(task, "commands"):
        task.commands.steer(*KEYS[key])


def in_window(trial: Any) -> None:
    """Play in a window, in real time, until it is closed."""
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        raise PhalanxError(  # GLFW would end the process without this message
            "window=true needs a display, and there is none here; use browser=true, or remove it"
            " for a report with a video"
        )
    import mujoco.viewer

    robot = trial.robots[0]
    root = robot.frame()
    viewer = mujoco.viewer.launch_passive(
        robot.model,
        robot.data,
        key_callback=lambda key: steer(trial.task, key),
        show_left_ui=False,
        show_right_ui=False,
    )
    with viewer:
        viewer.cam.type, viewer.cam.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING, root
        due = time.perf_counter()
        while viewer.is_running():
            with viewer.lock():
                trial.step()
            viewer.sync()
            due = max(due + trial.about.control_dt, time.perf_counter())
            time.sleep(max(0.0, due - time.perf_counter()))


def in_browser(trial: Any) -> None:
    """Play in a web page of this machine until Ctrl-C; mjviser keeps real time."""
    from mjviser import Viewer

    from phalanx.viewer import open_server

    robot = trial.robots[0]
    robot.frame()
    due = 0.0

    def step(model: Any, data: Any) -> None:
        # mjviser calls this once per physics step; a control step has several.
        nonlocal due
        due += robot.model.opt.timestep
        while due >= trial.about.control_dt:
            due -= trial.about.control_dt
            trial.step()

    def begin(model: Any, data: Any) -> None:
        """Of the page's buttons Reset and Load: mjviser would move the robot alone."""
        nonlocal due
        due = 0.0
        trial.task.reset()

    server = open_server(f"sim2sim {trial.about.task}")
    Viewer(robot.model, robot.data, step_fn=step, reset_fn=begin, server=server).run()
