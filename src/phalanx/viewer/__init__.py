"""MuJoCo models in a web page, on viser and mjviser (`pip install 'phalanx[view]'`).

server = open_server("go2")                   # on this machine only; prints the address
view = SceneView(server, model)               # the model's shapes, and switches for what is drawn
view.show(data)                               # as often as the state changes
view_robot(held)                              # all of `phalanx robot view=true`, until Ctrl-C
"""

import importlib.util
from typing import TYPE_CHECKING, Any

from phalanx.errors import PhalanxError

if TYPE_CHECKING:
    from phalanx.viewer.robot_view import RobotView, view_robot
    from phalanx.viewer.scene import SceneView
    from phalanx.viewer.server import open_server

PLACES = {
    "RobotView": "robot_view",
    "SceneView": "scene",
    "open_server": "server",
    "view_robot": "robot_view",
}

__all__ = ["RobotView", "SceneView", "open_server", "require_viewer", "view_robot"]


def __getattr__(name: str) -> Any:
    # Imported on demand: without viser, only `require_viewer` works.
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require_viewer()
    return getattr(importlib.import_module(f"{__name__}.{PLACES[name]}"), name)


def require_viewer() -> None:
    """Raises PhalanxError if viser or mjviser is not installed."""
    for module in ("viser", "mjviser"):
        if importlib.util.find_spec(module) is None:
            raise PhalanxError(
                f"the browser view needs {module}; install it with `pip install 'phalanx[view]'`"
            )
