"""What goes wrong, in words for the person who asked.

Every error says which tensor or option, what was found, what was expected and what to do.
`exit_code` is what the command returns: 2 for input that cannot be used, 1 for a fault on the way.
"""

from __future__ import annotations

# Longer than any message of our own; names in damaged files know no bounds.
_LONGEST = 2000


class WavescaleError(Exception):
    """Base of all errors that wavescale raises for its users; each is one line, whatever other libraries say."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        super().__init__(line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …")


class UnknownArchitectureError(WavescaleError, ValueError):
    """The family or class of the model is not in the tables."""


class SizeError(WavescaleError, ValueError):
    """Sizes that do not fit the source, the family or each other."""


class OptionError(WavescaleError, ValueError):
    """An option that is unknown or that contradicts another."""


class CheckpointError(WavescaleError, ValueError):
    """A source that cannot be read, or whose tensors are not what its config says."""


class OutputError(WavescaleError, OSError):
    """The output cannot be written where it was asked for."""


class FaultError(WavescaleError, RuntimeError):
    """The machine failed on the way (disk full, read error); the input may be fine."""

    exit_code = 1
