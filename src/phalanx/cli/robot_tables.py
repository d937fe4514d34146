"""The tables of `phalanx robot`, for terminals of 80 columns and more."""

from rich.console import Console
from rich.table import Table

from phalanx.robot import Drop, RobotFacts
from phalanx.robot.drives import GRAVITY
from phalanx.robot.facts import JointFacts
from phalanx.sim.assets import OFFERS_KEYFRAMES
from phalanx.sim.robot import sentences
from phalanx.sim.scene_options import SCENE_OPTIONS

MOST_OVERLAPS = 10
FRAME = 1e-3  # [kg]
AXES: dict[tuple[float, ...], str] = {(1, 0, 0): "x", (0, 1, 0): "y", (0, 0, 1): "z"}
AXES |= {(-1, 0, 0): "-x", (0, -1, 0): "-y", (0, 0, -1): "-z"}
NO_LIMIT = "no limit"
PLACES = {"fixed": "On its fixed base", "tied": "Tied to the world"}
VERDICTS = {
    "stands": "it stands",
    "moves": "it has not fallen, but still moves",
    "falls": "it falls",
    "falls through": "it falls through, for none of its shapes collides with the ground",
    "bursts": "it bursts",
    "holds": "it holds its pose",
}


def show(console: Console, facts: RobotFacts, dropped: Drop) -> None:
    """Print everything; parts that the robot does not have are left out."""
    _head(console, facts)
    _part(console, "Bodies [kg, m]", _bodies(facts))
    if frames := _frames(facts):
        count = _count(len(frames), "frame", "frames")
        console.print(f"and {count} without joint, mass and shape (json=true has them)")
    _part(console, "Joints [rad, N m; slides m, N]", _joints(facts))
    _part(console, "Actuators", _actuators(facts))
    _part(console, "Sensors", _sensors(facts))
    _part(console, "Equalities and tendons", _constraints(facts))
    if facts.keyframes:
        _part(
            console,
            "Keyframes, which keyframe= starts from",
            _list([", ".join(facts.keyframes)], bullet=""),
        )
    _part(console, "Physics options of the file", _options(facts))
    # Overlaps and keyframes have parts of their own.
    told = ("overlap", "unused")
    notes = [n for n in facts.notes if n.kind not in told and n.text != OFFERS_KEYFRAMES]
    title = "What differs from the file, and what is doubtful in it"
    _part(console, title, _list(sentences(notes)))
    unused = [n for n in facts.notes if n.kind == "unused"]
    _part(console, "What is left out, since nothing here reads it", _list(sentences(unused)))
    if facts.outside:
        outside = _list([", ".join(facts.outside)], bullet="")
        _part(console, "Joints outside of their limits in the file's pose", outside)
    _part(console, "Bodies that overlap at the start", _overlaps(facts))
    _drop(console, facts, dropped)


def _part(console: Console, title: str, table: Table) -> None:
    if table.row_count:
        console.print(f"\n{title}", style="bold")
        console.print(table)


def _table(*headings: str) -> Table:
    """Columns with these headings, right-aligned where the heading ends in >."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading in headings:
        justify = "right" if heading.endswith(">") else "left"
        table.add_column(heading.rstrip(">"), justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table


def _list(entries: list[str], bullet: str = "-") -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    for _ in range(1 + bool(bullet)):
        table.add_column(overflow="fold")  # so that no path is cut off
    for entry in entries:
        table.add_row(bullet, entry) if bullet else table.add_row(entry)
    return table


def _head(console: Console, facts: RobotFacts) -> None:
    counts = (
        (len(facts.bodies), "body", "bodies"),
        (sum(j.type != "free" for j in facts.joints), "joint", "joints"),
        (len(facts.actuators), "actuator", "actuators"),
        (len(facts.sensors), "sensor", "sensors"),
    )
    size = " x ".join(f"{s:.2f}" for s in facts.size)
    numbers = ", ".join(_count(*count) for count in counts if count[0])
    console.print(f"{facts.name}: {facts.format} file {facts.file}", style="bold")
    console.print(f"{facts.mass:.4g} kg, {facts.base} base, {size} m; {numbers}")


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _bodies(facts: RobotFacts) -> Table:
    table = _table("body", "mass>", "centre of mass>", "shapes>", "drawn>")
    frames = _frames(facts)
    for body in (b for b in facts.bodies if b.name not in frames):
        table.add_row(
            f"{' ' * body.depth}{body.name}",
            f"{body.mass:.3f}" if body.mass >= 0.01 else f"{body.mass:.2g}",
            " ".join(f"{v:6.3f}" for v in body.com),
            str(body.collision_shapes or ""),
            str(body.drawn_shapes or ""),
        )
    return table


def _frames(facts: RobotFacts) -> set[str]:
    """Bodies without joint and shape, and with no more mass than the loader gives to frames."""
    jointed = {j.body for j in facts.joints}
    return {
        b.name
        for b in facts.bodies
        if not b.collision_shapes + b.drawn_shapes and b.mass <= FRAME and b.name not in jointed
    }


def _joints(facts: RobotFacts) -> Table:
    joints = [j for j in facts.joints if j.type != "free"]
    fast = any(j.velocity for j in joints)
    columns = ["joint", "type", "limits>", "effort>", "armature>", *(["speed>"] * fast)]
    table = _table(*columns)
    for joint in joints:
        row = [joint.name, _kind(joint), _limits(joint), NO_LIMIT, f"{joint.armature:.3g}"]
        if joint.effort is not None:
            row[3] = _n(joint.effort)
        if joint.type == "ball":
            row[2:4] = ["", ""]
        if fast:
            row.append(_n(joint.velocity) if joint.velocity else NO_LIMIT)
        table.add_row(*row)
    return table


def _kind(joint: JointFacts) -> str:
    rounded = tuple(round(a, 3) + 0.0 for a in joint.axis)
    axis = AXES.get(rounded) or " ".join(f"{a:.2g}" for a in rounded)
    return f"{joint.type} {axis}".rstrip()


def _limits(joint: JointFacts) -> str:
    if joint.lower is None or joint.upper is None:
        return NO_LIMIT
    return f"{_n(joint.lower)} .. {_n(joint.upper)}"


def _n(number: float) -> str:
    """Four digits, and all of those before the point up to ten million."""
    return f"{number:.4g}" if abs(number) < 1e4 or abs(number) >= 1e7 else f"{number:.0f}"


def _actuators(facts: RobotFacts) -> Table:
    gains = any(a.stiffness or a.damping for a in facts.actuators)
    # Columns that say something; names are long.
    moves = any(a.target != a.name for a in facts.actuators)
    forces = any(a.force for a in facts.actuators)
    gears = any(a.gear != 1 for a in facts.actuators)
    columns = ["actuator", "type", *(["moves"] * moves), "control>", *(["force>"] * forces)]
    table = _table(*columns, *(["gear>"] * gears), *(["gains>"] * gains))
    for a in facts.actuators:
        row = [a.name, a.type, *([a.target] * moves), _span(a.control)]
        row += [_span(a.force)] * forces + [f"{a.gear:.4g}"] * gears
        if gains:
            row.append(f"{a.stiffness:.4g}, {a.damping:.3g}" if a.stiffness or a.damping else "")
        table.add_row(*row)
    return table


def _span(span: tuple[float, ...] | None) -> str:
    if span is None:
        return NO_LIMIT
    low, high = span
    return f"+-{_n(high)}" if low == -high else f"{_n(low)} .. {_n(high)}"


def _sensors(facts: RobotFacts) -> Table:
    table = _table("sensor", "type", "of", "numbers>")
    for s in facts.sensors:
        table.add_row(s.name, s.type, s.on, str(s.size))
    return table


def _constraints(facts: RobotFacts) -> Table:
    limited = any(c.limits for c in facts.constraints)
    table = _table("name", "type", "between", *(["limits>"] * limited))
    for c in facts.constraints:
        row = [c.name, c.type + ("" if c.active else ", off"), ", ".join(c.between)]
        if limited:
            row.append(" .. ".join(map(_n, c.limits)) if c.limits else "")
        table.add_row(*row)
    return table


def _options(facts: RobotFacts) -> Table:
    parts = {"hold in a scene": False, "left to the scene": True}
    entries = []
    for words, left in parts.items():
        chosen = [f"{k} {v}" for k, v in facts.options.items() if (k in SCENE_OPTIONS) == left]
        entries += [f"{words}: {', '.join(chosen)}"] * bool(chosen)
    return _list(entries)


def _overlaps(facts: RobotFacts) -> Table:
    shown = facts.overlaps[:MOST_OVERLAPS]
    entries = [f"{o.first} and {o.second} by {1000 * o.depth:.1f} mm" for o in shown]
    if len(facts.overlaps) > len(shown):
        entries.append(f"{len(facts.overlaps) - len(shown)} more pairs (json=true has them)")
    if entries:
        entries.append("self_collisions=except_overlaps turns off those in the file's own pose")
    return _list(entries)


def _drop(console: Console, facts: RobotFacts, d: Drop) -> None:
    """The two seconds on the ground."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row("starts with", d.pose)
    if d.feet:
        table.add_row("feet", ", ".join(d.feet))
    if d.verdict == "bursts":
        table.add_row("stopped after", f"{d.seconds:.2f} s")
    fastest = f" ({d.fastest_body})" if d.fastest_body else ""
    table.add_row("highest speed", f"{d.highest_speed:.2f} m/s{fastest}")
    if d.fastest_joint:
        slides = any(j.type == "slide" for j in facts.joints if j.name == d.fastest_joint)
        unit = "m/s" if slides else "rad/s"
        table.add_row("", f"{d.highest_joint_speed:.2f} {unit} (joint {d.fastest_joint})")
    if d.highest_force:
        weights = d.highest_force / (facts.mass * GRAVITY)
        times = f"{_n(d.highest_force)} N, {weights:.1f} times its weight"
        table.add_row("highest force", f"{times} ({' on '.join(d.force_between)})")
    if d.deepest:
        table.add_row("deepest contact", f"{1000 * d.deepest:.1f} mm at the end")
    if d.at_effort_limit:
        table.add_row("too weak", f"at their effort limit: {', '.join(d.at_effort_limit)}")
    where = PLACES.get(facts.base, "Dropped on the ground")
    _part(console, f"{where} for two seconds, joints held: {VERDICTS[d.verdict]}", table)
