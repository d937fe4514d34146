"""Writes a robot as an MJCF file with its meshes beside it, so that the folder can be moved."""

import shutil
from pathlib import Path
from xml.etree import ElementTree

import mujoco

from phalanx.errors import PhalanxError
from phalanx.files import write_atomically
from phalanx.robot.file import RobotFile
from phalanx.sim.scene_options import set_option

DIRECTORIES = ("meshdir", "texturedir", "assetdir", "strippath")
FILE_KEYS = ("file", "fileright", "fileleft", "fileup", "filedown", "filefront", "fileback")


def whole_spec(robot: RobotFile) -> mujoco.MjSpec:
    """The robot with the physics options and keyframes of its file, which its spec leaves out."""
    spec = robot.spec.copy()
    for option, value in robot.robot.options.items():
        set_option(spec, option, value)
    for name, pose in robot.robot.keyframes.items():
        data = mujoco.MjData(robot.model)
        pose.write(robot.model, data)
        mocap = {"mpos": data.mocap_pos.ravel(), "mquat": data.mocap_quat.ravel()}
        moving = {"qpos": data.qpos, "qvel": data.qvel, "act": data.act, "ctrl": data.ctrl}
        spec.add_key(name=name, time=pose.time, **moving, **mocap)
    return spec


def write_mjcf(spec: mujoco.MjSpec, path: Path) -> Path:
    """Write `spec` to `path`, and copies of the files it names to `<stem>_assets` beside it;
    returns `path`. Raises PhalanxError if something cannot be written."""
    try:
        model = spec.compile()
    except ValueError as error:
        raise PhalanxError(
            f"MuJoCo cannot compile what is to be written to {path}: {' '.join(str(error).split())}"
        ) from error
    root = ElementTree.fromstring(spec.to_xml())
    _write_exact_inertias(root, model)
    materials = {e.get("name") for e in root.iter("material")}
    for element in root.iter():  # a default may name a material that the file never defines
        if element.get("material") not in {None, *materials}:
            del element.attrib["material"]
    for compiler in root.iter("compiler"):  # the files are named by their whole paths
        for key in DIRECTORIES:
            compiler.attrib.pop(key, None)
    folder = path.with_name(f"{path.stem}_assets")
    names: dict[Path, str] = {}  # file -> its name in the folder
    for element in root.iter():
        for key in (k for k in FILE_KEYS if k in element.attrib):
            source = Path(element.attrib[key])
            if source not in names:
                names[source] = _free_name(source, set(names.values()))
            element.attrib[key] = f"{folder.name}/{names[source]}"
    ElementTree.indent(root)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if names:
            folder.mkdir(exist_ok=True)
        for source, name in names.items():
            if source.resolve() != (folder / name).resolve():
                shutil.copyfile(source, folder / name)
        write_atomically(path, ElementTree.tostring(root, encoding="utf-8") + b"\n")
    except OSError as error:
        raise PhalanxError(
            f"cannot write {error.filename or path}: {str(error.strerror).lower()}; choose another"
            " file"
        ) from error
    try:
        mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        raise PhalanxError(
            f"MuJoCo cannot read back what was written to {path}: {' '.join(str(error).split())}"
        ) from error
    return path


def _write_exact_inertias(root: ElementTree.Element, model: mujoco.MjModel) -> None:
    """MuJoCo writes six digits, with which a flat body's inertia may become impossible."""
    for body in root.iter("body"):
        inertial = body.find("inertial")
        if inertial is None or "diaginertia" not in inertial.attrib:
            continue
        own = model.body(body.attrib["name"])
        values = {"pos": own.ipos, "quat": own.iquat, "mass": own.mass, "diaginertia": own.inertia}
        for key, numbers in values.items():
            inertial.set(key, " ".join(repr(float(n)) for n in numbers))


def _free_name(source: Path, taken: set[str]) -> str:
    """The file's name, with a number if another file in the folder has it."""
    names = [source.name, *(f"{source.stem}_{i}{source.suffix}" for i in range(1, len(taken) + 2))]
    return next(n for n in names if n not in taken)
