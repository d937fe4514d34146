"""`RestartPoint`: the state to which a run returns if captured steps have overflowed."""

from typing import Any

from phalanx.rl import ranks
from phalanx.rl.run_state import copied


class RestartPoint:
    """Captured steps cannot check for overflow, so a run with captured steps saves its state
    whenever it reads the statistics. In other runs `state` is None."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self.state: dict[str, Any] | None = None

    def save(self, best: bool, due: list[str]) -> None:
        """Copy the current state. From the copy, write the checkpoints `due`, and with the next
        ones that are due, if it is the best until then, the best."""
        run, state = self._run, {}
        if run.captures or best or due:
            state = copied(run.agent.get_full_state_weights())
        if run.captures:
            self.state = state
        if best:
            run.folder.keep(run.config.name, state, waits=True)
        for name in due:
            run.folder.keep(name, state)
        if not run.captures:  # there is no work of the device to wait for
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
