"""`RestartPoint`: the state to which a run returns if captured steps have overflowed."""

import copy
from typing import Any

from phalanx.rl import ranks


class RestartPoint:
    """Captured steps cannot check for overflow, so a run with captured steps saves its state
    whenever it reads the statistics. In other runs `state` is None."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self.state: dict[str, Any] | None = None

    def save(self, due: list[str]) -> None:
        """Copy the current state, and write the checkpoints `due` from the copy."""
        run = self._run
        if run.captures:
            self.state = copy.deepcopy(run.agent.get_full_state_weights())
        state = self.state or (run.agent.get_full_state_weights() if due else {})
        for name in due:
            run.folder.keep(name, state)
        if not run.captures:  # the state keeps changing
            run.write_files()

    def repeat_after_overflow(self) -> bool:
        """If contacts have overflowed their buffers since `save`, enlarge the buffers and return to
        that state, so that no contact is dropped."""
        run = self._run
        grown = run.env.grow() if hasattr(run.env, "grow") else None
        grown = ranks.from_any(grown or "")  # all repeat, so that they stay in step
        if not grown:
            return False
        run.warn(grown)
        if self.state is None:  # eager steps have already been repeated
            return False
        run.graphs.forget()
        run.journal.discard_unread()
        run.agent.set_full_state_weights(self.state)
        return True
