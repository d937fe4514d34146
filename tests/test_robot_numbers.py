"""Every number that a robot file can give passes one gate: over all elements and attributes of
MuJoCo's schema, and all of a URDF that is read."""

import itertools
import os
import re
from pathlib import Path

import mujoco
import pytest

from phalanx.errors import PhalanxError
from phalanx.sim import xml_gate
from phalanx.sim.assets import load_robot

WORLD = ("<mujoco>", "<worldbody><body name='b'><geom size='.1'/></body></worldbody>", "</mujoco>")


def schema() -> list[tuple[tuple[str, ...], str]]:
    """(elements from below <mujoco> down, attribute) of everything that MuJoCo reads."""
    found, path = [], []
    for line in mujoco.mj_printSchema(False, False).splitlines():
        head = re.match(r"( *)(\S+) \(.\)", line[:30])
        if head:
            path = [*path[: len(head[1]) // 3], head[2].replace("(world)body", "worldbody")]
        found += [(tuple(path[1:]), key) for key in line[30:].split()]
    return found


def nested(path: tuple[str, ...], attribute: str) -> str:
    inner = f"<{path[-1]} {attribute}/>"
    for tag in reversed(path[:-1]):
        inner = f"<{tag}>{inner}</{tag}>"
    return f"{WORLD[0]}\n{WORLD[1]}\n{inner}{WORLD[2]}"


@pytest.fixture
def refusal(tmp_path):
    def load(text: str) -> str:
        file = tmp_path / ("r.urdf" if "<robot" in text else "r.xml")
        file.write_text(text)
        with pytest.raises(PhalanxError) as error:
            load_robot(file)
        return str(error.value)

    return load


def test_no_number_of_mujocos_schema_may_be_nan_infinite_or_huge(refusal):
    names = xml_gate.NAMES | xml_gate.FILES
    numbers = [(path, key) for path, key in schema() if path and key not in names]
    assert len(numbers) > 1500
    numbers.remove((("custom", "text"), "data"))
    values = itertools.cycle(("nan", "1 -Infinity 1", "NaN(1) 0", "1e19", "1e999"))
    for (path, key), value in zip(numbers, values, strict=False):
        said = refusal(nested(path, f'{key}="{value}"'))
        assert f"line 3, <{path[-1]}>: {key}=" in said, (path, key, said)
        assert "is not finite" in said or "is beyond" in said


def test_names_that_look_like_numbers_are_names(tmp_path):
    file = tmp_path / "r.xml"
    file.write_text(f"{WORLD[0]}{WORLD[1]}{WORLD[2]}".replace("name='b'", "name='nan'"))
    assert load_robot(file).compile().body("nan").id == 1
    known = {key for _, key in schema()}
    assert known >= xml_gate.NAMES | xml_gate.FILES, "names that MuJoCo does not have"


def test_what_must_not_be_negative_is_in_mujocos_schema_and_refused(refusal):
    known = {(path[-1], key) for path, key in schema() if path}
    for tag, keys in xml_gate.NOT_NEGATIVE.items():
        for key in keys.split():
            if tag in xml_gate.ACTUATORS and (tag, key) not in known:
                continue  # only some actuators have it
            assert (tag, key) in known
            path = next(path for path, k in schema() if path and (path[-1], k) == (tag, key))
            assert f"<{tag}>: {key}='-1' is negative" in refusal(nested(path, f'{key}="-1"'))


def test_no_file_asks_for_more_memory_than_a_robot_needs(refusal):
    for tag, keys in xml_gate.COUNTS:
        first = (tag, keys.split()[0])
        path = next((path for path, key in schema() if path and (path[-1], key) == first), None)
        if path is None:
            assert tag in xml_gate.ACTUATORS  # of which only some have it
            continue
        number = "100000" if " " in keys else "1000000 1000000"
        attributes = " ".join(f'{key}="{number}"' for key in keys.split())
        assert "asks for more than" in refusal(nested(path, attributes)), (tag, keys)
    start, end = "<replicate count='1000'>", "</replicate>"
    twice = f"<worldbody>{start}{start}<site/>{end}{end}</worldbody>"
    assert "elements, more than" in refusal(f"<mujoco>{twice}</mujoco>")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_a_file_that_is_no_file_is_not_waited_for(refusal, tmp_path, kind):
    name = "/dev/zero" if kind == "device" else "strange.xml"
    if kind == "pipe":
        os.mkfifo(tmp_path / name)
    elif kind == "folder":
        (tmp_path / name).mkdir()
    files = [(path, key) for path, key in schema() if path and key in xml_gate.FILES]
    for path, key in [*files, (("include",), "file")]:
        said = refusal(nested(path, f'{key}="{name}"'))
        assert f"<{path[-1]}" in said, (path, key, said)
        assert name in said
    urdf = f'<robot name="r"><link name="a"><collision><geometry><mesh filename="{name}"/>'
    assert name in refusal(f"{urdf}</geometry></collision></link></robot>")


LINK = (
    '<link name="{}"><inertial><origin xyz="0 0 0" rpy="0 0 0"/><mass value="1"/>'
    '<inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>'
    '<collision><geometry><box size="1 1 1"/></geometry></collision>'
    '<collision><geometry><sphere radius="1"/></geometry></collision>'
    '<collision><geometry><cylinder radius="1" length="1"/></geometry></collision>'
    '<collision><geometry><capsule radius="1" length="1"/></geometry></collision>'
    '<collision><geometry><plane normal="0 0 1"/></geometry></collision>'
    '<collision><geometry><mesh filename="m.stl" scale="1 1 1"/></geometry></collision></link>'
)
URDF = (
    f'<robot name="r">{LINK.format("a")}{LINK.format("b")}<joint name="j" type="revolute">'
    '<parent link="a"/><child link="b"/><origin xyz="0 0 0" rpy="0 0 0"/><axis xyz="0 0 1"/>'
    '<limit lower="-1" upper="1" effort="1" velocity="1"/><dynamics damping="1" friction="1"/>'
    '<mimic joint="k" multiplier="1" offset="0"/></joint></robot>'
)


def test_no_number_of_a_urdf_may_be_nan_or_infinite_or_negative_where_it_makes_no_sense(refusal):
    for tag, keys in xml_gate.URDF_NUMBERS.items():
        for key in keys.split():
            for bad in ("nan", "-1", "inf", "1e300"):
                pattern = rf'(<{tag} [^>]*?{key}=")[^"]*'
                changed, count = re.subn(pattern, rf"\g<1>{bad} 1 1", URDF, count=1)
                assert count == 1, (tag, key)
                signless = key in xml_gate.URDF_NOT_NEGATIVE.get(tag, "").split()
                if (bad == "-1" and not signless) or (tag == "limit" and bad in ("inf", "1e300")):
                    continue
                assert re.search(f"<{tag}.*: {key}='{bad} 1 1'", refusal(changed))


def test_the_gate_knows_every_number_that_the_urdf_reader_takes():
    source = "".join(p.read_text() for p in Path(xml_gate.__file__).parent.glob("urdf*.py"))
    read = set(re.findall(r'numbers_of\([^)]*?(?:\(".*?"\))?[^"()]*, "(\w+)"', source)) - {"rgba"}
    assert {"xyz", "lower", "radius"} <= read
    assert read <= {k for keys in xml_gate.URDF_NUMBERS.values() for k in keys.split()}


def test_infinite_limits_of_a_urdf_are_none(tmp_path):
    endless = '<limit lower="-inf" upper="inf" effort="INF" velocity="1e308"/>'
    text = re.sub("<limit.*?>", endless, URDF)
    text = re.sub(r"<collision>.*?</collision>|<mimic[^>]*>", "", text)
    (tmp_path / "r.urdf").write_text(text)
    model = load_robot(tmp_path / "r.urdf", fixed_base=True).compile()
    assert [model.jnt_limited[0], model.jnt_actfrclimited[0], model.jnt_user[0, 0]] == [0, 0, 0]


def test_numbers_that_are_too_large_together_are_refused_with_what_they_make(tmp_path):
    file = tmp_path / "r.xml"
    heavy = WORLD[1].replace("size='.1'", "size='1e15' density='1e10'")
    file.write_text(f"{WORLD[0]}{heavy}{WORLD[2]}")
    with pytest.raises(PhalanxError, match=r"its numbers make body_inertia of 'b' too large"):
        load_robot(file)


LONG = "a" * 3000
LONG_NAMES = [
    f'<robot name="r"><link name="a"><collision><geometry><mesh filename="{name}"/></geometry>'
    "</collision></link></robot>"
    for name in (LONG, f"package://{LONG}/x.stl", "b/" * 1500)
] + [
    f"<mujoco>{inner}<worldbody><body><geom size='1'/></body></worldbody></mujoco>"
    for inner in (
        f'<include file="{LONG}"/>',
        f'<asset><mesh name="m" file="{LONG}.stl"/></asset>',
        f'<compiler meshdir="{LONG}"/><asset><mesh name="m" file="a.stl"/></asset>',
        f'<asset><texture name="m" type="2d" file="{LONG}.png"/></asset>',
    )
]


@pytest.mark.parametrize("text", LONG_NAMES)
def test_a_name_that_no_file_can_have_is_refused(tmp_path, text):
    file = tmp_path / ("r.urdf" if "<robot" in text else "r.xml")
    file.write_text(text)
    with pytest.raises(PhalanxError, match=r"line 1, <\w+[^\n]*is too long for the name") as said:
        load_robot(file)
    assert len(str(said.value)) < 500
