"""The gate for files of others: every loader reads through it, before it parses anything.

    data = read_bytes(path, most=64 * MB)    # of a regular file, never more than `most`
    text = read_text(path)
    values = read_yaml(path)                 # plain values, nothing shared, of bounded size

A few bytes can ask for gigabytes or for hours: a link to /dev/zero, a pipe that nobody writes to,
aliases of aliases, a compressed member of zeros. What does not pass raises PhalanxError with one
sentence that names the file. Loaders check what a file means; nothing that one of them takes has
more bytes, levels or parts than these limits.
"""

import math
import os
import re
import stat
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

import yaml

from phalanx.errors import PhalanxError

MB = 2**20
MAX_TEXT = 4 * MB
"""Bytes of a text that is not told otherwise; the longest settings of a run have 20 kB."""
MAX_YAML = MB
MAX_PARTS = 100_000
"""Values in a YAML file, with each alias counted as all that it stands for."""
MAX_DEPTH = 50
MAX_WORD = 4000
"""Characters of a number or of a text without quotes: Python converts no longer numbers."""
MAX_INTEGER = 2**63 - 1

Where = str | os.PathLike[str]


def open_file(path: Where) -> BinaryIO:
    """A regular file, open for reading. Raises PhalanxError for anything else: a pipe, a device, a
    folder, a missing file."""
    number = -1
    try:
        # Opening a pipe would wait for a writer.
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        mode = os.fstat(number).st_mode
        if stat.S_ISREG(mode):
            return open(number, "rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise PhalanxError(f"cannot read {path}: {reason(error)}") from error
    os.close(number)
    kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
    raise PhalanxError(f"{path} is {kind}, not a file; give a file with content")


def read_bytes(path: Where, most: int = 256 * MB) -> bytes:
    """The content of a regular file of at most `most` bytes. Raises PhalanxError for anything
    else."""
    with open_file(path) as file:
        length = os.fstat(file.fileno()).st_size
        try:
            # Files of /proc say that they are empty, and others may grow.
            data = file.read(most + 1) if length <= most else b""
        except OSError as error:
            raise PhalanxError(f"cannot read {path}: {reason(error)}") from error
    if max(len(data), length) > most:
        raise PhalanxError(f"{path} is larger than {size(most)}, the most that is read of its kind")
    return data


def read_text(path: Where, most: int = MAX_TEXT) -> str:
    """The same, as text. Raises PhalanxError for text that is not UTF-8."""
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PhalanxError(f"{path} is not text in UTF-8: byte {error.start} is wrong") from error


def check_zip(archive: zipfile.ZipFile, where: Where, most: int, compressed: bool) -> None:
    """Raise PhalanxError for a ZIP file that would unpack to more than `most` bytes. `compressed`:
    whether its kind may have compressed members. Reading a member checks its checksum."""
    members = archive.infolist()
    if not compressed and any(m.compress_type != zipfile.ZIP_STORED for m in members):
        raise PhalanxError(
            f"{where} has compressed parts, which files of its kind never have; it was not loaded,"
            " because they could unpack to any size"
        )
    if sum(m.file_size for m in members) > most:
        raise PhalanxError(f"{where} unpacks to more than {size(most)}")


def read_yaml(path: Where) -> Any:
    """The values in a YAML file: mappings, lists, texts, numbers, booleans and None.

    Raises PhalanxError, with the line where there is one, for other values, keys given twice,
    deep nesting and aliases that stand for too much.
    """
    return parse_yaml(read_text(path, MAX_YAML), str(path))


def parse_yaml(text: str, where: str, any_number: bool = False) -> Any:
    """The same for a text; `where` begins the message. any_number: also NaN, and whole numbers of
    more than 64 bits, for a reader that refuses them with its own words."""
    try:
        _check_events(text, where)
        return _plain(yaml.load(text, Loader=_Loader), where, any_number)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise PhalanxError(
            f"{where}{line}: {getattr(error, 'problem', None) or reason(error)}"
        ) from error
    except PhalanxError:
        raise
    except Exception as error:  # a date like 2001-99-99 or a number of 5000 digits
        raise PhalanxError(f"{where}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """What an error says, on one line, beginning in lower case where it is the system's."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    words = " ".join(str(error).split())
    return words[:200] or type(error).__name__


def size(count: int) -> str:
    """A number of bytes for a message."""
    return f"{count / MB:.0f} MB" if count >= MB else f"{count} bytes"


def _check_events(text: str, where: str) -> None:
    """Raise PhalanxError before aliases are followed: they may stand for each other."""
    parts_of: dict[str, int] = {}
    open_parts = [0]  # parts so far of each open collection; the outermost is the document
    anchors: list[str | None] = [None]
    for event in yaml.parse(text, Loader=_Loader):
        parts = 1
        name = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            if name in anchors:
                raise PhalanxError(f"{_line(where, event)}: *{name} contains itself")
            parts = parts_of.get(str(name), 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_parts.append(0)
            anchors.append(name)
            if len(open_parts) > MAX_DEPTH:
                raise PhalanxError(f"{_line(where, event)}: nested more than {MAX_DEPTH} deep")
            continue
        elif isinstance(event, yaml.CollectionEndEvent):
            parts, name = open_parts.pop() + 1, anchors.pop()
        elif isinstance(event, yaml.ScalarEvent):
            if not event.style and len(event.value) > MAX_WORD:
                raise PhalanxError(
                    f"{_line(where, event)}: a value of {len(event.value)} characters without"
                    " quotes; the file is damaged"
                )
        else:
            continue
        if name and not isinstance(event, yaml.AliasEvent):
            parts_of[name] = parts
        open_parts[-1] += parts
        if open_parts[-1] > MAX_PARTS:
            raise PhalanxError(
                f"{_line(where, event)}: more than {MAX_PARTS} values, those that aliases stand"
                " for included"
            )


def _line(where: str, event: Any) -> str:
    return f"{where}, line {event.start_mark.line + 1}"


_TIME = "tag:yaml.org,2002:timestamp"
_FLOAT = "tag:yaml.org,2002:float"
_EXPONENT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+\Z")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads 1e-3 as a number, as YAML 1.2 does, leaves dates as texts and refuses a key given
    twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIME]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        seen: set[str] = set()
        for key in keys:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value[:60]!r} is there twice", key.start_mark
                )
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(_FLOAT, _EXPONENT, list("-+.0123456789"))


def _plain(value: Any, where: str, any_number: bool, key: str = "") -> Any:
    """A copy of `value` in which nothing is shared. Raises PhalanxError, naming the key, for
    anything but plain values."""
    if isinstance(value, Mapping):
        copy = {}
        for name, inner in value.items():
            if not isinstance(name, (str, int)):
                raise PhalanxError(f"{where}: the key {show(name)} is not a text")
            copy[name] = _plain(inner, where, any_number, f"{key}.{name}" if key else str(name))
        return copy
    if isinstance(value, list):
        return [_plain(v, where, any_number, f"{key}[{i}]") for i, v in enumerate(value)]
    named = f"{where}: {key or 'its value'} is {show(value)}"
    if value is not None and not isinstance(value, (str, bool, int, float)):
        raise PhalanxError(f"{named}; a {type(value).__name__} is not accepted")
    if any_number:
        return value
    if isinstance(value, float) and math.isnan(value):
        raise PhalanxError(f"{named}, which is not a number")
    if isinstance(value, int) and not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise PhalanxError(f"{named}, which has more than 64 bits")
    return value


def listed(names: Iterable[object], most: int = 30) -> str:
    """Names for a message, the first `most` of them."""
    texts = [str(name)[:60] for name in names]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def show(value: object) -> str:
    """`value` for a message, shortened to 60 characters."""
    if isinstance(value, int) and value.bit_length() > 200:  # repr of long ones takes long
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
