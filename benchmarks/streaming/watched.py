"""Run a command and watch from outside how much private memory its processes take."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Seconds between two looks at the memory: where it matters, and where looking must not slow down what is timed.
CLOSE, SELDOM = 0.005, 0.5


@dataclass(frozen=True)
class Watched:
    """A command that has ended.

    Attributes
    ----------
    seconds
        Of the whole process.
    anonymous
        The most bytes of anonymous memory that it and its children were seen with at once, less if it is seldom
        looked at; pages of mapped files do not count.
    printed
        The JSON that it printed last.
    """

    seconds: float
    anonymous: int
    printed: Mapping[str, Any]


def watched(command: Sequence[str], env: Mapping[str, str] | None = None, interval: float = SELDOM) -> Watched:
    """Run a command to its end.

    Parameters
    ----------
    command, env
        As `subprocess.Popen` takes them.
    interval
        Seconds between two looks at the memory.

    Raises
    ------
    subprocess.CalledProcessError
        It failed.
    """
    began, most = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        while process.poll() is None:
            most = max(most, sum(map(_anonymous, _family(process.pid))))
            with suppress(subprocess.TimeoutExpired):
                process.wait(interval)
        seconds = time.perf_counter() - began
        assert process.stdout is not None
        printed = process.stdout.read().strip().splitlines()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    lines = [line for line in printed if line.startswith("{")]
    return Watched(seconds, most, json.loads(lines[-1]) if lines else {})


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(member for child in children for member in _family(int(child)))]


def _anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0  # it has just ended
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
