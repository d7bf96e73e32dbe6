from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import wavescale
from tiny import MAIN_CASES, Case, make
from wavescale import rows
from wavescale.errors import CheckpointError
from wavescale.execute import _Queue, row_blocks
from wavescale.expressions import Constant
from wavescale.memory import model_tensors
from wavescale.plan import TensorPlan

WAYS: list[dict[str, Any]] = [
    {"scale_width": 2, "num_hidden_layers": 3},
    {"scale_width": "3/2", "scale_depth": 2, "details": "zero"},
    {"scale_width": 2, "scale_depth": 2, "preset": "paper", "wavelet": "db2"},
    {"scale_width": 0.5, "order": "similarity"},
    {"scale_width": 0.5, "width": "merge"},
    {"scale_width": 2, "scale_depth": 2, "preset": "front-dct"},
    {"scale_width": 2, "preset": "hypercloning"},
    {"intermediate_size": 20, "num_hidden_layers": 3},
]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_BLOCK_BYTES", 192)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
def test_a_checkpoint_in_many_blocks_is_the_model_that_is_resized_whole(
    case: Case, way: dict[str, Any], tmp_path: Path
) -> None:
    model = make(case)
    model.save_pretrained(tmp_path / "source")
    wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "out", **way)
    stored, wanted = load_file(tmp_path / "out" / "model.safetensors"), model_tensors(wavescale.resize(model, **way))
    assert stored.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(stored[name], value, rtol=2e-6, atol=1e-7, msg=name)


@pytest.mark.parametrize("scale", ["1/4", 1, 4])
def test_a_block_is_of_few_entries_and_made_of_few(scale: str | int) -> None:
    config = {"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, "num_hidden_layers": 1}
    plan = wavescale.plan_resize(config, scale_width=scale, calibrate="none")
    for tensor in plan.tensors:
        found = list(row_blocks(tensor))
        assert [row for rows in found for row in rows] == list(range(tensor.shape[0]))
        # Four samples become one on both axes of a matrix, but for the vocabulary.
        axes = 1 if "embed" in tensor.name or "lm_head" in tensor.name else len(tensor.shape)
        read = 4**axes if scale == "1/4" else 1
        assert max(map(len, found)) * prod(tensor.shape[1:]) * read <= 1 << 20


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("way", WAYS[:3], ids=str)
def test_the_number_of_threads_changes_no_byte(way: dict[str, Any], tmp_path: Path) -> None:
    make(Case("llama", "LlamaForCausalLM")).save_pretrained(tmp_path / "source")
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            wavescale.resize_checkpoint(tmp_path / "source", tmp_path / str(threads), **way)
            assert torch.get_num_threads() == threads
            found.append((tmp_path / str(threads) / "model.safetensors").read_bytes())
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_the_first_failure_of_a_thread_ends_all_and_leaves_nothing(tmp_path: Path) -> None:
    model = make(Case("llama", "LlamaForCausalLM"))
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 1] = float("nan")
    model.save_pretrained(tmp_path / "source")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with pytest.raises(CheckpointError, match=r"layers.1.mlp.up_proj.weight: 1 of \d+ values are NaN"):
            wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "out", scale_width=2)
    finally:
        torch.set_num_threads(before)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_threads_keep_to_files_of_their_own_while_there_are_others() -> None:
    tensors = [TensorPlan(name, "", (2, 1 << 20), "float32", Constant(1.0, (2, 1 << 20))) for name in "abcd"]
    queue = _Queue([tensors[:1], tensors[1:3], tensors[3:]])
    first, second = queue.following(None), queue.following(None)
    assert [found[1].name for found in (first, second) if found[1]] == ["a", "b"]
    seen = []
    while (found := queue.following(first[0]))[1] is not None:
        seen.append((found[1].name, found[2].start))
        first = found
    # Its own file, then one that nobody writes, and only then another thread's.
    assert seen == [("a", 1), ("d", 0), ("d", 1), ("b", 1), ("c", 0), ("c", 1)]
    assert queue.following(second[0])[1] is None
