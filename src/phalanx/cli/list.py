"""`phalanx list`: the tasks, one line each."""

from rich.console import Console
from rich.table import Table

from phalanx import tasks


def list_tasks() -> None:
    """Print name, what to learn, observations and actions of every task."""
    table = Table(box=None, pad_edge=False)
    for heading in ("task", "goal", "observations", "actions"):
        table.add_column(heading, no_wrap=heading != "goal")
    for name in sorted(tasks.TASKS):
        cls = tasks.find(name)
        goal = (cls.__doc__ or "").strip().splitlines()[0]
        table.add_row(name, goal, str(cls.num_obs), str(cls.num_actions))
    Console().print(table)
