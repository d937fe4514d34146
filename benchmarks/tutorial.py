"""Times the commands of docs/tutorial.md, up to "Your own robot", one after the other.

uv run python benchmarks/tutorial.py out=tutorial.json
"""

import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from phalanx.cli.result import git_commit, versions

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"


def main() -> None:
    given = dict(a.split("=", 1) for a in sys.argv[1:])
    page = PAGE.read_text().partition("## Your own robot")[0]
    blocks = re.findall(r"^```bash\n(.*?)^```", page, re.M | re.S)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for line in "".join(blocks).splitlines():
            if line.startswith("cd "):
                folder = os.path.join(folder, line[3:])
                continue
            began = time.perf_counter()
            subprocess.run([sys.executable, "-m", *shlex.split(line)], cwd=folder, check=True)
            rows.append({"command": line, "seconds": round(time.perf_counter() - began, 1)})
    about = {"command": "benchmarks/tutorial.py", "date": str(date.today())}
    about |= {"hardware": {"cores": os.cpu_count(), "system": platform.platform()}}
    about |= {"versions": versions(), "git_commit": git_commit()}
    about |= {"seconds": round(sum(row["seconds"] for row in rows), 1), "rows": rows}
    Path(given["out"]).write_text(json.dumps(about))


if __name__ == "__main__":
    main()
