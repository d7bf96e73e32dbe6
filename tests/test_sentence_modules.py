"""Modules of sentence-transformers behind a model, held to the library itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling, WeightedLayerPooling

import wavescale
from tiny import Case, make
from wavescale.errors import CheckpointError
from words import words_tokenizer

BERT = Case("bert", "BertModel")
TEXTS = ["a b c", "d e f g h", "i"]
POOLED = ("mean", "cls", "max")


def saved(folder: Path, *modules: torch.nn.Module, case: Case = BERT) -> Path:
    """A sentence transformer of a tiny model and modules, as the library saves it."""
    make(case).save_pretrained(folder / "model")
    words_tokenizer().save_pretrained(folder / "model")
    SentenceTransformer(modules=[Transformer(str(folder / "model")), *modules], device="cpu").save(
        str(folder / "source")
    )
    return folder / "source"


def embeddings(folder: Path) -> torch.Tensor:
    found: torch.Tensor = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, convert_to_tensor=True)
    return found


def dense(inputs: int, outputs: int = 5, **options: Any) -> Dense:
    torch.manual_seed(inputs)
    return Dense(inputs, outputs, **options)


@pytest.mark.parametrize("case", [BERT, Case("llama", "LlamaModel")], ids=str)
@pytest.mark.parametrize("modes", [("mean",), ("lasttoken",), POOLED], ids=str)
@pytest.mark.parametrize("options", [{}, {"width": "tile"}, {"detail_size": 3, "num_hidden_layers": 3}], ids=str)
def test_a_dense_reads_a_wider_model_as_before(
    case: Case, modes: tuple[str, ...], options: dict[str, Any], tmp_path: Path
) -> None:
    width = 16 * len(modes)
    modules = (Pooling(16, pooling_mode=modes), Dropout(0.1), dense(width), dense(5, 7), Normalize())
    source, out = saved(tmp_path, *modules, case=case), tmp_path / "out"
    plan = wavescale.resize_checkpoint(source, out, scale_width=2, **options)
    assert any("its Dense is resized with the model" in remark for remark in plan.remarks)
    torch.testing.assert_close(embeddings(out), embeddings(source), rtol=1e-4, atol=1e-5)


def test_folders_may_have_any_name_and_weights_be_pickled(tmp_path: Path) -> None:
    source, out = saved(tmp_path, Pooling(16), dense(16)), tmp_path / "out"
    (source / "2_Dense").rename(source / "projection")
    file = source / "projection" / "model.safetensors"
    torch.save(load_file(file), file.with_name("pytorch_model.bin"))
    file.unlink()
    modules = source / "modules.json"
    modules.write_text(modules.read_text().replace("2_Dense", "projection"))
    wavescale.resize_checkpoint(source, out, hidden_size=32)
    assert json.loads((out / "projection" / "config.json").read_text())["in_features"] == 32
    torch.testing.assert_close(embeddings(out), embeddings(source), rtol=1e-4, atol=1e-5)


def test_a_dense_of_a_narrower_model_is_resized_like_its_heads(tmp_path: Path) -> None:
    source, out = saved(tmp_path, Pooling(16), dense(16)), tmp_path / "out"
    wavescale.resize_checkpoint(source, out, scale_width="1/2", calibrate="none")
    assert embeddings(out).shape == (3, 5)
    with pytest.raises(CheckpointError, match=r"2_Dense: .*calibration refits the channels.*--calibrate none"):
        wavescale.resize_checkpoint(source, tmp_path / "other", scale_width="1/2")


@pytest.mark.parametrize(
    ("modules", "sizes", "message"),
    [
        ((Pooling(16), LayerNorm(16)), {"hidden_size": 32}, r"\(LayerNorm\) has weights of its own.* hidden_size"),
        ((Pooling(16), Normalize(), dense(16)), {"hidden_size": 32}, "in front of it changes what the model puts out"),
        ((Pooling(16), dense(16, 16, use_residual=True)), {"hidden_size": 32}, "adds what it reads"),
        (
            (dense(16, module_input_name="token_embeddings"), Pooling(5)),
            {"hidden_size": 32},
            "does not read and",
        ),
        ((WeightedLayerPooling(16, 2, 1), Pooling(16)), {"num_hidden_layers": 3}, "depend on num_hidden_layers"),
    ],
    ids=["layer norm", "behind normalize", "residual", "tokens", "layers"],
)
def test_what_is_not_kept_is_refused_before_anything_is_written(
    modules: tuple[torch.nn.Module, ...], sizes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    source = saved(tmp_path, *modules)
    with pytest.raises(CheckpointError, match=message):
        wavescale.resize_checkpoint(source, tmp_path / "out", **sizes)
    assert not (tmp_path / "out").exists()


def test_what_does_not_depend_on_a_size_stays_as_it_is(tmp_path: Path) -> None:
    source, out = saved(tmp_path, Pooling(16), LayerNorm(16), dense(16)), tmp_path / "out"
    wavescale.resize_checkpoint(source, out, num_hidden_layers=3, intermediate_size=48)
    torch.testing.assert_close(embeddings(out), embeddings(source), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("path", ["../other", "/other", "a/../../other"])
def test_a_module_outside_of_the_folder_is_refused(path: str, tmp_path: Path) -> None:
    source = saved(tmp_path, Pooling(16))
    (source / "modules.json").write_text(json.dumps([{"path": "", "type": "x"}, {"path": path, "type": "y"}]))
    with pytest.raises(CheckpointError, match=r"modules\.json: .* leads out of the folder"):
        wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32)


def test_adapters_are_left_out_with_a_word_and_refused_alone(tmp_path: Path) -> None:
    # With peft installed transformers would load it by itself.
    make(Case("llama", "LlamaForCausalLM")).save_pretrained(tmp_path / "source")
    adapter = {"peft_type": "LORA", "r": 2, "lora_alpha": 64, "target_modules": ["q_proj"]}
    (tmp_path / "source" / "adapter_config.json").write_text(json.dumps(adapter))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    weights = {name.format("A"): torch.randn(2, 16), name.format("B"): torch.randn(16, 2)}
    save_file(weights, tmp_path / "source" / "adapter_model.safetensors")
    plan = wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "out", hidden_size=32)
    assert wavescale.verify(tmp_path / "source", tmp_path / "out").kept  # of the base alone
    assert not list((tmp_path / "out").glob("adapter_*"))
    assert any("left out: the adapter of adapter_config.json" in remark for remark in plan.remarks)
    (tmp_path / "source" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"holds an adapter alone\. Merge it into its base"):
        wavescale.plan_resize(tmp_path / "source", hidden_size=32)
