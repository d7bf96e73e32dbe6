from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import wavescale
import wavescale.cli
from processes import torchrun
from tiny import Case, make
from wavescale.checkpoint import open_checkpoint
from wavescale.errors import CheckpointError
from wavescale.on_disk import _Job
from wavescale.ranks import ALONE, Ranks


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make(Case("llama", "LlamaForCausalLM")).save_pretrained(tmp_path / "source")
    return tmp_path / "source"


def test_shares_are_all_tensors_once_and_of_nearly_equal_bytes(source: Path) -> None:
    tensors = wavescale.plan_resize(source, scale_width=2, num_hidden_layers=5).tensors
    shares = [Ranks(rank, 3).share(tensors) for rank in range(3)]
    assert sorted(tensor.name for share in shares for tensor in share) == sorted(tensor.name for tensor in tensors)
    loads = [sum(tensor.nbytes for tensor in share) for share in shares]
    assert max(loads) - min(loads) <= max(tensor.nbytes for tensor in tensors)
    assert ALONE.share(tensors) == list(tensors)


@pytest.mark.parametrize("options", [("--scale-width", "2"), ("--scale-width", "0.5")], ids=["grown", "calibrated"])
def test_two_ranks_write_the_same_bytes_as_one(options: tuple[str, ...], source: Path, tmp_path: Path) -> None:
    flags = (*options, "--max-shard-size", "2KB")
    done = torchrun("-m", "wavescale", "resize", source, tmp_path / "together", *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("written:") == 1
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert wavescale.cli.run(["resize", str(source), str(tmp_path / "alone"), *flags]) == 0
    finally:
        torch.set_num_threads(before)
    files = {path.name: path.read_bytes() for path in (tmp_path / "alone").iterdir() if path.name != "README.md"}
    assert len([name for name in files if name.endswith(".safetensors")]) > 2
    assert {path.name for path in (tmp_path / "together").iterdir()} == {*files, "README.md"}
    for name, content in files.items():
        assert (tmp_path / "together" / name).read_bytes() == content, name


def test_a_failure_of_one_rank_is_said_once_and_leaves_nothing(source: Path, tmp_path: Path) -> None:
    model = make(Case("llama", "LlamaForCausalLM"))
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    model.save_pretrained(source)
    done = torchrun("-m", "wavescale", "resize", source, tmp_path / "out", "--scale-width", "2")
    assert done.returncode != 0
    assert done.stderr.count("error: model.norm.weight: 1 of") == 1, done.stderr
    assert "Traceback" not in done.stderr.split("error: model.norm")[0]
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_others_that_cannot_be_found_are_said_in_words(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert wavescale.cli.run(["resize", str(source), str(tmp_path / "out"), "--scale-width", "2"]) == 2
    assert "WORLD_SIZE is 2, but the other processes cannot be found" in capsys.readouterr().err


def test_a_process_that_ends_early_is_an_error_of_the_others(tmp_path: Path) -> None:
    script = tmp_path / "ends.py"
    script.write_text(
        "import os, time\n"
        "from wavescale.errors import FaultError\n"
        "from wavescale.ranks import launched\n"
        "try:\n"
        "    with launched() as ranks:\n"
        "        if not ranks.first:\n"
        "            os._exit(0)\n"
        "        ranks.together(lambda: time.sleep(0.5))\n"
        "except FaultError as error:\n"
        "    print(error, flush=True)\n"
        "    os._exit(0)\n",
        encoding="utf-8",
    )
    done = torchrun(script)
    assert "another process of this run has ended or cannot be reached" in done.stdout, done.stderr


def test_a_machine_without_the_first_ones_folder_reads_its_own(source: Path, tmp_path: Path) -> None:
    checkpoint, plan = open_checkpoint(source), wavescale.plan_resize(source, scale_width=2)
    job = _Job(tmp_path / "elsewhere", checkpoint.fingerprint(), plan, tmp_path, (), None)
    assert job.checkpoint(source).path == source
    with pytest.raises(CheckpointError, match=r"another version of .* than the first process reads"):
        replace(job, digest="sha256:0").checkpoint(source)
