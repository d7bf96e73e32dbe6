"""`python -m wavescale` and the console script."""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper


def main() -> None:
    """Run the command line."""
    from wavescale.cli import run
    from wavescale.ranks import world_size

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show an arrow shows something else
    # What ends a job politely (a scheduler, a container) leaves as little behind as Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    code = run()
    if world_size() != "1":
        # Among processes of torchrun, threads of gloo may outlive their group and abort an interpreter that ends.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
