"""`phalanx list`: the tasks, one line each."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from phalanx import tasks
from phalanx.errors import PhalanxError


def list_tasks() -> None:
    """Print name, what to learn, observations, actions and origin of every task."""
    table = Table(box=None, pad_edge=False)
    for heading in ("task", "goal", "observations", "actions", "from"):
        table.add_column(heading, no_wrap=heading != "goal")
    project = tasks.find_project()
    for name, origin in sorted(tasks.names().items()):
        own = project is not None and name in project.tasks
        origin = str(Path(origin).relative_to(project.root)) if own and project else "phalanx"
        try:
            cls = tasks.find(name)
        except PhalanxError as error:
            table.add_row(name, f"cannot be used: {error}", "", "", origin)
            continue
        goal = " ".join((cls.__doc__ or "").strip().splitlines()[:1])
        sizes = (getattr(cls, f"num_{what}", "") for what in ("obs", "actions"))
        numbers = (str(n) if isinstance(n, int) else "" for n in sizes)
        table.add_row(name, goal, *numbers, origin)
    console = Console()
    console.print(table)
    if project:
        console.print(f"project: {project.root}", highlight=False, soft_wrap=True)
