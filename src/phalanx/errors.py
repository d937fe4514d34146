"""Errors that users can cause, with helpful messages.

Wrong input (a key, a file, a range) raises `PhalanxError` with one sentence that names the thing,
the value seen, what is accepted and what to do. The command line prints only that sentence and
exits with 2; in Python it is an ordinary exception.
"""

from collections.abc import Iterable, Mapping

MAX_SENTENCE = 2000


class PhalanxError(ValueError):
    """Bad input; `str(error)` is one complete sentence for the user, on one line that any terminal
    can show, whatever names from a file are in it."""

    def __init__(self, sentence: object = "") -> None:
        super().__init__(printable(str(sentence), MAX_SENTENCE))


def printable(text: str, most: int = 10_000) -> str:
    """`text` on one line of at most `most` characters. Newlines become spaces; escape codes, which
    could control the terminal, and halves of characters become visible."""
    if not text.isprintable():
        text = " ".join(text.split())
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= most else f"{text[: most - 3]}..."


class PhalanxWarning(UserWarning):
    """Something that is not an error but that the user should know."""


def did_you_mean(name: object, names: Iterable[object]) -> str:
    """`"; did you mean 'x'?"` for the accepted name nearest to `name`, or an empty string."""
    import difflib  # `phalanx` starts without it

    lower = {str(n).lower()[:100]: n for n in names}
    close = difflib.get_close_matches(str(name).lower()[:100], lower, n=1, cutoff=0.6)
    return f"; did you mean {lower[close[0]]!r}?" if close else ""


def no_attribute(owner: object, name: str, elsewhere: Mapping[str, str]) -> AttributeError:
    """The error for an attribute that `owner` does not have, for its `__getattr__`. elsewhere:
    names that the field's other frameworks have for it, and what to write here."""
    if hasattr(type(owner), name):  # a property, inside of which another attribute is missing
        try:
            object.__getattribute__(owner, name)
        except AttributeError as error:
            return error
        return AttributeError(f"inside {type(owner).__name__}.{name} an attribute was missing")
    what = f"{type(owner).__name__} has no attribute {name!r}"
    if name.startswith("_"):
        return AttributeError(what)
    if name in elsewhere:
        return AttributeError(f"{what}; here, {elsewhere[name]}")
    return AttributeError(what + did_you_mean(name, (n for n in dir(owner) if n[0] != "_")))
