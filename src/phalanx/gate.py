"""The gate for files of others: every loader reads through it, before it parses anything.

    data = read_bytes(path, most=64 * MB)    # of a regular file, never more than `most`
    text = read_text(path)                   # in UTF-8

`yaml_file.py`, `npy_file.py` and `pickles.py` parse what comes through it.
A few bytes can ask for gigabytes or for hours: a link to /dev/zero, a pipe that nobody writes to,
aliases of aliases, a compressed member of zeros. What does not pass raises PhalanxError with one
sentence that names the file. Loaders check what a file means; nothing that one of them takes has
more bytes, levels or parts than these limits.
"""

import io
import os
import stat
import zipfile
from collections.abc import Iterable
from typing import BinaryIO

from phalanx.errors import PhalanxError

MB = 2**20
MAX_TEXT = 4 * MB
"""Bytes of a text that is not told otherwise; the longest settings of a run have 20 kB."""
MAX_INTEGER = 2**63 - 1
LFS = b"version https://git-lfs"
"""What stands in the place of a large file that Git has not fetched begins with this."""

Where = str | os.PathLike[str]


def open_file(path: Where) -> BinaryIO:
    """A regular file, open for reading. Raises PhalanxError for anything else: a pipe, a device, a
    folder, a missing file, one that Git has not fetched."""
    file = _opened(path)
    try:
        is_pointer = file.peek(len(LFS)).startswith(LFS)
    except OSError as error:
        raise PhalanxError(f"cannot read {path}: {reason(error)}") from error
    if is_pointer:
        file.close()
        raise PhalanxError(
            f"{path} is a Git LFS pointer, not the file itself; run 'git lfs pull' in its folder"
        )
    return file


def _opened(path: Where) -> io.BufferedReader:
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


def check_name(path: Where) -> None:
    """Raise PhalanxError for a path that the system cannot look at: too long, with a zero byte, in
    a folder that is closed to us."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        raise PhalanxError(f"cannot read {show(str(path))}: {reason(error)}") from error


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


def check_file(path: Where, most: int = 256 * MB) -> None:
    """Raise PhalanxError for anything but a regular file of at most `most` bytes, which another
    program will read."""
    with _opened(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise PhalanxError(
                f"{path} is larger than {size(most)}, the most that is read of its kind"
            )


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


def reason(error: BaseException) -> str:
    """What an error says, on one line, beginning in lower case where it is the system's."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    words = " ".join(str(error).split())
    return words[:200].rstrip(".") or type(error).__name__


def size(count: int) -> str:
    """A number of bytes for a message."""
    return f"{count / MB:.0f} MB" if count >= MB else f"{count} bytes"


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
