"""What speed is measured with: another way to the same numbers, and a page that says what was measured."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import load_file

import wavescale

ROOT = Path(__file__).parents[2]
STREAMING = ROOT / "benchmarks" / "streaming"


def loaded(name: str) -> ModuleType:
    """A script by its path: `report` is the name of another one as well."""
    spec = spec_from_file_location(f"streaming_{name}", STREAMING / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_straightforward_way_with_pywavelets_writes_the_same_numbers(tmp_path: Path) -> None:
    synthetic = loaded("synthetic")
    synthetic.make_checkpoint(tmp_path / "source", synthetic.Shape(256, 2, 96), shard_bytes=500_000)
    command = [
        sys.executable,
        str(STREAMING / "straightforward.py"),
        str(tmp_path / "source"),
        str(tmp_path / "theirs"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "ours", scale_width=2, preset="paper")
    theirs, ours = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert theirs.keys() == ours.keys()
    for name, value in ours.items():
        assert torch.equal(theirs[name], value), name


def test_the_page_of_speed_is_made_from_the_results() -> None:
    assert (ROOT / "docs" / "speed.md").read_text(encoding="utf-8") == loaded("report").text()
