"""MuJoCo's own warnings, counted by kind.

    before = count_warnings()      # of the process, from now on
    ...
    warnings_report(before)        # "MuJoCo warned 12,931 times: ..." or ""

By itself MuJoCo prints each of them and appends it to MUJOCO_LOG.TXT in the working folder, ten
thousands of lines for a run that diverges. That a state is not finite is left out of the report,
because `Sim.divergence_report` says more about it.
"""

import re
from collections import Counter

import mujoco

_counts: Counter[str] = Counter()
_MOST_KINDS = 50
_DIVERGED = "Nan, Inf or huge value"


def count_warnings() -> Counter[str]:
    """Count MuJoCo's warnings instead of printing them, unless the program has a handler of its
    own for them. Returns the counts so far, by kind."""
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_count)
    return Counter(_counts)


def _count(message: object) -> None:
    # Called by MuJoCo's threads too, each of which holds Python's lock for the call.
    kind = re.sub(r" at DOF \d+|, at DOF \d+", "", str(message).partition(". ")[0].rstrip("."))
    if kind in _counts or len(_counts) < _MOST_KINDS:
        _counts[kind] += 1


def warnings_report(before: Counter[str]) -> str:
    """One sentence about the warnings since `before`, empty if there were none."""
    since = (_counts - before).most_common()
    found = [(kind, n) for kind, n in since if not kind.startswith(_DIVERGED)]
    if not found:
        return ""
    total, (kind, most) = sum(n for _, n in found), found[0]
    often = f", {most:,} of them" if most < total else ""
    return f"MuJoCo warned {total:,} times{often}: {kind}"
