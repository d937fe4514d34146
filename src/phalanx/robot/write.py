"""Writes a robot as an MJCF file with its meshes beside it, so that the folder can be moved."""

import shutil
from pathlib import Path
from xml.etree import ElementTree

import mujoco

from phalanx.errors import PhalanxError
from phalanx.files import write_atomically

FILE_KEYS = ("file", "fileright", "fileleft", "fileup", "filedown", "filefront", "fileback")


def write_mjcf(spec: mujoco.MjSpec, path: Path) -> Path:
    """Write `spec` to `path`, and copies of the files it names to `<stem>_assets` beside it;
    returns `path`. Raises PhalanxError if something cannot be written."""
    root = ElementTree.fromstring(spec.to_xml())
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
    return path


def _free_name(source: Path, taken: set[str]) -> str:
    """The file's name, with a number if another file in the folder has it."""
    names = [source.name, *(f"{source.stem}_{i}{source.suffix}" for i in range(1, len(taken) + 2))]
    return next(n for n in names if n not in taken)
