"""The command `phalanx`, called in the test's own process."""

import re

import pytest

from phalanx.cli.main import main


def sentence(capsys, *arguments):
    """What `phalanx` says of a mistake: one line on stderr, exit code 2."""
    with pytest.raises(SystemExit) as stop:
        main([*arguments])
    printed = capsys.readouterr()
    assert stop.value.code == 2, printed
    assert re.fullmatch(r"phalanx: [^\n]+\n", printed.err), printed.err
    return printed.err
