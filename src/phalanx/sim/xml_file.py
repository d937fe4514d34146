"""XML elements that know their file and line, and a safe reader of XML files."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from phalanx.errors import PhalanxError

MAX_DEPTH = 400  # of nested elements; MuJoCo's own reader stops at 500


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
        shown = [
            f" {k}={self.attrib[k]!r}" for k in ("name", "file", "filename") if k in self.attrib
        ]
        return f"{self.file}, line {self.line}, <{self.tag}{shown[0] if shown else ''}>"

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
    """The root element of an XML file. DOCTYPE is refused, so no entity can expand."""
    stack: list[Element] = []
    roots: list[Element] = []
    parser = expat.ParserCreate()

    def start(tag: str, attrib: dict[str, str]) -> None:
        element = Element(tag, attrib, str(file), parser.CurrentLineNumber)
        if len(stack) == MAX_DEPTH:
            element.fail(f"elements are nested more than {MAX_DEPTH} deep; flatten the file")
        (stack[-1].children if stack else roots).append(element)
        stack.append(element)

    def end(tag: str) -> None:
        stack.pop()

    def doctype(*_: object) -> None:
        raise PhalanxError(
            f"{file}, line {parser.CurrentLineNumber}: a DOCTYPE is not accepted, because entities"
            " can expand until they fill the memory; remove it"
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(file.read_bytes(), True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise PhalanxError(
            f"{file}, line {error.lineno}: not well-formed XML ({reason}); correct that line"
        ) from None
    except OSError as error:
        raise PhalanxError(f"{file} cannot be read: {error.strerror}") from None
    except PhalanxError:
        raise
    except (LookupError, ValueError):  # expat's exceptions for an unknown encoding
        raise PhalanxError(f"{file} has an unknown encoding; save it as UTF-8") from None
    return roots[0]
