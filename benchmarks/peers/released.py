"""Peers' code beside ours: parts of a clone, and the difference of two sets of weights."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

AGREES = 1e-5


def clone_of(description: str, repository: str) -> Path:
    """The folder that `--peer-dir` names on the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--peer-dir", type=Path, required=True, help=f"A clone of {repository}.")
    folder: Path = parser.parse_args().peer_dir
    return folder


def functions(file: Path, *wanted: str) -> dict[str, Any]:
    """Functions of a file that cannot be imported as a whole."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    parts: list[ast.stmt] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in wanted]
    if len(parts) != len(wanted):
        raise SystemExit(f"{file}: has not all of {', '.join(wanted)}.")
    names: dict[str, Any] = {"torch": torch}
    exec(compile(ast.Module(parts, []), str(file), "exec"), names)
    return names


def verdict(theirs: Mapping[str, torch.Tensor], ours: Mapping[str, torch.Tensor]) -> int:
    """Print the largest relative difference; the exit code."""
    if theirs.keys() != ours.keys():
        raise SystemExit(f"other tensors: {sorted(theirs.keys() ^ ours.keys())[:5]}")
    worst = max(
        (float((value.double() - ours[name].double()).abs().max() / value.double().abs().max().clamp(min=1e-30)), name)
        for name, value in theirs.items()
    )
    print(f"{len(theirs)} tensors, largest relative difference {worst[0]:.1e} ({worst[1]})")
    return 0 if worst[0] < AGREES else 1
