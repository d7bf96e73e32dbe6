"""The examples of the README do what it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from wavescale.cli import run
from wavescale.demo import packaged_minilm

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
# Fenced blocks: language and text.
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
NUMBER = r"-?\d[\d,]*(?:\.\d*)?(?:e[+-]?\d+)?"


def assert_printed(found: str, expected: str) -> None:
    """The same words; numbers that are no integers may differ by rounding, which differs between machines."""
    assert re.sub(NUMBER, "#", found).split() == re.sub(NUMBER, "#", expected).split()
    for one, other in zip(re.findall(NUMBER, found), re.findall(NUMBER, expected), strict=True):
        if "." in other or "e" in other:
            assert float(one) == pytest.approx(float(other), rel=0.05, abs=1e-5)
        else:
            assert one == other


def test_what_python_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    compared = 0
    for (language, code), (following, told) in pairwise(BLOCKS):
        if language == "python" and "print(" in code:
            with redirect_stdout(StringIO()) as printed:
                exec(code, names)  # examples go on from one another
            assert following == ""
            assert_printed(printed.getvalue(), told)
            compared += 1
    assert compared == 4


def commands() -> list[tuple[str, str]]:
    """The lines that call wavescale, and what they print."""
    found = []
    for _, text in BLOCKS:
        for call in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            line, _, told = call.partition("\n")
            if line.startswith("wavescale "):
                found.append((line, told))
    return found


def test_what_the_commands_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "500")
    assert len(commands()) == 4
    for line, told in commands():
        arguments = shlex.split(line.replace("$MINILM", str(packaged_minilm())))[1:]
        failed = run(arguments) != 0
        printed = capfd.readouterr()
        assert failed == told.startswith("error: ")
        assert_printed(printed.err if failed else printed.out, told)


def test_a_sharded_model_starts_under_torchrun(tmp_path: Path) -> None:
    (script,) = (code for _, code in BLOCKS if "init_process_group" in code)
    told = "print(large.encoder.layer[0].output.dense.weight.to_local().shape)"
    (tmp_path / "start.py").write_text(f"{script}\n{told}\n", encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "start.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    # Two processes write, and the ends of their lines may come after both.
    assert found.stdout.replace("\n", "").startswith("torch.Size([384, 3072])" * 2), found.stdout
