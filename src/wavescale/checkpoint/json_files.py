"""Small JSON files of a checkpoint: config, index, modules."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from wavescale.errors import CheckpointError

T = TypeVar("T", dict[str, Any], list[Any])

# Far more levels than any config has, and few enough for what writes them again.
_LEVELS = 64
_WORDS: dict[type, str] = {dict: "an object", list: "a list"}


def read_json(path: Path, expected: type[T]) -> T:
    """What a JSON file holds.

    Parameters
    ----------
    path
        The file.
    expected
        `dict` or `list`.

    Raises
    ------
    CheckpointError
        The file cannot be read, is no JSON, is nested too deeply, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, no JSON, integers beyond all bounds
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}. Download it again.") from error
    if not isinstance(found, expected):
        raise CheckpointError(
            f"{path}: holds a JSON {type(found).__name__}, expected {_WORDS[expected]}. Download it again."
        )
    if not _within(found, _LEVELS):
        raise CheckpointError(f"{path}: is nested more than {_LEVELS} levels deep. Download it again.")
    return found


def _within(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested at most so deep."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not inside or (levels > 0 and all(_within(item, levels - 1) for item in inside))


def read_modules(path: Path) -> list[dict[str, Any]]:
    """The modules that sentence-transformers chains, from modules.json; none where there is no such file.

    Raises
    ------
    CheckpointError
        It is no list of modules, or the path of one leads out of the folder.
    """
    found = read_json(path, list) if path.is_file() else []
    if not all(isinstance(module, dict) and isinstance(module.get("path"), str) for module in found):
        raise CheckpointError(f"{path}: is no list of modules with a path each. Download it again.")
    for module in found:
        part = PurePosixPath(module["path"])
        if part.is_absolute() or ".." in part.parts:
            raise CheckpointError(f"{path}: {part} leads out of the folder. Put the module into it.")
    return found
