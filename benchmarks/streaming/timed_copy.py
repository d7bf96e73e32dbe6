"""Copy one checkpoint with `cp -r` and print how long it took.

python benchmarks/streaming/timed_copy.py SOURCE OUT
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from timing import cleared, timed


def main() -> None:
    source, out = sys.argv[1:]
    cleared(Path(out))
    timed(lambda: subprocess.run(["cp", "-r", source, out], check=True))


if __name__ == "__main__":
    main()
