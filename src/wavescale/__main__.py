"""`python -m wavescale` and the console script."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    from wavescale.cli import run

    sys.exit(run())


if __name__ == "__main__":
    main()
