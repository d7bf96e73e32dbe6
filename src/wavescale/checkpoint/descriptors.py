"""File descriptors for several threads, opened when they are needed and only so many at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

# A process may have a thousand files open, and others need some as well.
_MOST = 128


class Descriptors:
    """Keeps files open between uses; of those that nobody uses the longest unused are closed beyond `most`.

    Parameters
    ----------
    flags
        As `os.open` takes them.
    most
        Files that stay open.
    """

    def __init__(self, flags: int, most: int = _MOST) -> None:
        self._flags, self._most = flags, most
        self._open: dict[Path, int] = {}  # the longest unused first
        self._users: dict[Path, int] = {}
        self._failures: list[OSError] = []
        self._lock = Lock()

    @contextmanager
    def of(self, path: Path) -> Iterator[int]:
        """The descriptor of a file, which stays open as long as it is used.

        Raises
        ------
        OSError
            The file cannot be opened.
        """
        with self._lock:
            descriptor = self._open.pop(path) if path in self._open else os.open(path, self._flags)
            self._open[path] = descriptor
            self._users[path] = self._users.get(path, 0) + 1
            self._close_some(self._most)
        try:
            yield descriptor
        finally:
            with self._lock:
                self._users[path] -= 1

    def close(self) -> list[OSError]:
        """Close all files; gives what failed in closing one, now or before."""
        with self._lock:
            self._close_some(0)
        return self._failures

    def _close_some(self, most: int) -> None:
        if len(self._open) <= most:
            return
        for path in [path for path in self._open if not self._users[path]][: len(self._open) - most]:
            try:
                os.close(self._open.pop(path))
            except OSError as error:  # what was written may not have come to the disk; the other files are still closed
                self._failures.append(error)
