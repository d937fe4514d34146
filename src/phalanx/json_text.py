"""Reads JSON files of others.

values = read_json("tracking.json")
"""

import json
from typing import Any

from phalanx.errors import PhalanxError
from phalanx.gate import MAX_TEXT, Where, read_text, reason


def read_json(path: Where, most: int = MAX_TEXT) -> Any:
    """The content of a JSON file of at most `most` bytes. Raises PhalanxError for anything else."""
    text = read_text(path, most)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PhalanxError(f"{path} is damaged, it is not JSON: {reason(error)}") from error
