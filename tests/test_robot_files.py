"""Robot files with the symptoms that users of other importers report: each loads as they expect, or
says in one sentence what is wrong. Files are tiny and made here."""

import logging
import re
import struct
import subprocess
import sys
import threading

import mujoco
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from phalanx.errors import PhalanxError
from phalanx.sim import Scene, Sim, decompose
from phalanx.sim.assets import load_robot
from phalanx.sim.decompose import Splitting
from phalanx.sim.engines.plain import PlainEngine
from phalanx.sim.robot import Note

INERTIAL = (
    '<inertial><mass value="1"/>'
    '<inertia ixx=".01" iyy=".01" izz=".01" ixy="0" ixz="0" iyz="0"/></inertial>'
)
BOX = '<collision><geometry><box size=".1 .1 .1"/></geometry></collision>'
BASE = f'<link name="base">{INERTIAL}{BOX}</link>'
ARM = f'<link name="arm">{INERTIAL}</link>'
LIMIT = '<limit lower="-1" upper="1" effort="5" velocity="3"/>'
# A box of 0.2 x 0.4 x 0.6 m around (0, 0, 0.3), so that a wrong axis or unit shows.
SIZE = np.array([0.2, 0.4, 0.6])
CORNERS = np.array([[x, y, z] for x in (-0.1, 0.1) for y in (-0.2, 0.2) for z in (0, 0.6)])
FACES = "0 1 3  0 3 2  4 6 7  4 7 5  0 4 5  0 5 1  2 3 7  2 7 6  0 2 6  0 6 4  1 5 7  1 7 3"
TRIANGLES = np.array(FACES.split(), int).reshape(12, 3)


PLACED = ("dropped", "added", "mended", "unused")
"""Kinds of notes that say where in the file they are about."""


def robot(inner: str) -> str:
    return f'<robot name="r">\n{inner}</robot>'


def hinge(inner: str, kind: str = "revolute", axis: str = '<axis xyz="0 0 1"/>') -> str:
    return robot(
        f'{BASE}{ARM}<joint name="j" type="{kind}"><parent link="base"/><child link="arm"/>'
        f'<origin xyz="0 0 .2"/>{axis}{inner}</joint>'
    )


def joint(kind: str, parent: str, child: str, name: str = "j", inner: str = "") -> str:
    return (
        f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
        f"{inner}</joint>"
    )


def shape(geometry: str, tag: str = "collision") -> str:
    return robot(f'<link name="base">{INERTIAL}<{tag}>{geometry}</{tag}></link>')


def mesh(name: str, scale: str = "", tag: str = "collision") -> str:
    return shape(f'<geometry><mesh filename="{name}" {scale}/></geometry>', tag)


def mjcf(body: str, before: str = "", after: str = "") -> str:
    return f"<mujoco>{before}<worldbody>{body}</worldbody>{after}</mujoco>"


@pytest.fixture
def load(tmp_path):
    def load_text(text: str, name: str = "", **options: object):
        name = name or ("r.urdf" if "<robot" in text else "r.xml")
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_text(text, encoding="utf-8")
        loaded = load_robot(file, **options)
        nowhere = [n for n in loaded.notes if n.kind in PLACED and not n.place]
        assert all(" mm" in n.item for n in nowhere)  # which is between two bodies
        return loaded

    return load_text


def texts(notes: list[Note]) -> str:
    return "; ".join(map(str, notes))


# URDF that loads: mass [kg], number of joints, degrees of freedom, and what a note says -----------

LOADS = {
    "xml after a comment": ("<!-- by hand -->\n<?xml version='1.0'?>" + robot(BASE), 1, 1, 6, ""),
    "xml after a blank line": ("\n<?xml version='1.0'?>" + robot(BASE), 1, 1, 6, ""),
    "byte order mark": ("\ufeff<?xml version='1.0'?>" + robot(BASE), 1, 1, 6, ""),
    "unknown namespace": (robot(BASE + "<gz:plugin/>"), 1, 1, 6, ""),
    "long axis": (hinge(LIMIT, axis='<axis xyz="0 0 7"/>'), 2, 2, 7, ""),
    "zero axis, fixed": (hinge(LIMIT, "fixed", '<axis xyz="0 0 0"/>'), 2, 1, 6, ""),
    "limits 0 0": (hinge('<limit lower="0" upper="0"/>'), 2, 2, 7, "without limits.*'j' 0 0 "),
    "limits swapped": (hinge('<limit lower="1" upper="-1"/>'), 2, 2, 7, "without limits.*'j' 1 -1"),
    "limits in degrees": (hinge('<limit lower="-90" upper="90"/>'), 2, 2, 7, "may be degrees"),
    "limits huge": (hinge('<limit lower="-1e16" upper="1e16"/>'), 2, 2, 7, ""),
    "four angles": (
        hinge(LIMIT).replace('<origin xyz="0 0 .2"', '<origin xyz="0 0 .2" rpy="0 0 0 1"'),
        *(2, 2, 7, "the first 3 numbers.*rpy of <origin>"),
    ),
    "commas": (
        hinge(LIMIT, axis='<axis xyz="0, 0,1"/>'), *(2, 2, 7, "commas.*xyz='0, 0,1' of <axis>")
    ),
    "second point": (hinge('<limit lower="-1.57." upper="1"/>'), 2, 2, 7, "second point.*'-1.57.'"),
    "default of xacro's optenv": (
        hinge(LIMIT, axis='<axis xyz="$(optenv HOME 0 0 1)"/>'),
        *(2, 2, 7, "defaults of .*optenv HOME 0 0 1"),
    ),
    "limits empty": (hinge('<limit lower="" effort=""/>'), 2, 2, 7, "empty.*lower of <limit>"),
    "mimic of nothing": (hinge('<mimic joint="k"/>'), 2, 2, 7, "'j' follows 'k', which is no"),
    "planar": (
        robot(f'<link name="world"/>{BASE}{joint("planar", "world", "base")}'),
        *(1, 3, 3, ""),
    ),
    "spherical": (hinge(LIMIT, "spherical"), 2, 2, 9, ""),
    "world": (
        robot(f'<link name="world"/>{BASE}{ARM}' + joint("fixed", "world", "base", "f")
              + joint("continuous", "base", "arm")),
        *(2, 1, 1, ""),
    ),
    "floating": (
        robot(f'<link name="odom"/>{BASE}{ARM}' + joint("floating", "odom", "base", "f")
              + joint("continuous", "base", "arm")),
        *(2, 2, 7, "left out empty roots.*'odom'"),
    ),
    "no inertial": (robot(f'<link name="base">{BOX}</link>'), 1, 1, 6, "filled.*'base' 1 kg"),
    "nothing at all": (robot('<link name="base"/>'), 1e-3, 1, 6, "added 0.001 kg.*'base'"),
    "mass and no inertia": (
        robot(f'<link name="base"><inertial><mass value="3"/></inertial>{BOX}</link>'),
        *(3, 1, 6, "computed the inertia.*'base'"),
    ),
    "visual without geometry": (shape("", "visual"), 1, 1, 6, "skipped visuals without a shape"),
    "collision without geometry": (shape(""), 1, 1, 6, "skipped collisions without a shape"),
    "visual of nothing": (shape("<geometry/>", "visual"), 1, 1, 6, "without a shape"),
    "visual of size 0": (
        shape('<geometry><box size="0 0 0"/></geometry>', "visual"),
        *(1, 1, 6, "skipped <visual> shapes of size 0: box of 'base'"),
    ),
    "collision of size 0": (
        shape('<geometry><sphere radius="0"/></geometry>'),
        *(1, 1, 6, "skipped <collision> shapes of size 0"),
    ),
    "plane": (shape('<geometry><plane normal="0 0 1"/></geometry>'), 1, 0, 0, ""),
    "colour of three": (
        shape('<geometry><sphere radius="1"/></geometry><material name="m"><color rgba="1 0 0"/>'
              "</material>", "visual"),
        *(1, 1, 6, ""),
    ),
    "missing visual": (mesh("no.stl", tag="visual"), 1, 1, 6, "skipped <visual> meshes.*no.stl"),
    "loop": (
        hinge(LIMIT).replace("</robot>", '<loop_joint name="l" type="spherical"/></robot>'),
        *(2, 2, 7, "left loops open.*'l'"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LOADS)
def test_a_urdf_loads_as_its_maker_meant(load, case):
    text, mass, joints, freedom, note = LOADS[case]
    loaded = load(text)
    model = loaded.compile()
    assert (model.njnt, model.nv) == (joints, freedom)
    assert model.body_mass.sum() == pytest.approx(mass)
    notes = [n for n in loaded.notes if n.kind != "unused"]
    assert re.search(note, texts(notes))
    assert bool(note) == bool(notes)
    mujoco.mj_step(model, mujoco.MjData(model))


REFUSED = {
    "sdf": ("<sdf/>", "SDF to URDF"),
    "zero axis": (hinge(LIMIT, axis='<axis xyz="0 0 0"/>'), "axis is zero"),
    "xacro in a number": (
        hinge('<limit lower="$(arg low)" upper="1"/>'),
        "is not 1 finite number; run xacro",
    ),
    "xacro in a vector": (
        hinge(LIMIT, axis='<axis xyz="$(arg axis)"/>'),
        "'.*arg axis.*' is not 3 finite numbers; run xacro",
    ),
    "decimal commas": (
        hinge(LIMIT, axis='<axis xyz="0,5 0,5 0,1"/>'),
        "'0,5 0,5 0,1' is not 3 finite numbers",
    ),
    "inner floating": (hinge("", "floating"), "only the robot's root can float"),
    "type with a capital": (hinge("", "Fixed"), "did you mean 'fixed'"),
    "no child": (
        robot(f'{BASE}<joint name="j" type="fixed"><parent link="base"/></joint>'),
        "it has no <child link=",
    ),
    "mesh of 0 bytes": (mesh("empty.stl"), "the file is empty"),
    "Git LFS": (mesh("lfs.stl"), "Git LFS pointer.*git lfs pull"),
    "case of the name": (mesh("Cube.stl"), "no file 'Cube.stl'; did you mean 'cube.stl'"),
    "no mesh": (mesh("package://other/nowhere.stl"), "no file 'package://other/nowhere.stl'"),
    "format": (mesh("cube.step"), "not one of .stl, .obj, .dae"),
    "text as glb": (mesh("broken.glb"), "cannot be read as binary glTF"),
    "flat glb": (mesh("flat.glb"), "its vertices or faces do not have three numbers each"),
    "scale 0": (mesh("cube.stl", 'scale="1 0 1"'), "scale has a 0"),
    "attribute twice": (robot(BASE.replace("<link", '<link name="x"', 1)), "duplicate attribute"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_urdf_that_cannot_load_says_why(load, meshes, case):
    text, sentence = REFUSED[case]
    with pytest.raises(PhalanxError, match=sentence) as raised:
        load(text, "r.urdf")
    assert "\n" not in str(raised.value)


# Meshes -------------------------------------------------------------------------------------------


def stl(triangles: np.ndarray) -> bytes:
    rows = [struct.pack("<12fH", 0, 0, 0, *t.ravel(), 0) for t in triangles]
    return b"\0" * 80 + struct.pack("<I", len(rows)) + b"".join(rows)


def ascii_stl(triangles: np.ndarray) -> str:
    facets = "".join(
        "facet normal 0 0 0\nouter loop\n"
        + "".join("vertex {} {} {}\n".format(*v) for v in t)
        + "endloop\nendfacet\n"
        for t in triangles
    )
    return f"solid cube\n{facets}endsolid cube\n"


def collada(corners: np.ndarray, unit: str, up: str, matrix: str = "", tool: str = "") -> str:
    numbers = " ".join(f"{x:g}" for x in corners.ravel())
    node = f"<matrix>{matrix}</matrix>" if matrix else ""
    return f"""<?xml version="1.0"?>
    <COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema" version="1.4.1">
    <asset><contributor><authoring_tool>{tool}</authoring_tool></contributor>
    <unit name="u" meter="{unit}"/><up_axis>{up}</up_axis></asset>
    <library_geometries><geometry id="g"><mesh>
    <source id="p"><float_array id="a" count="24">{numbers}</float_array><technique_common>
    <accessor source="#a" count="8" stride="3"><param name="X" type="float"/>
    <param name="Y" type="float"/><param name="Z" type="float"/></accessor></technique_common>
    </source><vertices id="v"><input semantic="POSITION" source="#p"/></vertices>
    <triangles count="12"><input semantic="VERTEX" source="#v" offset="0"/><p>{FACES}</p>
    </triangles></mesh></geometry></library_geometries><library_visual_scenes>
    <visual_scene id="s"><node id="n">{node}<instance_geometry url="#g"/></node></visual_scene>
    </library_visual_scenes><scene><instance_visual_scene url="#s"/></scene></COLLADA>"""


def painted(text: str) -> str:
    """The same with a material of a picture that is not there."""
    effect = """<library_images><image id="i" name="i"><init_from>no.png</init_from></image>
    </library_images><library_effects><effect id="e"><profile_COMMON>
    <newparam sid="s"><surface type="2D"><init_from>no</init_from></surface></newparam>
    <newparam sid="t"><sampler2D><source>s</source></sampler2D></newparam>
    <technique sid="common"><lambert><diffuse><texture texture="t" texcoord="uv"/></diffuse>
    </lambert></technique></profile_COMMON></effect></library_effects><library_materials>
    <material id="m"><instance_effect url="#e"/></material></library_materials>"""
    bound = """<instance_geometry url="#g"><bind_material><technique_common><instance_material
    symbol="m" target="#m"/></technique_common></bind_material></instance_geometry>"""
    text = text.replace("<library_geometries>", f"{effect}<library_geometries>")
    text = text.replace('<triangles count="12">', '<triangles count="12" material="m">')
    return text.replace('<instance_geometry url="#g"/>', bound)


def glb(corners: np.ndarray) -> bytes:
    """A binary glTF file, by its specification: little-endian, y up, metres."""
    data = corners.astype("<f4").tobytes() + TRIANGLES.astype("<u2").tobytes()
    low, high = corners.min(0).tolist(), corners.max(0).tolist()
    views = '[{"buffer":0,"byteLength":96},{"buffer":0,"byteOffset":96,"byteLength":72}]'
    text = f"""{{"asset":{{"version":"2.0"}},"scene":0,"scenes":[{{"nodes":[0]}}],
    "nodes":[{{"mesh":0}}],"meshes":[{{"primitives":[{{"attributes":{{"POSITION":0}},
    "indices":1}}]}}],"buffers":[{{"byteLength":{len(data)}}}],"bufferViews":{views},
    "accessors":[{{"bufferView":0,"componentType":5126,"count":8,"type":"VEC3","min":{low},
    "max":{high}}},{{"bufferView":1,"componentType":5123,"count":36,"type":"SCALAR"}}]}}"""
    head = text.encode().ljust(-(-len(text) // 4) * 4)
    chunks = struct.pack("<I4s", len(head), b"JSON") + head
    chunks += struct.pack("<I4s", len(data), b"BIN\0") + data
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def ply(corners: np.ndarray) -> str:
    vertices = "\n".join("{} {} {}".format(*v) for v in corners)
    faces = "\n".join("3 {} {} {}".format(*t) for t in TRIANGLES)
    return (
        "ply\nformat ascii 1.0\nelement vertex 8\nproperty float x\nproperty float y\n"
        "property float z\nelement face 12\nproperty list uchar int vertex_indices\nend_header\n"
        f"{vertices}\n{faces}\n"
    )


Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # z up to y up
X_UP = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # z up to x up: right is -y, in is z


@pytest.fixture
def meshes(tmp_path):
    files = {
        "cube.stl": stl(CORNERS[TRIANGLES]),
        "text.stl": ascii_stl(CORNERS[TRIANGLES]),
        "mm.stl": stl(1000 * CORNERS[TRIANGLES]),
        "flat.stl": stl(CORNERS[TRIANGLES][:2]),
        "cube.step": "ISO-10303-21;",
        "broken.glb": "glTF",
        "flat.glb": glb(CORNERS).replace(b"VEC3", b"VEC2"),
        "empty.stl": "",
        "lfs.stl": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "z.dae": collada(CORNERS, "1", "Z_UP"),
        "y.dae": collada(CORNERS @ Y_UP.T, "1", "Y_UP"),
        "x.dae": collada(CORNERS @ X_UP.T, "1", "X_UP"),
        "cm.dae": collada(100 * CORNERS, "0.01", "Z_UP"),
        "meshlab.dae": collada(CORNERS, "1", "Y_UP", tool="VCGLib | MeshLab"),
        "node.dae": collada(
            1000 * CORNERS - [0, 0, 500], "1", "Z_UP", ".001 0 0 0 0 .001 0 0 0 0 .001 .5 0 0 0 1"
        ),
        "picture.dae": painted(collada(CORNERS, "1", "Z_UP")),
        "y.glb": glb(CORNERS @ Y_UP.T),
        "cube.ply": ply(CORNERS),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)


def test_all_objects_of_an_obj_file_are_read(load, tmp_path):
    """MuJoCo takes the faces of the first object or group alone."""
    rows = [f"v {x} {y} {z}" for x, y, z in CORNERS]
    for k, faces in enumerate(np.split(TRIANGLES + 1, 3)):
        rows += [f"{'og'[k % 2]} part{k}", *(f"f {a} {b} {c}" for a, b, c in faces)]
    (tmp_path / "parts.obj").write_text("\n".join(rows))
    assert load(mesh("parts.obj")).compile().mesh_facenum.tolist() == [12]


FORMATS = "cube.stl text.stl many.stl z.dae y.dae x.dae cm.dae meshlab.dae node.dae"
FORMATS += " picture.dae y.glb cube.ply"


@pytest.mark.parametrize("name", FORMATS.split())
@pytest.mark.parametrize("kind", ["urdf", "mjcf"])
def test_every_mesh_format_gives_the_same_box_with_its_units_and_up_axis(
    load, meshes, tmp_path, name, kind
):
    """many.stl has 204 000 triangles, more than MuJoCo reads."""
    if name == "many.stl":
        (tmp_path / name).write_bytes(stl(np.tile(CORNERS[TRIANGLES], (17000, 1, 1))))
    if kind == "urdf":
        model = load(mesh(name)).compile()
    else:
        geom = '<body><geom type="mesh" mesh="m" mass="1"/></body>'
        model = load(mjcf(geom, f'<asset><mesh name="m" file="{name}"/></asset>')).compile()
    vertices = model.mesh_vert @ rotation(model.geom_quat[0]).T + model.geom_pos[0]
    np.testing.assert_allclose(vertices.min(0), [-0.1, -0.2, 0], atol=1e-5)
    np.testing.assert_allclose(vertices.max(0), [0.1, 0.2, 0.6], atol=1e-5)


def rotation(quat: np.ndarray) -> np.ndarray:
    flat = np.zeros(9)
    mujoco.mju_quat2Mat(flat, quat)
    return flat.reshape(3, 3)


@pytest.mark.parametrize("size", [1e12, 1e30])
def test_a_mesh_of_absurd_size_is_one_sentence_and_nothing_else(tmp_path, capfd, size):
    triangles = CORNERS[TRIANGLES].copy()
    triangles[3, 0, 0] = size
    (tmp_path / "wide.stl").write_bytes(stl(triangles))
    (tmp_path / "r.urdf").write_text(mesh("wide.stl"))
    with pytest.raises(PhalanxError, match=r"it extends over 1e\+\d+ m; correct its vertices"):
        load_robot(tmp_path / "r.urdf")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("scale", "name"),
    [('scale="0.001 0.001 0.001"', "mm.stl"), ('scale="0.001"', "mm.stl"),
     ('scale="-1 1 1"', "cube.stl")],
)  # fmt: skip
def test_scales_of_one_or_three_numbers_and_mirrors(load, meshes, scale, name):
    text = robot(f'<link name="b"><collision><geometry><mesh filename="{name}" {scale}/>'
                 "</geometry></collision></link>")  # fmt: skip
    assert load(text).compile().body_mass[1] == pytest.approx(1000 * SIZE.prod())


def test_what_mujoco_warns_about_is_said_once_and_without_our_source(tmp_path, caplog, recwarn):
    """An OBJ in which one face has texture coordinates and another has none."""
    vertices = "".join("v {} {} {}\n".format(*v) for v in CORNERS)
    faces = "".join("f {} {} {}\n".format(*(t + 1)) for t in TRIANGLES[1:])
    first = "vt 0 0\nf {}/1 {}/1 {}/1\n".format(*(TRIANGLES[0] + 1))
    (tmp_path / "box.obj").write_text(vertices + first + faces)
    (tmp_path / "r.urdf").write_text(mesh("box.obj"))
    scene = Scene()
    scene.add_actor("r", tmp_path / "r.urdf")
    scene.compile()
    assert caplog.text.count("discarding texture coordinates") == 1
    assert not [w for w in recwarn if w.category is not ResourceWarning]  # of earlier tests


def test_a_flat_collision_mesh_becomes_a_thin_one(load, meshes):
    loaded = load(mesh("flat.stl"))
    assert "thickness of 1 mm: flat.stl" in texts(loaded.notes)
    assert loaded.compile().ngeom == 1


@pytest.mark.parametrize(
    "filename",
    [
        "package://my_robot/meshes/cube.stl",
        "package://renamed_clone/meshes/cube.stl",
        "model://my_robot/meshes/cube.stl",
        "file://$(find my_robot)/meshes/cube.stl",
        "my_robot/meshes/cube.stl",
        "../meshes/cube.stl",
        "..\\meshes\\cube.stl",
    ],
)
def test_meshes_are_found_from_the_file_upwards(load, tmp_path, filename):
    (tmp_path / "my_robot" / "meshes").mkdir(parents=True)
    (tmp_path / "my_robot" / "meshes" / "cube.stl").write_bytes(stl(CORNERS[TRIANGLES]))
    assert load(mesh(filename), "my_robot/urdf/r.urdf").compile().nmesh == 1


def test_meshdir_inside_a_urdf_counts(load, tmp_path):
    (tmp_path / "stl").mkdir()
    (tmp_path / "stl" / "cube.stl").write_bytes(stl(CORNERS[TRIANGLES]))
    compiler = '<mujoco><compiler meshdir="stl"/></mujoco>'
    text = mesh("package://x/y/cube.stl").replace("<link", compiler + "<link", 1)
    assert load(text).compile().nmesh == 1


def tower(right: float = 0.0) -> np.ndarray:
    """Triangles of a long box and of a high one that narrows upwards: not made of layers."""
    long, high = CORNERS * [5, 1, 1], CORNERS * [1, 1, 3]
    high[high[:, 2] > 0, :2] *= 0.5
    high += np.array([right, 0, 0])
    return np.concatenate([long[TRIANGLES], high[TRIANGLES]])


def test_a_mesh_is_split_into_convex_parts_once(load, tmp_path, monkeypatch, caplog):
    """An L of two boxes: its hull fills the corner, its parts do not."""
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("coacd", reason="needs phalanx[decompose]")
    (tmp_path / "ell.stl").write_bytes(stl(tower(0.4)))
    text = mjcf(
        '<body><freejoint/><geom name="g" type="mesh" mesh="ell" friction=".3"/></body>',
        '<asset><mesh name="ell" file="ell.stl"/></asset>',
    )
    hull = load(text).compile()
    for _ in range(2):
        caplog.clear()
        parts = load(text, decompose=True).compile()
        assert parts.ngeom >= 2
        assert parts.body_mass[1] < 0.85 * hull.body_mass[1]
        assert parts.geom("g").friction[0] == 0.3
    assert "once" not in caplog.text  # the second time
    assert len(list((tmp_path / "runs" / "hulls").iterdir())) == 1
    with pytest.raises(PhalanxError, match="no collision mesh 'el' to decompose; did you mean"):
        load(text, decompose=["el"])


def test_a_mesh_with_holes_is_searched_by_what_a_grid_makes_of_it(monkeypatch, tmp_path):
    """A lid of few triangles has a surface of thousands of cells, and a fine search of it does not
    end. A square sheet has 2 * cells^2 triangles."""
    pytest.importorskip("coacd", reason="needs phalanx[decompose]")
    monkeypatch.setattr(decompose, "FOLDER", tmp_path)
    searches = []
    monkeypatch.setattr(decompose, "_run_coacd", lambda *args: searches.append(args[2]))
    top = np.array([[0, 0, 0.3], [1, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0.0]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1]])  # open below
    for cells, quick in ((20, False), (90, True)):
        searches.clear()
        decompose.convex_parts(top, faces, "lid", tmp_path / "r", Splitting(cells=cells))
        assert (searches[0]["mcts_iterations"] == 5) == quick
        assert searches[-1]["preprocess_resolution"] == min(cells, 30)


def test_a_mesh_whose_finer_search_fails_is_split_coarsely(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("coacd", reason="needs phalanx[decompose]")
    monkeypatch.setitem(decompose.SEARCH, "unknown_option", 1)
    (tmp_path / "tee.stl").write_bytes(stl(tower()))
    text = mjcf(
        '<body><freejoint/><geom name="g" type="mesh" mesh="tee"/></body>',
        '<asset><mesh name="tee" file="tee.stl"/></asset>',
    )
    assert load(text, decompose=True).compile().ngeom >= 2


def test_an_interrupted_split_ends_at_once_and_keeps_nothing(tmp_path, monkeypatch):
    pytest.importorskip("coacd", reason="needs phalanx[decompose]")
    monkeypatch.setattr(decompose, "FOLDER", tmp_path / "hulls")
    monkeypatch.setattr(decompose, "__file__", str(tmp_path / "decompose.py"))
    monkeypatch.setenv("PHALANX_SPLIT_SECONDS", "4")
    (tmp_path / "coacd_process.py").write_text("import time; time.sleep(60)")
    split, begun = decompose.convex_parts, threading.Event()
    run = decompose._run_coacd
    monkeypatch.setattr(decompose, "_run_coacd", lambda *args: begun.set() or run(*args))

    def parts(vertices, faces, name, *more):
        if name == "first":
            return split(vertices, faces, name, *more)
        begun.wait(30)
        raise KeyboardInterrupt

    monkeypatch.setattr(decompose, "convex_parts", parts)
    vertices, faces = np.random.default_rng(0).random((9, 3)), np.array([[0, 1, 2], [3, 4, 5]])
    meshes = {"second": (vertices, faces), "first": (vertices, faces)}
    with pytest.raises(KeyboardInterrupt):
        decompose._split(meshes, tmp_path / "r", Splitting())
    assert not (tmp_path / "hulls").exists()


def test_a_mesh_that_takes_too_long_to_split_stays_a_hull(load, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("coacd", reason="needs phalanx[decompose]")
    (tmp_path / "tee.stl").write_bytes(stl(tower()))
    text = mjcf(
        '<body><freejoint/><geom name="g" type="mesh" mesh="tee"/></body>',
        '<asset><mesh name="tee" file="tee.stl"/></asset>',
    )
    monkeypatch.setenv("PHALANX_SPLIT_SECONDS", "0.01")
    for _ in range(2):  # the second time it is not tried again, but said again
        caplog.clear()
        assert load(text, decompose=True).compile().ngeom == 1
        assert "'tee' is not split but collides as its convex hull" in caplog.text
    assert "once" not in caplog.text
    monkeypatch.setenv("PHALANX_SPLIT_SECONDS", "soon")
    with pytest.raises(PhalanxError, match="PHALANX_SPLIT_SECONDS is 'soon'; give it a number"):
        load(text.replace("tee.stl", "./tee.stl"), decompose=True, splitting=Splitting(0.2))


# Mass and joints ----------------------------------------------------------------------------------


def test_links_between_the_hinges_of_a_shoulder_weigh_next_to_nothing(load):
    links = "".join(f'<link name="{name}"/>' for name in ("x", "y", "end"))
    joints = [("base", "x"), ("x", "y"), ("y", "arm"), ("arm", "end")]
    text = robot(BASE + ARM + links + "".join(
        joint("continuous", parent, child, f"j{k}") for k, (parent, child) in enumerate(joints)
    ))  # fmt: skip
    loaded = load(text)
    model = loaded.compile()
    assert model.body("x").mass == pytest.approx(1e-6)
    assert model.body("y").mass == pytest.approx(1e-6)
    assert model.body("end").mass == pytest.approx(1e-3)  # nothing else gives its joint inertia
    assert "added 1e-06 kg to moving links without mass: 'x'" in texts(loaded.notes)


def test_a_link_without_mass_has_the_density_in_its_inertial(load):
    box = '<collision><geometry><box size="0.1 0.1 0.1"/></geometry></collision>'
    given = '<inertial><density value="400"/></inertial>'
    loaded = load(f'<robot name="o"><link name="o">{box}{given}</link></robot>')
    assert loaded.compile().body("o").mass == pytest.approx(0.4)
    assert "with 400 kg/m^3: 'o' 0.4 kg" in texts(loaded.notes)


COMPILER = (
    """
boundmass="1"|boundinertia="1"|balanceinertia="true"|inertiafromgeom="true"|discardvisual="true"
inertiagrouprange="0 1"|fusestatic="true"|alignfree="true"|fitaabb="true"|eulerseq="zyx"
angle="radian"|settotalmass="7"|boundmass="1" settotalmass="20"|inertiafromgeom="auto"
""".strip()
    .replace("\n", "|")
    .split("|")
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("setting", COMPILER)
def test_every_setting_of_the_compiler_counts(scene_of, tmp_path, setting):
    """MuJoCo takes some of them from the scene that a robot is attached to."""
    trimesh.creation.cone(0.1, 0.5).export(tmp_path / "c.stl")
    inertia = 'fullinertia="9 .1 .1 0 0 0"' if "balance" in setting else 'diaginertia=".2 .1 .1"'
    text = f"""<mujoco><compiler {setting}/><asset><mesh name="c" file="c.stl"/></asset><worldbody>
      <body name="b" pos="0 0 1"><freejoint/><inertial pos="0 0 .1" mass=".5" {inertia}/>
        <geom type="box" size=".1 .1 .1" pos=".1 0 0" mass="1"/><geom group="2" size=".05"/>
        <geom type="capsule" mesh="c" density="500"/>
        <geom contype="0" conaffinity="0" group="2" size=".06"/>
        <body name="k" pos=".2 0 0" euler=".1 .2 .3"><joint name="h" range="-.5 .5" axis="0 1 0"/>
          <geom size=".1" mass=".3"/><geom type="cylinder" mesh="c" group="3" euler="1 2 3"/>
          <body name="w" pos=".1 0 0" euler="20 10 0"><geom size=".05" mass=".1"/></body>
        </body></body></worldbody></mujoco>"""
    scene, _ = scene_of(text)
    ours = scene.compile()
    plain = mujoco.MjModel.from_xml_path(str(tmp_path / "r.xml"))
    for field in "body_mass body_inertia body_ipos body_pos geom_size geom_pos jnt_range".split():
        mine, theirs = getattr(ours, field), getattr(plain, field)
        assert mine.shape == theirs.shape, field
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-8, err_msg=field)


def test_frames_weigh_nothing_and_shapes_are_filled_with_the_density_asked_for(load):
    tip = (
        '<link name="tip"><collision><geometry><box size=".1 .1 .1"/></geometry></collision></link>'
    )
    frames = "".join(f'<link name="f{i}"/>' for i in range(9))
    text = robot(f"{BASE}{tip}{frames}{joint('fixed', 'base', 'tip', 'tip')}"
                 + "".join(joint("fixed", "base", f"f{i}", f"f{i}") for i in range(9)))  # fmt: skip
    for density, mass in ((None, 2), (500, 1.5), (0, 1)):
        loaded = load(text, density=density)
        assert loaded.compile().body_mass.sum() == pytest.approx(mass)
        assert ("'tip'" in texts(loaded.notes)) == (mass > 1)


def test_warnings_of_mujoco_while_a_robot_is_read_are_not_printed(tmp_path):
    """Two hinges about the same line make the inertia singular. By itself MuJoCo prints that and
    writes it into the working folder."""
    hinges = '<joint name="a" axis="0 0 1"/><joint name="b" axis="0 0 1"/>'
    body = f'<body name="arm">{hinges}<geom size=".1"/></body>'
    (tmp_path / "r.xml").write_text(f"<mujoco><worldbody>{body}</worldbody></mujoco>")
    program = "from phalanx.robot import *; facts_of(read_robot('r.xml')); print('read')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("read\n", "")
    assert not (tmp_path / "MUJOCO_LOG.TXT").exists()


def test_a_base_whose_mass_is_in_a_link_fixed_to_it_is_not_filled(load):
    """KDL wants a root without inertia, hence `base_inertia` in files for ROS. A sensor of a gram
    is no such link."""
    box = '<collision><geometry><box size=".1 .1 .1"/></geometry></collision>'
    inertia = '<inertia ixx=".01" iyy=".01" izz=".01" ixy="0" ixz="0" iyz="0"/>'
    for mass, total in ((0.6, 0.6), (0.001, 1.001)):
        extra = f'<link name="m"><inertial><mass value="{mass}"/>{inertia}</inertial></link>'
        text = robot(f'<link name="base">{box}</link>{extra}{joint("fixed", "base", "m", "m")}')
        assert load(text, f"{mass}.urdf").compile().body_mass.sum() == pytest.approx(total)
        filled = load(text, f"{mass}.urdf", density=1000).compile().body_mass.sum()
        assert filled == pytest.approx(1 + mass)  # asked for, as Isaac Gym's programs do


def test_an_impossible_inertia_of_a_welded_link_moves_to_the_link_that_carries_it(load):
    """(1, 1, 9) e-3 of the tip is no inertia, but together with the arm's .01 it is. The tip is
    turned by 90 degrees about x, so its z is the arm's -y. Each has 1 kg, 0.2 m apart along z,
    which adds 2 x 1 kg x (0.1 m)^2 = .02 about x and y."""
    tip = '<link name="tip"><inertial><mass value="1"/><inertia ixx=".001" iyy=".001" izz=".009"/>'
    fixed = joint("fixed", "arm", "tip", "t", '<origin xyz="0 0 .2" rpy="1.5707963267948966 0 0"/>')
    text = hinge(LIMIT).replace("</robot>", f"{tip}</inertial></link>{fixed}</robot>")
    loaded = load(text)
    assert "gave links with an impossible inertia to the link that they are fixed to: 'tip'" in (
        texts(loaded.notes)
    )
    model = loaded.compile()
    assert model.body_mass.tolist() == [0, 1, 2, 0]
    assert model.body("arm").ipos.tolist() == pytest.approx([0, 0, 0.1])
    axes = rotation(model.body("arm").iquat)
    expected = np.diag([0.031, 0.039, 0.011])
    np.testing.assert_allclose(
        axes @ np.diag(model.body("arm").inertia) @ axes.T, expected, atol=1e-9
    )


def test_mimic_is_an_equality_between_joints(load):
    follow = '<mimic joint="a" multiplier="-2" offset="0.5"/>'
    text = robot(f"{BASE}{ARM}{ARM.replace('arm', 'arm2')}" + joint("revolute", "base", "arm", "a")
                 + joint("revolute", "base", "arm2", "b", follow))  # fmt: skip
    model = load(text, fixed_base=True).compile()
    data = mujoco.MjData(model)
    data.qfrc_applied[model.joint("a").dofadr[0]] = 0.01
    for _ in range(2000):
        mujoco.mj_step(model, data)
    a, b = (float(data.joint(name).qpos[0]) for name in "ab")
    assert abs(a) > 0.05
    assert b == pytest.approx(0.5 - 2 * a, abs=0.02)


@pytest.mark.parametrize(("scale", "mass", "noted"), [(1000, 5, True), (1, 5, False),
                                                      (100, 5000, False)])  # fmt: skip
def test_a_robot_in_millimetres_is_noted_in_either_format(load, scale, mass, noted):
    size = f"{0.2 * scale} {0.4 * scale} {0.6 * scale}"
    inertial = f'<inertial><mass value="{mass}"/><inertia ixx="1" iyy="1" izz="1"/></inertial>'
    box = f'<collision><geometry><box size="{size}"/></geometry></collision>'
    urdf = load(robot(f'<link name="a">{inertial}{box}</link>'))
    body = f'<body><freejoint/><geom type="box" size="{size}" mass="{mass}"/></body>'
    for robots in (urdf, load(mjcf(body))):
        assert any("millimetres" in note.text for note in robots.notes) == noted


def test_armature_is_for_joints_that_have_none(load):
    body = (
        '<body><geom size=".1"/><joint name="a" armature="3"/><joint name="b" axis="1 0 0"/></body>'
    )
    assert load(mjcf(body), armature=2).compile().dof_armature.tolist() == [3, 2]


def test_collapsing_merges_bodies_without_joints_in_both_formats(load):
    inner = '<body name="b"><geom size=".1"/><body name="c"><geom size=".1"/></body></body>'
    text = mjcf(f'<body name="a"><geom size=".1"/>{inner}</body>')
    assert load(text, collapse_fixed_joints=True).compile().nbody == 2
    text = robot(f"{BASE}{ARM}{joint('fixed', 'base', 'arm')}")
    assert load(text, collapse_fixed_joints=True).compile().nbody == 2


def test_what_has_no_effect_is_listed_with_its_line_and_not_warned_about(load, tmp_path, caplog):
    extras = """<transmission name="t"/>
      <gazebo reference="base"/>
      <mujoco><compiler fusestatic="0" meshdir="m"/></mujoco>
      <material name="wood"><texture filename="w.png"/></material>"""
    text = hinge(f"{LIMIT}<safety_controller/>").replace("</robot>", f"{extras}</robot>")
    assert texts(load(text).notes).split("; ") == [
        "<transmission> without effect: 't' (line 2)",
        "<gazebo> without effect: 'base' (line 3)",
        "<safety_controller> without effect: 'j' (line 2)",
        "textures that are not drawn: 'w.png' (line 5)",
        "settings in <mujoco> without effect: fusestatic of <compiler> (line 4)",
    ]
    (tmp_path / "world.xml").write_text(
        '<mujoco>\n<worldbody>\n<geom name="floor" type="plane" size="1 1 1"/><light/></worldbody>'
        '<custom><numeric name="n" data="1"/></custom></mujoco>'
    )
    body = '<body name="b"><geom size=".1"/></body>'
    scene = f'<mujoco><include file="world.xml"/>\n<worldbody><camera name="c"/>{body}</worldbody>'
    loaded = load(f"{scene}<visual/></mujoco>")
    assert {str(n) for n in loaded.notes} == {
        "sections without effect: <custom> (world.xml, line 3)",
        "sections without effect: <visual> (line 2)",
        "left out, since a scene has its own: plane 'floor' (world.xml, line 3)",
        "left out, since a scene has its own: light without a name (world.xml, line 3)",
        "left out, since a scene has its own: camera 'c' (line 2)",
    }
    assert not caplog.records


# Contacts at the start ----------------------------------------------------------------------------

OVERLAPPING = mjcf(
    '<body name="a"><freejoint/><geom size=".1"/><body name="b" pos=".15 0 0"><joint name="j"/>'
    '<geom size=".1"/><body name="c" pos="0.03 0 0"><joint axis="1 0 0"/><geom size=".1"/></body>'
    "</body></body>",
    after='<keyframe><key name="apart" qpos="0 0 0 1 0 0 0 1.5708 0"/></keyframe>',
)


def test_overlaps_at_the_initial_pose_are_named_with_their_depth(load):
    loaded = load(OVERLAPPING)
    ((first, second, depth),) = loaded.overlaps  # not a and b: a parent and its child
    assert (first, second) == ("a", "c")
    assert depth == pytest.approx(0.02)
    assert "overlap at the initial pose: 'a' and 'c' by 20 mm" in texts(loaded.notes)
    apart = load(OVERLAPPING, self_collisions="except_overlaps")
    assert apart.compile().nexclude == 1
    assert not any(note.kind == "overlap" for note in apart.notes)
    assert load(OVERLAPPING, self_collisions=False).compile().nexclude == 3
    with pytest.raises(PhalanxError, match="accepted: True, False, 'except_overlaps'"):
        load(OVERLAPPING, self_collisions="some")


# MJCF scenes --------------------------------------------------------------------------------------

ROBOT = (
    '<body name="base" pos="0 0 1"><freejoint/><geom name="g" type="box" size=".1 .1 .1"/>'
    '<body name="arm" pos="0 0 .3"><joint name="j" axis="0 1 0" range="-90 90"/>'
    '<geom type="capsule" size=".03 .1"/><site name="tip"/></body></body>'
)


@pytest.fixture
def scene_of(tmp_path):
    def build(text: str, *, pos=(0.0, 0.0, 0.0), quat=(1.0, 0.0, 0.0, 0.0), **options: object):
        (tmp_path / "r.xml").write_text(text)
        scene = Scene()
        loaded = scene.add_actor("r", tmp_path / "r.xml", pos, quat, **options)
        return scene, loaded

    return build


def test_several_bodies_below_the_world_are_one_actor_or_one_is_named(scene_of):
    table = '<body name="table"><geom size=".1"/></body>'
    cup = '<body name="cup"><freejoint/><geom size=".1"/></body>'
    weld = '<equality><weld body1="base" body2="table"/></equality>'
    text = mjcf(table + ROBOT + cup, after=weld)
    scene, loaded = scene_of(text)
    assert "root= takes one of them: 'table', 'base', 'cup'" in texts(loaded.notes).replace(
        "; all bodies below the world are one robot; root= takes one of them:", ","
    )
    actor = Sim(scene, 2, device="cpu").actor("r")
    assert actor.body_names == ["table", "base", "arm", "cup"]
    assert actor.root_pos[0].tolist() == [0, 0, 1]  # of the first that moves
    assert actor.joint_names == ["j", "joint2"]
    assert actor.joint_pos.shape == (2, 1 + 7)
    assert scene.compile().neq == 1
    scene, _ = scene_of(text, root="base")
    assert Sim(scene, 2, device="cpu").actor("r").body_names == ["base", "arm"]
    with pytest.raises(PhalanxError, match="no body 'bass' below the world; did you mean 'base'"):
        scene_of(text, root="bass")
    with pytest.raises(PhalanxError, match=r"fixed_base=True is about one root body.*root="):
        scene_of(text, fixed_base=True)


def test_what_refers_to_nothing_goes_with_a_note(scene_of):
    """MuJoCo's copy of a spec leaves such elements out without a word."""
    after = """
      <actuator><motor name="lost" joint="nope"/><motor name="kept" joint="j"/></actuator>
      <sensor><jointpos name="angle" joint="nope"/></sensor>
      <tendon><fixed name="t"><joint joint="nope" coef="1"/></fixed></tendon>
      <equality><joint name="e" joint1="nope"/></equality>
      <contact><exclude name="x" body1="base" body2="nope"/></contact>
      <keyframe><key name="home" qpos="0 0 1 1 0 0 0 .5" ctrl="7 3"/></keyframe>"""
    scene, loaded = scene_of(mjcf(ROBOT, after=after), keyframe="home")
    found = [n for n in loaded.notes if "refer to what the file does not have" in n.text]
    assert {n.item for n in found} == {"'lost'", "'angle'", "'t'", "'e'", "'x'"}
    assert all(n.place for n in found)
    model = scene.compile()
    assert (model.nu, model.key_ctrl.tolist()) == (1, [[3]])


def test_a_scene_has_all_of_a_robot_that_no_note_says_it_lost(scene_of):
    """MuJoCo's attach leaves out what refers to the world's body and nothing else."""
    after = """<sensor><subtreecom name="com" body="world"/><clock/><jointpos joint="j"/>
      <framelinacc name="g" objtype="xbody" objname="world"/>
      <framepos objtype="body" objname="world" reftype="site" refname="tip"/>
      <framepos objtype="site" objname="tip" reftype="body" refname="world"/></sensor>
      <actuator><adhesion name="grip" body="world" ctrlrange="0 1"/><motor joint="j"/></actuator>"""
    scene, loaded = scene_of(mjcf(ROBOT, after=after))
    alone = load_robot(loaded.path).compile()
    found = {n.item for n in loaded.notes if "refer to nothing but the world's body" in n.text}
    assert found == {"'com'", "'g'", "'grip'"}
    model = scene.compile()
    assert (model.nsensor, model.nu) == (alone.nsensor, alone.nu) == (4, 1)


@pytest.mark.parametrize("engine", ["mujoco", "warp", "fused", PlainEngine])
def test_a_keyframe_is_where_environments_begin_and_return_to(scene_of, engine):
    key = '<key name="home" qpos="0 0 .5 1 0 0 0 .7" qvel="0 0 0 0 0 0 2" ctrl="3" time="1.5"/>'
    text = mjcf(
        ROBOT,
        after=f'<actuator><motor joint="j"/></actuator><keyframe>{key}</keyframe>',
    )
    _, loaded = scene_of(text)
    assert [n.item for n in loaded.notes if n.kind == "offer"] == ["'home'"]
    scene, _ = scene_of(text, keyframe="home", pos=(1, 0, 2), quat=(0, 0, 0, 1))
    sim = Sim(scene, 2, device="cpu", engine=engine)
    for _ in range(2):
        # The base's pose is that of the keyframe in the actor's frame, half a turn about z.
        assert sim.qpos[1].tolist() == pytest.approx([1, 0, 2.5, 0, 0, 0, 1, 0.7])
        assert sim.qvel[1].tolist() == [0, 0, 0, 0, 0, 0, 2]
        assert sim.ctrl[1].tolist() == [3]
        assert sim.time[1] == 1.5
        sim.step()
        sim.reset(torch.tensor([False, True]))
    with pytest.raises(PhalanxError, match="no keyframe 'hom'; did you mean 'home'"):
        scene_of(text, keyframe="hom")


@pytest.mark.parametrize("constraint", [
    '<weld body1="base" relpose=".1 0 -1 .8 0 .6 0" anchor="0 0 1"/>',
    '<weld body1="world" body2="base" relpose=".1 0 1 .8 0 .6 0" anchor="0 .2 0"/>',
    '<weld body1="base" body2="world" anchor=".3 0 0"/>',
    '<connect body1="world" body2="base" anchor="0 0 1.1"/>',
    '<weld body1="base" body2="aim"/>',
])  # fmt: skip
def test_what_a_file_says_about_its_world_moves_with_the_actor(scene_of, constraint):
    """Constraints with the world, and poses of mocap bodies in keyframes."""
    aim = '<body name="aim" mocap="true" pos="0 0 1"/>'
    key = '<key name="home" mpos=".2 .1 1.3" mquat=".8 .6 0 0"/>'
    after = f"<equality>{constraint}</equality><keyframe>{key}</keyframe>"
    pos, quat = np.array([3.0, 1.0, 0.5]), np.array([np.sqrt(0.5), 0, 0, np.sqrt(0.5)])
    felt = []
    text = mjcf(aim + ROBOT, "<option gravity='0 0 0'/>", after)
    there, loaded = scene_of(text, keyframe="home", pos=pos, quat=quat)
    assert loaded.compile().neq == 1  # the robot is still there when a scene has it
    own = mujoco.MjModel.from_xml_string(text)
    for model in (own, there.compile()):
        model.opt.gravity[:] = 0
        data = mujoco.MjData(model)
        mujoco.mj_resetDataKeyframe(model, data, 0)
        data.qvel[:6] = 0
        mujoco.mj_forward(model, data)
        base = 2
        felt.append((data.qacc.copy(), data.xpos[base].copy(), data.mocap_pos[0].copy(),
                     data.mocap_quat[0].copy()))  # fmt: skip
    (acc, place, aimed, turn), (acc2, place2, aimed2, turn2) = felt
    turned = np.zeros(3)
    for local, moved in ((place, place2), (aimed, aimed2)):
        mujoco.mju_rotVecQuat(turned, local, quat)
        np.testing.assert_allclose(moved, pos + turned, atol=1e-9)
    product = np.zeros(4)
    mujoco.mju_mulQuat(product, quat, turn)
    np.testing.assert_allclose(turn2, product, atol=1e-9)
    mujoco.mju_rotVecQuat(turned, acc[:3], quat)
    np.testing.assert_allclose(acc2[:3], turned, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(acc2[3:6], acc[3:6], rtol=1e-4, atol=1e-6)  # of the base's own frame
    assert np.abs(acc).max() > 0.1 or "world" in constraint


def test_options_of_the_file_count_unless_the_scene_decides(scene_of, caplog):
    option = (
        '<option timestep=".001" cone="elliptic" impratio="100" density="1.2"'
        ' integrator="RK4"><flag eulerdamp="disable" override="enable"/></option>'
    )
    scene, loaded = scene_of(mjcf(ROBOT, option))
    with caplog.at_level(logging.WARNING):
        scene.add_actor("other", loaded.path)
    model = scene.compile()
    assert model.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC
    assert (model.opt.impratio, model.opt.density) == (100, 1.2)
    assert model.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_EULERDAMP)
    assert model.opt.enableflags & int(mujoco.mjtEnableBit.mjENBL_OVERRIDE)
    assert model.opt.timestep == pytest.approx(1 / 120)
    assert "timestep 0.001, the scene has 0.00833" in texts(loaded.notes)
    assert "integrator rk4, the scene has implicitfast" in texts(loaded.notes)
    loaded.path.write_text(mjcf(ROBOT, '<option impratio="5"/>'))
    third = scene.add_actor("third", loaded.path)
    assert "impratio 5, actor 'r' has 100" in texts(third.notes)


def test_total_mass_world_sites_and_constraints_to_the_world_count(scene_of):
    before = '<compiler settotalmass="10"/>'
    after = (
        '<tendon><spatial name="rope"><site site="hook"/><geom geom="drum"/><site site="tip"/>'
        "</spatial></tendon>"
        '<contact><pair geom1="g" geom2="floor"/><exclude body1="base" body2="world"/></contact>'
        '<equality><connect body1="arm" body2="world" anchor="0 0 0"/></equality>'
    )
    world = (
        '<geom name="floor" type="plane" size="1 1 1"/><geom name="rail" size=".1"/>'
        '<geom name="drum" type="cylinder" size=".01 .1" pos="3 0 0" contype="0" conaffinity="0"/>'
        '<site name="hook" pos="0 0 2"/><body name="aim" mocap="true"/>'
    )
    scene, loaded = scene_of(mjcf(world + ROBOT, before, after), pos=(0, 0, 5))
    model = scene.compile()
    assert model.body_mass.sum() == pytest.approx(10)
    assert (model.ntendon, model.neq, model.npair, model.nmocap) == (1, 1, 0, 1)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    assert model.geom("r/drum").bodyid == 0
    assert data.site("r/hook").xpos.tolist() == [0, 0, 7]  # in the environment's frame
    assert "dropped shapes that are fixed to the world: 'rail' (line 1)" in texts(loaded.notes)


MJCF_LOADS = {
    "swapped range": (
        mjcf('<body><joint name="j" range="9 -9"/><geom size=".1"/></body>'),
        "corrected the range of joints: 'j'",
    ),
    "no autolimits": (
        mjcf('<body><joint name="j" range="-1 1"/><geom size=".1"/></body>',
             '<compiler autolimits="false"/>'),
        "by autolimits: 'j'",
    ),
    "replicate": (
        mjcf('<body><freejoint/><geom size=".1"/><replicate count="4" euler="0 0 90">'
             '<body pos=".2 0 0"><joint/><geom size=".05"/></body></replicate></body>'),
        "",
    ),
    "slashes": (mjcf('<body name="a/b"><geom name="a/c" size=".1"/></body>'), ""),
}  # fmt: skip


@pytest.mark.parametrize("case", MJCF_LOADS)
def test_an_mjcf_is_mended_only_where_it_must_be(load, case):
    text, note = MJCF_LOADS[case]
    loaded = load(text)
    mended = texts([n for n in loaded.notes if n.kind == "mended"])
    assert (note in mended) if note else not mended
    assert loaded.compile().nbody == text.count("<body") + 3 * text.count("<replicate") + 1


def test_an_error_in_an_included_file_names_it(load, tmp_path):
    (tmp_path / "legs.xml").write_text(
        '<mujoco>\n\n<body name="leg"><geom name="shin"/></body></mujoco>'
    )
    said = r"legs.xml, line 3, <geom name='shin'>: .*number 1 of its size must be positive"
    with pytest.raises(PhalanxError, match=said):
        load(mjcf('<body><geom size=".1"/><include file="legs.xml"/></body>'))


def test_a_texture_that_cannot_be_read_is_dropped_as_a_missing_one_is(load, tmp_path):
    (tmp_path / "lfs.png").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    names = ("lfs", "broken", "good", "gone")
    textures = "".join(f'<texture name="{n}" type="2d" file="{n}.png"/>' for n in names)
    materials = "".join(f'<material name="{n}" texture="{n}"/>' for n in names)
    geoms = "".join(f'<geom size=".1" material="{n}"/>' for n in names)
    loaded = load(mjcf(f"<body>{geoms}</body>", f"<asset>{textures}{materials}</asset>"))
    assert loaded.compile().ntex == 1
    said = texts(loaded.notes)
    assert re.search(r"textures that cannot be read: \S*lfs.png \(the file is a Git LFS", said)
    assert re.search(r"textures that cannot be read: \S*broken.png \(error decoding PNG", said)
    assert re.search(r"dropped textures without a file: .*gone.png", said)
    field = '<asset><hfield name="h" file="lfs.png" size="1 1 1 1"/></asset>'
    with pytest.raises(PhalanxError, match=r"<hfield file=.*Git LFS pointer"):
        load(mjcf('<body><geom size=".1"/></body>', field), "field.xml")


def test_a_file_in_utf_16_is_read_as_it_says(tmp_path):
    """The second byte of its last character is zero."""
    (tmp_path / "r.urdf").write_bytes(
        f'<?xml version="1.0" encoding="utf-16"?>{hinge(LIMIT)}'.encode("utf-16")
    )
    assert load_robot(tmp_path / "r.urdf").compile().njnt == 2


UNREADABLE = {
    '<mesh name="m" file="m.step"/>': "m.step: its format is not one of .stl.*; save it again",
    '<mesh name="m" file="m.dae"/>': "m.dae: it cannot be read as COLLADA; save it again",
    '<mesh name="m" file="m.stl"/>': "stl_decoder.*; save it again, or give the body another shape",
    '<mesh name="m" file="n.stl"/>': "no file .*; supply the file or correct meshdir",
    '<hfield name="h" file="n.png" size="1 1 1 1"/>': "no file 'n.png'.*; supply the file",
    '<skin name="s" file="n.skn"/>': "no file 'n.skn'.*; supply the file",
}


@pytest.mark.parametrize("asset", UNREADABLE)
def test_a_file_of_an_mjcf_that_cannot_be_used_is_named_with_a_cure_that_helps(
    load, tmp_path, asset
):
    for kind in ("step", "dae", "stl"):
        (tmp_path / f"m.{kind}").write_bytes(b"nothing of the kind")
    geom = '<geom type="mesh" mesh="m"/>' if "mesh" in asset else '<geom size=".1"/>'
    with pytest.raises(PhalanxError, match=f"line 1, <{asset[1:5]}.*: {UNREADABLE[asset]}"):
        load(mjcf(f"<body>{geom}</body>", f"<asset>{asset}</asset>"))


def test_a_scene_in_which_nothing_moves_steps(load, tmp_path):
    load(robot(BASE))
    scene = Scene()
    scene.add_actor("table", tmp_path / "r.urdf", fixed_base=True)
    sim = Sim(scene, 16, device="cpu")
    sim.step()
    assert not sim.diverged.any()
    assert sim.actor("table").joint_pos.shape == (16, 0)


def test_options_for_the_other_format_are_refused(load):
    with pytest.raises(PhalanxError, match="density= is for URDF files"):
        load(mjcf(ROBOT), density=10)
    with pytest.raises(PhalanxError, match="root= is for MJCF files"):
        load(robot(BASE), root="base")


def test_a_mesh_too_flat_for_its_size_is_a_sentence_without_qhulls_pages(tmp_path, capfd):
    corners = " ".join(f"{x}e15 {y}e15 {z}" for x in (-1, 1) for y in (-1, 1) for z in (-0.1, 0.1))
    body = '<body name="b"><freejoint/><geom type="mesh" mesh="flat"/></body>'
    mesh = f'<mesh name="flat" vertex="{corners}"/>'
    (tmp_path / "r.xml").write_text(
        f"<mujoco><asset>{mesh}</asset><worldbody>{body}</worldbody></mujoco>"
    )
    with pytest.raises(PhalanxError, match=r"it extends over 2e\+15 m|too flat for its size"):
        load_robot(tmp_path / "r.xml")
    assert "QH" not in "".join(capfd.readouterr())
