"""`phalanx list`: the tasks, one line each, from their sources; no task is imported."""

import ast
from pathlib import Path

from rich.table import Table

from phalanx import tasks
from phalanx.cli.console import Lines
from phalanx.cli.fields import source
from phalanx.errors import PhalanxError


def list_tasks(arguments: list[str]) -> None:
    """Print name, goal, observations, actions and origin of every task. Raises PhalanxError if
    there are arguments."""
    if arguments:
        raise PhalanxError(f"list takes no options, but {' '.join(arguments)!r} was given")
    table = Table(box=None, pad_edge=False)
    for heading in ("task", "goal", "obs", "actions", "from"):
        table.add_column(
            heading,
            no_wrap=heading not in ("goal", "from"),
            overflow="fold",
            min_width=24 if heading == "goal" else None,
        )
    project = tasks.find_project()
    for name, origin in sorted(tasks.names().items()):
        own = project is not None and name in project.tasks
        origin = str(Path(origin).relative_to(project.root)) if own and project else "phalanx"
        table.add_row(name, *_describe(name), origin)
    console = Lines()
    console.print(table)
    if project:
        console.print(f"project: {project.root}", highlight=False)


def _describe(name: str) -> tuple[str, str, str]:
    """Goal, observations and actions, if the class declares them."""
    file = tasks.source_file(name)
    try:
        cls = source(file).find(name)
    except (OSError, SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        return f"cannot be used: {file}{line}: {reason}", "", ""
    if cls is None:
        return f"cannot be used: {file} defines no class {name}", "", ""
    goal = cls.docstring().strip().partition("\n")[0]
    numbers = [cls.constant(f"num_{what}") for what in ("obs", "actions")]
    # Zero stands for what follows from the robot's file.
    obs, actions = (str(n.value or "") if isinstance(n, ast.Constant) else "" for n in numbers)
    return goal, obs, actions
