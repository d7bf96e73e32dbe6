"""More methods of other authors against their formulas written out longhand, tensor by tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn

import wavescale
from tiny import CASES, MAIN_CASES, Case, difference, make
from wavescale.errors import OptionError
from wavescale.memory import model_tensors
from wavescale.operators import copied_units
from wavescale.plan import Plan

BERT, GPT2 = Case("bert", "BertForMaskedLM"), Case("gpt2", "GPT2LMHeadModel")
QWEN2 = Case("qwen2", "Qwen2ForCausalLM")


def resized(model: Any, preset: str, **options: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    return model_tensors(model), model_tensors(wavescale.resize(model, preset=preset, **options))


# bert2BERT ----------------------------------------------------------------------------------------


def drawn(model: Any, preset: str, axis: str, **sizes: Any) -> torch.Tensor:
    """The map of an axis, from the plan."""
    plan = wavescale.plan_resize(model, preset=preset, **sizes)
    operators = [
        node.operator for tensor in plan.tensors for node in tensor.expression.walk()
        if getattr(node, "name", None) == axis and hasattr(node, "operator")
    ]  # fmt: skip
    maps = {tuple(operator.copied) for operator in operators}
    assert len(maps) == 1  # one draw for the whole model
    return torch.tensor(maps.pop())


def rows(g: torch.Tensor, size: int) -> torch.Tensor:
    return (g[:, None] * size + torch.arange(size)).reshape(-1)


def expand(weight: torch.Tensor, out: torch.Tensor | None, inputs: torch.Tensor | None) -> torch.Tensor:
    """W[g(j)] and W[:, g(i)] / C[g(i)]."""
    if inputs is not None:
        count = torch.bincount(inputs).to(weight.dtype)
        weight = weight[:, inputs] / count[inputs]
    return weight if out is None else weight[out]


SIZES = {"hidden_size": 24, "num_attention_heads": 6, "intermediate_size": 40, "num_hidden_layers": 5}


@pytest.mark.parametrize("preset", ["bert2bert-fpi", "bert2bert-aki"])
@pytest.mark.parametrize("seed", [0, 1])
def test_bert2bert_on_bert(preset: str, seed: int) -> None:
    model = make(BERT, num_hidden_layers=3)
    before = model.config
    head = before.hidden_size // before.num_attention_heads
    sizes = {
        "hidden_size": 6 * head,
        "num_attention_heads": 6,
        "intermediate_size": 40,
        "num_hidden_layers": 5,
        "seed": seed,
    }
    source, target = resized(model, preset, **sizes)
    hidden, units, heads = (drawn(model, preset, axis, **sizes) for axis in ("hidden", "intermediate", "heads"))
    assert hidden[: before.hidden_size].tolist() == list(range(before.hidden_size))
    channels = rows(heads, head)
    # Of three layers five: all three, then the upper two.
    for layer, origin in enumerate([0, 1, 2, 1, 2]):
        following = min(origin + 1, 2) if preset == "bert2bert-aki" else origin
        maps = {
            "attention.self.query": (channels, hidden, before.hidden_size),
            "attention.self.value": (channels, hidden, before.hidden_size),
            "attention.output.dense": (hidden, channels, before.hidden_size),
            "intermediate.dense": (units, hidden, before.intermediate_size),
            "output.dense": (hidden, units, before.hidden_size),
        }
        for name, (out, inputs, kept) in maps.items():
            for kind in ("weight", "bias"):
                found = target[f"bert.encoder.layer.{layer}.{name}.{kind}"]
                own, other = (
                    source[f"bert.encoder.layer.{number}.{name}.{kind}"].double() for number in (origin, following)
                )
                if kind == "bias":
                    expected = torch.cat([own[out][:kept], other[out][kept:]])
                else:
                    expected = torch.cat([expand(own, out, inputs)[:kept], expand(other, out, inputs)[kept:]])
                assert torch.allclose(found.double(), expected, atol=1e-6), (layer, name, kind)
        norm = f"bert.encoder.layer.{layer}.output.LayerNorm.weight"
        assert torch.equal(target[norm], source[norm.replace(f".{layer}.", f".{origin}.")][hidden])
    assert torch.equal(
        target["bert.embeddings.word_embeddings.weight"], source["bert.embeddings.word_embeddings.weight"][:, hidden]
    )


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("preset", ["bert2bert-fpi", "bert2bert-aki"])
def test_units_that_are_drawn_keep_the_function_where_no_norm_stands_between(case: Case, preset: str) -> None:
    model = make(case)
    grown = wavescale.resize(model, preset=preset, intermediate_size=model.config.intermediate_size * 2 - 3 if
                             hasattr(model.config, "intermediate_size") else 60)  # fmt: skip
    if preset == "bert2bert-fpi":
        assert difference(model, grown) < 1e-5
    else:
        assert difference(model, grown) > 1e-4  # units of the next layer are strangers


def test_groups_are_drawn_whole() -> None:
    model = make(QWEN2)
    config = model.config
    sizes = {
        "num_attention_heads": config.num_attention_heads * 3,
        "num_key_value_heads": config.num_key_value_heads * 3,
    }
    grown = wavescale.resize(model, preset="bert2bert-fpi", **sizes)
    assert difference(model, grown) < 1e-5
    with pytest.raises(OptionError, match="whole with their query heads"):
        wavescale.plan_resize(model, preset="bert2bert-fpi", num_attention_heads=config.num_attention_heads * 2,
                              num_key_value_heads=config.num_key_value_heads)  # fmt: skip


def test_other_seeds_draw_other_units() -> None:
    maps = [tuple(copied_units(8, 16, drawn=seed)) for seed in (1, 1, 2)]
    assert maps[0] == maps[1] != maps[2]
    assert maps[0][:8] == tuple(range(8))


@pytest.mark.parametrize("preset", ["bert2bert-fpi", "bert2bert-aki"])
def test_bert2bert_only_grows(preset: str) -> None:
    with pytest.raises(OptionError, match="cannot make intermediate smaller"):
        wavescale.plan_resize(make(BERT), preset=preset, intermediate_size=8)


# Depth --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "layers"),
    [("stack", [0, 1, 2, 0, 1, 2, 0]), ("interleave", [0, 0, 0, 1, 1, 2, 2]), ("bert2bert-fpi", [0, 1, 2, 0, 1, 2, 2])],
)
@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
def test_layers_are_those_of_the_source(case: Case, preset: str, layers: list[int]) -> None:
    model = make(case, num_hidden_layers=3)
    source, target = resized(model, preset, num_hidden_layers=7)
    stems = {name: name for name in source}
    for name, found in target.items():
        parts = name.split(".")
        place = next((k for k, part in enumerate(parts) if part.isdigit() and k < len(parts) - 2), None)
        if place is not None:
            parts[place] = str(layers[int(parts[place])])
        assert torch.equal(found, source[stems[".".join(parts)]]), name


@pytest.mark.parametrize("case", CASES, ids=str)
def test_block_expansion_keeps_the_function(case: Case) -> None:
    model = make(case)
    assert difference(model, wavescale.resize(model, preset="llama-pro", num_hidden_layers=5, scale_width=2)) < 1e-5


@pytest.mark.parametrize("preset", ["stack", "interleave"])
def test_width_alone_keeps_the_function(preset: str) -> None:
    model = make(GPT2)
    assert difference(model, wavescale.resize(model, preset=preset, scale_width=2)) < 1e-5


def test_interleaving_adds_layers_only() -> None:
    with pytest.raises(OptionError, match="depth 'interleave' adds layers"):
        wavescale.plan_resize(make(BERT, num_hidden_layers=3), preset="interleave", num_hidden_layers=2)


# FRONT --------------------------------------------------------------------------------------------


def front(stack: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Z-scores of a stack of tensors, DCT-II over all axes without a norm, cut off or filled up, and back."""
    mean, spread = stack.mean(), stack.std()
    found = dctn((stack - mean) / spread)
    kept = np.zeros(shape)
    common = tuple(slice(0, min(n, m)) for n, m in zip(stack.shape, shape, strict=True))
    kept[common] = found[common]
    whole: np.ndarray[Any, Any] = idctn(kept) * spread + mean
    return whole


@pytest.mark.parametrize(
    "sizes",
    [
        {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 12, "num_hidden_layers": 2},
        {"hidden_size": 24, "num_attention_heads": 6, "intermediate_size": 40, "num_hidden_layers": 7},
        {"intermediate_size": 13, "num_hidden_layers": 5},
    ],
    ids=["smaller", "larger", "mixed"],
)
def test_front_as_released(sizes: dict[str, Any]) -> None:
    model = make(BERT, num_hidden_layers=4)
    source, target = resized(model, "front-dct", **sizes)
    layers = wavescale.plan_resize(model, preset="front-dct", **sizes).target.num_hidden_layers
    for name in ("attention.self.key.weight", "attention.output.dense.weight", "intermediate.dense.weight",
                 "output.dense.bias", "output.LayerNorm.weight"):  # fmt: skip
        stack = np.stack([source[f"bert.encoder.layer.{k}.{name}"].double().numpy() for k in range(4)])
        found = np.stack([target[f"bert.encoder.layer.{k}.{name}"].double().numpy() for k in range(layers)])
        expected = front(stack, found.shape)
        assert np.allclose(found, expected, atol=2e-6), name
    name = "bert.embeddings.position_embeddings.weight"
    assert np.allclose(
        target[name].double(), front(source[name].double().numpy(), tuple(target[name].shape)), atol=2e-6
    )


def test_front_multiplies_identical_layers() -> None:
    """Twelve identical layers become four: without a norm each is three times as large, apart from its mean."""
    model = make(BERT, num_hidden_layers=12)
    for layer in model.bert.encoder.layer:
        layer.load_state_dict(model.bert.encoder.layer[0].state_dict())
    source, target = resized(model, "front-dct", num_hidden_layers=4)
    name = "bert.encoder.layer.2.intermediate.dense.weight"
    weight, found = source[name], target[name]
    assert torch.allclose(found - weight.mean(), 3 * (weight - weight.mean()), atol=1e-5)
    _, corrected = resized(model, "front-dct-corrected", num_hidden_layers=4)
    assert torch.allclose(corrected[name], weight, atol=1e-5)


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
@pytest.mark.parametrize("preset", ["front-dct", "front-dct-corrected"])
def test_cosines_leave_alone_what_keeps_its_size(case: Case, preset: str) -> None:
    model = make(case)
    source, target = resized(model, preset, intermediate_size=10)
    kept = [name for name in source if source[name].shape == target[name].shape]
    assert kept
    assert all(torch.equal(source[name], target[name]) for name in kept)


def test_gains_of_cosines_are_theirs_alone() -> None:
    with pytest.raises(OptionError, match="unnormalized is of cosines"):
        wavescale.plan_resize(make(BERT), gain="unnormalized", intermediate_size=8)


# All ----------------------------------------------------------------------------------------------

GROWING = ["bert2bert-fpi", "bert2bert-aki", "stack", "interleave", "llama-pro", "front-dct", "front-dct-corrected"]


@pytest.mark.parametrize("preset", GROWING)
@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
def test_every_method_makes_a_model_that_runs(case: Case, preset: str) -> None:
    model = make(case)
    options: dict[str, Any] = {"preset": preset, "scale_width": 2, "num_hidden_layers": 5}
    plan = wavescale.plan_resize(model, **options)
    assert Plan.from_json(plan.to_json()) == plan
    assert plan.keeps_function == (preset == "llama-pro")
    assert str(plan).count("not kept") == (0 if plan.keeps_function else 2)  # the summary and its note
    grown = wavescale.resize(model, **options)
    assert all(torch.isfinite(value).all() for value in model_tensors(grown).values())
