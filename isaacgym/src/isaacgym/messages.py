"""What a program is told once, however often it does the same, as for each environment."""

import functools
import logging

log = logging.getLogger(__name__)


@functools.cache
def say_once(text: str) -> None:
    """Log a warning, unless this process has logged the same."""
    log.warning("%s", text)
