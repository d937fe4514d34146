"""What MkDocs does not do by itself: pages and tables from the declarations, links into sources.

- `tasks/`: an index and a page for each task, from its docstring, its layouts of observations and
  actions, its Config and its train config, with a film and a curve.
- `<!-- settings: module:Class -->` in a page becomes the table of that dataclass's fields.
- `<!-- docstring: phalanx/x.py -->` becomes that module's docstring.
- `benchmarks.md` is benchmarks/README.md.
- Links out of docs/, which work where the repository is shown, become plain text here.

Settings are read from the sources, as for `phalanx train --help`; layouts are asked of the tasks.
"""

import ast
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from phalanx import tasks
from phalanx.cli.commands import ALGORITHMS
from phalanx.cli.fields import Field, fields, find_class, source
from phalanx.cli.help import config_class, default_in, is_in, read_train
from phalanx.cli.settings import own_train
from phalanx.layout import KINDS

ROOT = Path(__file__).parents[2]
SETTINGS = re.compile(r"<!-- settings: (\S+) -->")
DOCSTRING = re.compile(r"<!-- docstring: (\S+) -->")
WALKS = "Forward, left, in a curve and back, with pushes"
TRACKS = "Return and tracking in training"
OUTSIDE = re.compile(
    r"(?<!!)\[([^\]]+)\]\((?:\.\./)+(?!docs/)(?:src|examples|benchmarks|README|CHANGELOG|tests|CONTRIBUTING)[^)]*\)"
)
FILMS = {
    # docs/images/<task>.webp shows
    "ant": "After 20, 60, 120 and 200 iterations on two CPU cores",
    "anymal_velocity": WALKS,
    "cartpole": "After 2, 8, 16 and 60 iterations",
    "g1_tracking": "The squat, after 101 M steps on one H200",
    "g1_velocity": WALKS,
    "g1_velocity_mjlab": f"{WALKS}, after 204 M steps on one H200",
    "go1_velocity": WALKS,
    "go1_velocity_mjlab": f"{WALKS}, after 107 M steps on one H200",
    "go2_backflip": "After 150 M steps on one H200",
    "go2_joystick_unilab": f"{WALKS}, after 48 M steps on one H200",
    "go2_recovery": "After 12 M steps on two cores: three of these four stand up",
    "go2_velocity": WALKS,
    "humanoid": "After 61 M steps on one H200, in plain MuJoCo",
    "humanoid_amp": "After 90 M steps on one H200",
    "humanoid_walk": "Without noise, after training on one H200",
}
CURVES = {
    # docs/images/<task>_curve.png shows
    "ant": "Return over time of five seeds on one H200",
    "anymal_velocity": TRACKS,
    "cartpole": "Return of five seeds on two CPU cores that other programs used, too",
    "g1_tracking": "Return on one H200; an episode ends with the clip, wherever it began",
    "g1_velocity": TRACKS,
    "g1_velocity_mjlab": "Return and tracking on one H200",
    "go1_velocity": TRACKS,
    "go1_velocity_mjlab": "Return and tracking of two seeds on one H200",
    "go2_backflip": "Return on one H200",
    "go2_joystick_unilab": "Return and tracking of three seeds on one H200",
    "go2_recovery": "Return in training",
    "go2_velocity": TRACKS,
    "humanoid": "Return over time of five seeds on one H200",
    "humanoid_amp": "Discriminator's reward and length of an episode, CMU's walk on one H200",
    "humanoid_walk": "Return over time of five seeds on two CPU cores",
}
LACKS = "There is no {} of this task yet"
"""Said on the pages of tasks that are not in FILMS or CURVES."""


def on_config(config: Any) -> Any:
    """The tasks' pages are in the navigation, too."""
    for section in config.nav:
        if "Tasks" in section:
            section["Tasks"] += [f"tasks/{name}.md" for name in tasks.TASKS]
    return config


def on_files(files: Files, config: Any) -> Files:
    pages = {f"tasks/{name}.md": task_page(name) for name in tasks.TASKS}
    pages["tasks/index.md"] = task_index()
    text = (ROOT / "benchmarks" / "README.md").read_text()
    pages["benchmarks.md"] = text.replace("](../docs/", "](").replace(
        "](results/", "](assets/results/"
    )
    for place, content in pages.items():
        files.append(File.generated(config, place, content=content))
    for picture in (ROOT / "benchmarks" / "results").glob("*.png"):
        place = f"assets/results/{picture.name}"
        files.append(File.generated(config, place, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    markdown = OUTSIDE.sub(r"\1", markdown)
    markdown = DOCSTRING.sub(lambda m: docstring(ROOT / "src" / m[1]), markdown)
    return SETTINGS.sub(lambda m: table(fields(find_class(m[1]))), markdown)


def task_index() -> str:
    lines = ["# Tasks", "", "| task | goal | observations | actions |", "| --- | --- | --- | --- |"]
    for name in tasks.TASKS:
        cls = source(tasks.source_file(name)).find(name)
        assert cls is not None
        goal = cls.docstring().partition("\n")[0]
        sizes = [getattr(cls.constant(f"num_{k}"), "value", "") for k in ("obs", "actions")]
        lines.append(f"| [{name}]({name}.md) | {goal} | {sizes[0]} | {sizes[1]} |")
    more = "`phalanx list` prints this table, with the tasks of your own project."
    return "\n".join([*lines, "", more, "", "[Write your own](../own_task.md)."])


def task_page(name: str) -> str:
    file = tasks.source_file(name)
    text = docstring(file)
    lines = [f"# {name}", "", "```", f"phalanx train task={name}", "```", "", text, ""]
    lines += [docstring(file.with_name(m)) for m in re.findall(r"described in\s`(\w+\.py)`", text)]
    lines.append("")
    for kind, picture, shown in (
        ("film", f"{file.stem}.webp", FILMS.get(file.stem)),
        ("curve", f"{file.stem}_curve.png", CURVES.get(file.stem)),
    ):
        words = shown or LACKS.format(kind)
        lines += [f"![{words}](../images/{picture})", ""] if shown else []
        lines += [f"*{words}.*", ""]
    lines += vectors(name)
    config = config_class(name)
    if config is not None:
        lines += ["## Settings", "", "On the command line, `task.env.<key>=<value>`.", ""]
        file = tasks.settings(name)
        lines += [table(fields(config), {**file, **file.get("env", {})}), ""]
    train = own_train(name)
    if train:
        _, params = read_train(train)
        own = fields(find_class(ALGORITHMS[params["algo"]["name"]]))
        changed = [f for f in own if is_in(params["config"], f)]
        lines += [
            f"## Training: `{train}`",
            "",
            "On the command line, `train.params.config.<key>=`.",
        ]
        lines += ["", table(changed, params["config"])]
    return "\n".join(lines)


def vectors(name: str) -> list[str]:
    """Tables of a task's observations and actions, from its layouts."""
    task = tasks.make(name, num_envs=1, device="cpu")
    lines = ["## Observations", "", "| term | numbers | which | unit | scale |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for term in task.observation_layout():
        cells = [f"`{term.name}`", str(term.size), few(term.elements), term.unit]
        lines.append(f"| {' | '.join([*cells, span(term.scale)])} |")
    layout = task.action_layout()
    lines += ["", "## Actions", ""]
    if layout.kind == "custom":
        return [*lines, f"{task.num_actions} numbers, as above.", ""]
    start = ", from the default position" if any(layout.offset) else ""
    lines.append(f"For each joint its {layout.kind} [{KINDS[layout.kind]}]{start}:")
    lines.append(f"an action of 1 is {span(layout.scale)}. Joints: {few(layout.joints)}.")
    return [*lines, ""]


def few(names: Sequence[str]) -> str:
    """Some names, and how many there are."""
    shown = [f"`{n}`" for n in names]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:4], "...", shown[-1]])


def span(values: Sequence[float]) -> str:
    """One number for equal ones, else the least and the greatest."""
    low, high = min(values), max(values)
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def docstring(file: Path) -> str:
    """A module's docstring as Markdown: indented formulas are code already."""
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    head, colon, rest = text.partition(": ")
    return rest[:1].upper() + rest[1:] if colon and "\n" not in head else text


def table(keys: list[Field], values: dict[str, Any] | None = None) -> str:
    lines = ["| key | default | meaning |", "| --- | --- | --- |"]
    for key in keys:
        if key.is_section:
            continue
        shown = default_in(values or {}, key)
        cells = [f"`{key.name}`", f"`{shown}`" if shown else "", key.meaning]
        lines.append(f"| {' | '.join(c.replace('|', '&#124;') for c in cells)} |")
    return "\n".join(lines)
