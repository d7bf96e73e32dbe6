"""How every arm of a comparison is timed: in a process of its own, without Python's start."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path


def cleared(out: Path) -> None:
    """Delete what the arm before has written, just before this one starts.

    So all arms write to pages that have just been freed. A virtual machine gives free pages back while an arm
    imports, and asking for them again takes longer than writing them. And none waits for a disk that is still
    writing what another has left.
    """
    os.sync()
    shutil.rmtree(out, ignore_errors=True)


def timed(run: Callable[[], object], told: bool = True) -> None:
    """Print the seconds that something takes, on one of its processes."""
    began = time.perf_counter()
    run()
    if told:
        print(json.dumps({"seconds": time.perf_counter() - began}))
