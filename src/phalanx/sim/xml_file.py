"""XML elements that know their file and line, and a safe reader of XML files."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from phalanx.errors import PhalanxError
from phalanx.gate import MB, read_bytes

MAX_BYTES = 64 * MB
MAX_DEPTH = 400  # of nested elements; MuJoCo's own reader stops at 500

PATHS = frozenset(
    "file fileback filedown filefront fileleft fileright fileup filename meshdir texturedir"
    " assetdir".split()
)
"""Attributes that name files or folders."""


@dataclass(eq=False)
class Element:
    """An XML element with its file and line."""

    tag: str
    attrib: dict[str, str]
    file: str
    line: int
    children: list["Element"] = field(default_factory=list)

    @property
    def where(self) -> str:
        """For error messages: `robot.urdf, line 12, <joint name='hip'>`."""
        keys = [k for k in ("name", "file", "filename") if k in self.attrib]
        text = f" {keys[0]}={self.attrib[keys[0]]!r}" if keys else ""
        text = text if len(text) < 200 else f"{text[:200]}..."
        return f"{self.file}, line {self.line}, <{self.tag}{text}>"

    @property
    def place(self) -> str:
        """For notes and MuJoCo's messages: `line 12`."""
        return f"line {self.line}"

    def place_in(self, root: "Element") -> str:
        """The same, with the file's name if it is another than that of `root`, which includes
        it."""
        name = "" if self.file == root.file else f"{Path(self.file).name}, "
        return f"{name}line {self.line}"

    def find(self, tag: str) -> "Element | None":
        """The first child with this tag."""
        return next((c for c in self.children if c.tag == tag), None)

    def findall(self, tag: str) -> list["Element"]:
        """All children with this tag, in file order."""
        return [c for c in self.children if c.tag == tag]

    def iter(self) -> Iterator["Element"]:
        """This element and everything below it, in file order."""
        yield self
        for child in self.children:
            yield from child.iter()

    def fail(self, reason: str) -> NoReturn:
        """Raise PhalanxError that starts with this element's position in the file."""
        raise PhalanxError(f"{self.where}: {reason}")


def read_xml(file: Path) -> Element:
    """The root element of an XML file. DOCTYPE is refused, so no entity can expand. What other
    readers of robot files take is taken: space and comments before the XML declaration, and any
    encoding that Python knows."""
    stack: list[Element] = []
    roots: list[Element] = []
    data, skipped_lines = _utf8(file)
    parser = expat.ParserCreate("utf-8")

    def start(tag: str, attrib: dict[str, str]) -> None:
        line = parser.CurrentLineNumber + skipped_lines
        element = Element(tag, attrib, str(file), line)
        if len(stack) == MAX_DEPTH:
            element.fail(f"elements are nested more than {MAX_DEPTH} deep; flatten the file")
        for key in PATHS & attrib.keys():
            parts = re.split(r"[/\\]", attrib[key])
            if len(attrib[key]) > 2000 or max(len(part.encode()) for part in parts) > 255:
                element.fail(f"{key} is too long for the name of a file; shorten it")
        (stack[-1].children if stack else roots).append(element)
        stack.append(element)

    def end(tag: str) -> None:
        stack.pop()

    def doctype(*_: object) -> None:
        raise PhalanxError(
            f"{file}, line {parser.CurrentLineNumber + skipped_lines}: a DOCTYPE is not accepted,"
            " because entities can expand until they fill the memory; remove it"
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise PhalanxError(
            f"{file}, line {error.lineno + skipped_lines}: not well-formed XML ({reason});"
            " correct that line"
        ) from None
    return roots[0]


def _utf8(file: Path) -> tuple[bytes, int]:
    """The file's XML in UTF-8 from its declaration on, and the number of lines before that."""
    data = read_bytes(file, MAX_BYTES)
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # UTF-16's marks
    data = data if wide else data.rstrip(b"\0")  # some files end as C strings do
    if not data.strip():
        raise PhalanxError(f"{file} is empty; give a robot file")
    declaration = re.search(rb"<\?xml\s[^>]*\?>", data[:4096])
    skipped = 0
    if declaration and re.fullmatch(rb"(\s|<!--.*?-->)*", data[: declaration.start()], re.DOTALL):
        skipped = data.count(b"\n", 0, declaration.start())
        data = data[declaration.start() :]
    encoding = re.match(rb"<\?xml\s[^>]*\bencoding\s*=\s*[\"']([^\"']*)", data)
    name = encoding[1].decode("ascii", "replace") if encoding else "utf-8"
    if wide:
        name = "utf-16"
    try:
        text = data.decode(name)
    except (LookupError, ValueError):
        raise PhalanxError(
            f"{file} is not in the encoding {name!r} that it says; save it as UTF-8"
        ) from None
    return text.removeprefix("\ufeff").encode(), skipped
