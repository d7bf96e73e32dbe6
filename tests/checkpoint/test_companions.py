from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModel

import wavescale
from tiny import Case, make
from wavescale.errors import CheckpointError

BERT = Case("bert", "BertModel")
# Line ends, a byte order mark and bytes that are no UTF-8 show whether a file was copied or written anew.
RAW = b'\xef\xbb\xbf{\r\n\t"a": 1.0}\r\n\x00\xff\xfe trailing  \n\n'

KEPT = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "bpe.vocab",
    "qwen.tiktoken",
    "chat_template.jinja",
    "additional_chat_templates/tools.jinja",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
)
LEFT = (
    "modeling_custom.py",
    "tokenization_custom.py",
    "custom/configuration_custom.py",
    "LICENSE.py",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
    "flax_model.msgpack",
    "model.onnx",
    "onnx/model.onnx",
    "model.gguf",
    "adapter.pt",
    "optimizer.pt",
    "optimizer.bin",
    "scheduler.pt",
    "rng_state.pth",
    "scaler.pt",
    "training_args.bin",
    "trainer_state.json",
    "all_results.json",
    "eval_results.json",
    "eval_results.txt",
    "params.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "quantize_config.json",
    "lora/adapter_config.json",
    "events.out.tfevents.1",
    ".gitattributes",
    ".hidden.json",
    ".cache/huggingface.json",
    "checkpoint-500/tokenizer.json",
    "checkpoint-500/optimizer.pt",
    "notes.md",
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    make(BERT).save_pretrained(folder)
    return folder


def put(folder: Path, name: str, content: bytes = RAW) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def put_json(folder: Path, name: str, content: Any) -> None:
    put(folder, name, json.dumps(content).encode())


def resized(source: Path, **sizes: Any) -> Path:
    out = source.parent / "out"
    wavescale.resize_checkpoint(source, out, **(sizes or {"hidden_size": 32}))
    return out


@pytest.mark.parametrize("name", KEPT)
def test_files_of_tokenizer_and_generation_are_copied_byte_for_byte(name: str, source: Path) -> None:
    put(source, name)
    assert (resized(source) / name).read_bytes() == RAW


@pytest.mark.parametrize("name", LEFT)
def test_code_weights_and_training_state_are_left_behind(name: str, source: Path) -> None:
    put(source, name)
    out = resized(source)
    assert not (out / name).exists()
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "wavescale.json",
    ]


def test_the_index_of_the_source_is_not_carried_over(tmp_path: Path) -> None:
    make(BERT).save_pretrained(tmp_path / "source", max_shard_size=2000)
    assert (tmp_path / "source" / "model.safetensors.index.json").is_file()
    out = resized(tmp_path / "source")
    assert (out / "model.safetensors").is_file()
    assert not (out / "model.safetensors.index.json").exists()


def test_config_card_and_plan_are_those_of_the_output(source: Path) -> None:
    put_json(source, "wavescale.json", {"old": True})
    put(source, "README.md", b"the source's own words")
    out = resized(source)
    assert json.loads((out / "config.json").read_text())["hidden_size"] == 32
    assert "old" not in json.loads((out / "wavescale.json").read_text())
    assert "the source's own words" not in (out / "README.md").read_text()


def test_links_as_in_the_cache_of_the_hub_become_files(source: Path, tmp_path: Path) -> None:
    put(tmp_path, "blobs/0123", RAW)
    (source / "tokenizer.json").symlink_to("../blobs/0123")
    copied = resized(source) / "tokenizer.json"
    assert not copied.is_symlink()
    assert copied.read_bytes() == RAW


POOLING = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True, "include_prompt": True}
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


def test_pooling_states_the_new_width_and_all_else_as_before(source: Path) -> None:
    put_json(source, "modules.json", MODULES)
    put_json(source, "1_Pooling/config.json", POOLING)
    out = resized(source)
    assert json.loads((out / "1_Pooling" / "config.json").read_text()) == {**POOLING, "word_embedding_dimension": 32}
    assert (out / "modules.json").read_bytes() == (source / "modules.json").read_bytes()


def test_pooling_stays_the_same_where_the_width_stays(source: Path) -> None:
    put_json(source, "modules.json", MODULES)
    put_json(source, "1_Pooling/config.json", POOLING)
    out = resized(source, num_hidden_layers=3)
    assert json.loads((out / "1_Pooling" / "config.json").read_text()) == POOLING


def test_pooling_of_another_width_is_left_as_it_is(source: Path) -> None:
    put_json(source, "modules.json", MODULES)
    put_json(source, "1_Pooling/config.json", {**POOLING, "word_embedding_dimension": 99})
    assert json.loads((resized(source) / "1_Pooling" / "config.json").read_text())["word_embedding_dimension"] == 99


def with_module(source: Path, kind: str) -> None:
    put_json(source, "modules.json", [*MODULES, {"idx": 2, "name": "2", "path": "2_Own", "type": kind}])
    put_json(source, "1_Pooling/config.json", POOLING)
    put_json(source, "2_Own/config.json", {"in_features": 16, "out_features": 4, "bias": True})
    put(source, "2_Own/model.safetensors")


WEIGHTED = [
    "sentence_transformers.models.LayerNorm",
    "sentence_transformers.sentence_transformer.modules.LayerNorm",
    "my_package.MyModule",
    "sentence_transformers.models.LSTM",
    "sentence_transformers.models.CNN",
]


@pytest.mark.parametrize("kind", WEIGHTED)
def test_a_module_with_weights_that_read_the_old_width_is_refused_before_anything_is_written(
    kind: str, source: Path, tmp_path: Path
) -> None:
    with_module(source, kind)
    with pytest.raises(CheckpointError, match=r"2_Own.*modules\.json") as caught:
        resized(source)
    assert " 16 " in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("kind", WEIGHTED[:1])
def test_a_module_with_weights_is_fine_where_the_width_stays(kind: str, source: Path) -> None:
    with_module(source, kind)
    out = resized(source, num_hidden_layers=3)
    for name in ("modules.json", "1_Pooling/config.json", "2_Own/config.json"):
        assert json.loads((out / name).read_text()) == json.loads((source / name).read_text())


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_module_that_stays_keeps_its_weights_without_which_it_cannot_be_loaded(weights: str, source: Path) -> None:
    with_module(source, WEIGHTED[0])
    put(source, f"2_Own/{weights}")
    assert (resized(source, num_hidden_layers=3) / "2_Own" / weights).read_bytes() == RAW


def test_modules_without_weights_are_fine_at_any_width(source: Path) -> None:
    normalize = {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
    put_json(source, "modules.json", [*MODULES, normalize])
    put_json(source, "1_Pooling/config.json", POOLING)
    out = resized(source)
    assert json.loads((out / "modules.json").read_text())[2] == normalize


@pytest.mark.parametrize("content", [b"{", b"\xff", b"3", b"[1]", b'{"0": "x"}'], ids=repr)
def test_modules_that_cannot_be_read_are_refused_before_anything_is_written(
    content: bytes, source: Path, tmp_path: Path
) -> None:
    put(source, "modules.json", content)
    with pytest.raises(CheckpointError, match=r"modules\.json"):
        resized(source)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_pooling_of_today_states_the_new_width_as_well(source: Path) -> None:
    put_json(source, "modules.json", MODULES)
    put_json(source, "1_Pooling/config.json", {"embedding_dimension": 16, "pooling_mode": "mean"})
    assert json.loads((resized(source) / "1_Pooling" / "config.json").read_text())["embedding_dimension"] == 32


def test_the_weights_of_a_module_that_is_resized_itself_are_not_those_of_another(source: Path) -> None:
    put_json(source.parent, "modules.json", [{"idx": 0, "name": "0", "path": source.name, "type": "Transformer"}])
    AutoModel.from_pretrained(resized(source))


def test_a_module_without_its_weights_is_refused(source: Path) -> None:
    dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    put_json(source, "modules.json", [*MODULES, dense])
    put_json(source, "2_Dense/config.json", {"in_features": 16, "out_features": 8})
    with pytest.raises(CheckpointError, match=r"2_Dense: this sentence-transformers module has no weights"):
        wavescale.resize_checkpoint(source, source.parent / "deeper", num_hidden_layers=3)
    put(source, "2_Dense/pytorch_model.bin", RAW)
    wavescale.resize_checkpoint(source, source.parent / "deeper", num_hidden_layers=3)
    assert (source.parent / "deeper" / "2_Dense" / "pytorch_model.bin").read_bytes() == RAW
