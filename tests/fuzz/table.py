"""The table of a fuzzing run, and sums of several."""

import collections
import json

GOOD = ("sentence", "accepted")
KINDS = (*GOOD, "traceback", "hang", "memory", "executed", "nonsense", "died")


class Table:
    """Counts by loader and kind, kept in a file if one is given."""

    def __init__(self, names, file=None):
        self.file = file
        self.rows = {name: collections.Counter() for name in names}
        if file and file.exists():
            rows = json.loads(file.read_text())
            self.rows |= {name: collections.Counter(row) for name, row in rows.items()}

    def add(self, name, row):
        mine = self.rows.setdefault(name, collections.Counter())
        largest = {k: max(mine[k], row[k]) for k in ("slowest", "next")}
        mine.update({k: n for k, n in row.items() if k not in largest})
        for key, value in largest.items():
            mine[key] = value
        if self.file:
            self.file.write_text(json.dumps(self.rows, indent=1))

    def show(self):
        """Print it; whether anything in it is wrong."""
        print(f"{'':<16}{'cases':>10}{''.join(f'{k:>10}' for k in KINDS)}")
        total = collections.Counter()
        for name, row in [*self.rows.items(), ("all", total)]:
            numbers = [sum(row[k] for k in KINDS), *(row[k] for k in KINDS)]
            slowest = f"   slowest {row['slowest']:.2f} s" if "slowest" in row else ""
            print(f"{name:<16}{''.join(f'{n:>10}' for n in numbers)}{slowest}")
            total.update({k: row[k] for k in KINDS})
        return any(total[k] for k in KINDS if k not in GOOD)
