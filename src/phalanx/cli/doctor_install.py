"""Finds a repository's requirements, those that cannot be installed today, and replacements.

Requirements are read from setup.py (not run), setup.cfg, pyproject.toml and requirements*.txt.
"""

import ast
import configparser
import importlib.metadata
import importlib.util
import os
import platform
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from phalanx.cli.doctor_read import MAX_FILE, Source, imported, tree_of
from phalanx.errors import PhalanxError, printable
from phalanx.gate import read_bytes, reason, show

DISTRIBUTIONS = {
    "cv2": "opencv-python", "yaml": "pyyaml", "PIL": "pillow", "sklearn": "scikit-learn",
    "skimage": "scikit-image", "hydra": "hydra-core", "git": "GitPython", "gym": "gymnasium",
    "mujoco_viewer": "mujoco-python-viewer", "params_proto": "params-proto",
    "pyvirtualdisplay": "pyvirtualdisplay", "rl_games": "rl-games==1.6.5", "attr": "attrs",
    "dateutil": "python-dateutil", "mpl_toolkits": "matplotlib",
}  # fmt: skip
"""pip's names of modules whose package has another name, or with the version that was tested."""

REPOSITORIES = {
    "rsl_rl": "pip install --no-deps git+https://github.com/leggedrobotics/rsl_rl@v1.0.2",
    "isaacgymenvs": "git clone https://github.com/isaac-sim/IsaacGymEnvs"
    " && pip install --no-deps -e IsaacGymEnvs",
}
"""How to install packages that are in no registry, without their requirements."""

BY_HAND = {
    "pysdf": "has no wheel for today's Python",
    "urdfpy": "needs networkx 2.2, which today's Python cannot run",
    "fbx": "comes with Autodesk's FBX SDK", "FbxCommon": "comes with Autodesk's FBX SDK",
    "pytorch3d": "is built from its sources", "horovod": "is built from its sources",
    "mujoco_py": "is no longer developed; mujoco replaces it",
}  # fmt: skip
SHIMMED = ("pysdf", "urdfpy")
"""Packages that `isaacgym.compat` replaces."""


def requirements(root: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """File -> requirements as written, `python>=3.6` for the interpreter; and the reason for each
    file that is left out."""
    folder = root if root.is_dir() else root.parent
    readers = {"setup.py": _setup_py, "setup.cfg": _setup_cfg, "pyproject.toml": _pyproject}
    found, left_out = {}, {}
    for file in sorted(folder.iterdir()):
        text_file = file.name.startswith("requirements") and file.suffix == ".txt"
        reader = _requirements_txt if text_file else readers.get(file.name)
        if reader is not None:
            name = printable(file.name)
            try:
                found[name] = [printable(line, 500) for line in reader(read_bytes(file, MAX_FILE))]
            except PhalanxError as error:
                left_out[name] = str(error)
    return {file: lines for file, lines in found.items() if lines}, left_out


def _requirements_txt(content: bytes) -> list[str]:
    lines = [line.split("#")[0].strip() for line in content.decode("utf8", "replace").splitlines()]
    return [line for line in lines if line and not line.startswith("-")]


def _setup_py(content: bytes) -> Iterator[str]:
    _, nodes = tree_of(content, "setup.py")
    lists = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            lists[node.targets[0].id] = node.value
    for node in nodes:
        if isinstance(node, ast.keyword) and node.arg in ("install_requires", "python_requires"):
            value = lists.get(node.value.id) if isinstance(node.value, ast.Name) else node.value
            head = "python" if node.arg == "python_requires" else ""
            for text in value.elts if isinstance(value, ast.List | ast.Tuple) else [value]:
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    yield head + text.value


def _setup_cfg(content: bytes) -> Iterator[str]:
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read_string(content.decode())
    except (configparser.Error, ValueError) as error:
        raise PhalanxError(f"not a configuration: {reason(error)}") from error
    if not config.has_section("options"):
        return
    options = config["options"]
    if "python_requires" in options:
        yield f"python{options['python_requires']}"
    yield from filter(None, options.get("install_requires", "").splitlines())


def _pyproject(content: bytes) -> Iterator[str]:
    try:
        project = tomllib.loads(content.decode()).get("project", {})
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError
        raise PhalanxError(f"not TOML: {reason(error)}") from error
    if not isinstance(project, dict):
        raise PhalanxError(f"project is {show(project)}; it must be a table")
    if "requires-python" in project:
        yield f"python{project['requires-python']}"
    lines = project.get("dependencies", [])
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise PhalanxError(f"project.dependencies is {show(lines)}; it must be a list of texts")
    yield from lines


def refused(lines: list[str]) -> list[str]:
    """Requirements that this Python and its packages do not meet: `numpy==1.20 (here 2.4.6)`. A
    package that is not installed is included only if it cannot be installed."""
    found = []
    for line in lines:
        try:
            requirement = Requirement(line)
        except (InvalidRequirement, InvalidSpecifier):
            continue
        name, specifier = requirement.name, requirement.specifier
        try:
            if requirement.marker and not requirement.marker.evaluate():
                continue
        except (UndefinedComparison, UndefinedEnvironmentName, ValueError):
            continue
        here = platform.python_version() if name == "python" else _version(name)
        if name.lower() in BY_HAND and here is None:
            found.append(f"{line} ({BY_HAND[name.lower()]})")
        elif here is not None and not SpecifierSet(str(specifier)).contains(here, prereleases=True):
            found.append(f"{line} (here {here})")
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def missing(sources: list[Source], local: set[str], asked: list[str]) -> list[str]:
    """External modules that are imported at module level and not installed here; `asked` are the
    repository's own requirements."""
    tops = {name.split(".")[0] for s in sources for name, _, at_once in imported(s) if at_once}
    tops -= local | sys.stdlib_module_names
    absent = {t for t in tops if not installed(t)}
    if "rsl_rl" in tops and {"rsl-rl", "rsl_rl"} & set(asked) and _version("rsl-rl") is None:
        absent.add("rsl_rl")  # later releases are called rsl-rl-lib and have another API
    return sorted(absent)


def installed(module: str) -> bool:
    """Whether a module is installed; modules of the working folder do not count."""
    here = sys.path[:]
    sys.path[:] = [p for p in here if p and Path(p).resolve() != Path.cwd().resolve()]
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
    finally:
        sys.path[:] = here


def commands(root: Path, needs: list[str], pinned: bool) -> list[str]:
    """Commands to install `needs`; `pinned` if the repository requires unavailable versions."""
    lines = []
    if "isaacgym" in needs:
        lines.append("pip install PHALANX/isaacgym  # PHALANX: where its repository is")
    others = [n for n in needs if n != "isaacgym" and n not in BY_HAND and n not in REPOSITORIES]
    if others:
        packages = dict.fromkeys(DISTRIBUTIONS.get(n, n) for n in others)
        lines.append(f"pip install {shlex.join(packages)}")
    lines += [REPOSITORIES[n] for n in needs if n in REPOSITORIES]
    if root.is_dir() and any((root / f).exists() for f in ("setup.py", "pyproject.toml")):
        deps = "--no-deps " if pinned else ""
        near = os.path.relpath(root)
        place = str(root.resolve()) if near.startswith("..") else near
        lines.append(f"pip install {deps}-e {shlex.quote(place)}")
    return lines
