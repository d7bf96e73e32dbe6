"""More methods of other authors against their formulas written out longhand, tensor by tensor."""

from __future__ import annotations

from dataclasses import replace
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


# The maps of a layer: what they write and what they read. GPT-2 stores (in, out), and three maps end to end.
MAPS: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "gpt2": (
        "transformer.h.{}.",
        {"attn.c_attn": ("heads", "hidden"), "attn.c_proj": ("hidden", "heads"),
         "mlp.c_fc": ("intermediate", "hidden"), "mlp.c_proj": ("hidden", "intermediate")},
    ),
    "llama": (
        "model.layers.{}.",
        {"self_attn.q_proj": ("heads", "hidden"), "self_attn.k_proj": ("kv_heads", "hidden"),
         "self_attn.v_proj": ("kv_heads", "hidden"), "self_attn.o_proj": ("hidden", "heads"),
         "mlp.gate_proj": ("intermediate", "hidden"), "mlp.up_proj": ("intermediate", "hidden"),
         "mlp.down_proj": ("hidden", "intermediate")},
    ),
    "vit": (
        "vit.encoder.layer.{}.",
        {"attention.attention.query": ("heads", "hidden"), "attention.attention.key": ("kv_heads", "hidden"),
         "attention.attention.value": ("kv_heads", "hidden"), "attention.output.dense": ("hidden", "heads"),
         "intermediate.dense": ("intermediate", "hidden"), "output.dense": ("hidden", "intermediate")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("preset", ["bert2bert-fpi", "bert2bert-aki"])
@pytest.mark.parametrize("factor", ["3/2", "2"])
@pytest.mark.parametrize("case", [case for case in MAIN_CASES if case.family in MAPS], ids=str)
def test_bert2bert_on_other_families(case: Case, factor: str, preset: str) -> None:
    model = make(case, num_hidden_layers=3)
    options: dict[str, Any] = {"scale_width": factor, "num_hidden_layers": 4}
    source, target = resized(model, preset, **options)
    maps = {axis: drawn(model, preset, axis, **options) for axis in ("hidden", "intermediate", "heads", "kv_heads")}
    maps = {axis: rows(g, 4) if "heads" in axis else g for axis, g in maps.items()}  # head_dim is 4 throughout
    kept = {axis: int(g.max()) + 1 for axis, g in maps.items()}
    before, tensors = MAPS[case.family]
    for layer, origin in enumerate([0, 1, 2, 2]):
        following = min(origin + 1, 2) if preset == "bert2bert-aki" else origin
        for name, (writes, reads) in tensors.items():
            found = target[f"{before.format(layer)}{name}.weight"].double()
            own, other = (source[f"{before.format(k)}{name}.weight"].double() for k in (origin, following))
            if case.family == "gpt2":
                found, own, other = found.T, own.T, other.T
            number = 3 if name == "attn.c_attn" else 1
            for got, a, b in zip(found.chunk(number), own.chunk(number), other.chunk(number), strict=True):
                a, b = (expand(weight, maps[writes], maps[reads]) for weight in (a, b))
                expected = torch.cat([a[: kept[writes]], b[kept[writes] :]])
                assert torch.allclose(got, expected, atol=1e-6), (layer, name)


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


TIED = [
    Case("bert", "BertForMaskedLM"), Case("roberta", "RobertaForMaskedLM"), Case("gpt2", "GPT2LMHeadModel"),
    Case("gpt2", "GPT2DoubleHeadsModel"), Case("llama", "LlamaForCausalLM"), Case("qwen3", "Qwen3ForCausalLM"),
]  # fmt: skip


@pytest.mark.parametrize("case", TIED, ids=str)
@pytest.mark.parametrize("preset", ["bert2bert-fpi", "bert2bert-aki"])
def test_a_tied_head_counts_copies_like_one_of_its_own(case: Case, preset: str) -> None:
    """The same weights with a head of their own, whose inputs are divided by their counts, give the same outputs."""
    tied, untied = (make(replace(case, settings=(("tie_word_embeddings", kind),))) for kind in (True, False))
    head = untied.get_output_embeddings()
    untied.load_state_dict(tied.state_dict())
    assert head.weight is not untied.get_input_embeddings().weight
    a, b = (wavescale.resize(model, preset=preset, scale_width=2, num_hidden_layers=3) for model in (tied, untied))
    assert a.get_output_embeddings().weight is a.get_input_embeddings().weight
    assert difference(a, b) < 1e-5


@pytest.mark.parametrize("case", TIED, ids=str)
def test_details_change_nothing_where_copies_are_twins(case: Case) -> None:
    model = make(case)
    options: dict[str, Any] = {"preset": "bert2bert-fpi", "scale_width": 2}
    plain, parted = (wavescale.resize(model, details=details, **options) for details in ("zero", "antisymmetric"))
    assert difference(plain, parted) < 1e-5
    a, b = model_tensors(plain), model_tensors(parted)
    assert any(not torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("case", [QWEN2, Case("qwen3", "Qwen3ForCausalLM")], ids=str)
@pytest.mark.parametrize(
    "sizes", [{"num_attention_heads": 12, "num_key_value_heads": 6}, {"intermediate_size": 37}], ids=["heads", "units"]
)
def test_what_no_norm_looks_at_is_kept_and_the_plan_says_so(case: Case, sizes: dict[str, Any]) -> None:
    model = make(case)
    assert wavescale.plan_resize(model, preset="bert2bert-fpi", **sizes).keeps_function
    assert not wavescale.plan_resize(model, preset="bert2bert-aki", **sizes).keeps_function
    assert difference(model, wavescale.resize(model, preset="bert2bert-fpi", **sizes)) < 1e-5


@pytest.mark.parametrize(("heads", "groups", "fits"), [(8, 2, 4), (4, 4, 8), (12, 4, 8)])
def test_heads_that_would_leave_their_groups_are_refused(heads: int, groups: int, fits: int) -> None:
    with pytest.raises(OptionError, match=f"whole with their query heads.*4/2 heads.*Give {fits} heads"):
        wavescale.plan_resize(
            make(QWEN2), preset="bert2bert-fpi", num_attention_heads=heads, num_key_value_heads=groups
        )


def test_a_plan_says_what_is_lost() -> None:
    model = make(BERT, num_hidden_layers=3)
    wider: dict[str, Any] = {"scale_width": 2}
    fpi, aki, units = (
        " ".join(wavescale.plan_resize(model, preset=f"bert2bert-{kind}", **sizes).remarks)
        for kind, sizes in (("fpi", wider), ("aki", wider), ("fpi", {"intermediate_size": 40}))
    )
    assert "hidden 16 to 32" in fpi
    assert "another mean and variance" in fpi
    assert "intermediate" not in fpi  # its copies keep the function
    assert "the layer behind it" in aki
    assert units == ""


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
    """Z-scores of every layer's tensor, DCT-II over all axes without a norm, cut off or filled up, and back.

    Means and spreads are those of the source's layers by their numbers, and of its last for what is added.
    """
    axes = tuple(range(1, stack.ndim))
    mean, spread = stack.mean(axes, keepdims=True), stack.std(axes, ddof=1, keepdims=True)
    found = dctn((stack - mean) / spread)
    kept = np.zeros(shape)
    common = tuple(slice(0, min(n, m)) for n, m in zip(stack.shape, shape, strict=True))
    kept[common] = found[common]
    like = np.minimum(np.arange(shape[0]), len(stack) - 1)
    whole: np.ndarray[Any, Any] = idctn(kept) * spread[like] + mean[like]
    return whole


FRONT_SIZES: list[dict[str, Any]] = [
    {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 12, "num_hidden_layers": 2},
    {"hidden_size": 24, "num_attention_heads": 6, "intermediate_size": 40, "num_hidden_layers": 7},
    {"intermediate_size": 13, "num_hidden_layers": 5},
    {"hidden_size": 12, "num_attention_heads": 3},
]
# Tensors of a layer: which of their axes read.
FRONT_TENSORS = {
    "attention.self.key.weight": (1,),
    "attention.self.value.bias": (),
    "attention.output.dense.weight": (1,),
    "intermediate.dense.weight": (1,),
    "output.dense.weight": (1,),
    "output.dense.bias": (),
    "output.LayerNorm.weight": (),
}


@pytest.mark.parametrize("sizes", FRONT_SIZES, ids=["smaller", "larger", "mixed", "width"])
def test_front_as_released(sizes: dict[str, Any]) -> None:
    model = spread_out(make(BERT, num_hidden_layers=4))
    source, target = resized(model, "front-dct", **sizes)
    layers = wavescale.plan_resize(model, preset="front-dct", **sizes).target.num_hidden_layers
    for name in FRONT_TENSORS:
        stack = np.stack([source[f"bert.encoder.layer.{k}.{name}"].double().numpy() for k in range(4)])
        found = np.stack([target[f"bert.encoder.layer.{k}.{name}"].double().numpy() for k in range(layers)])
        expected = front(stack, found.shape)
        assert np.allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max()), name
    for name in ("bert.embeddings.position_embeddings.weight", "bert.embeddings.LayerNorm.bias"):
        expected = front(source[name].double().numpy()[None], (1, *target[name].shape))[0]
        assert np.allclose(target[name].double(), expected, atol=1e-6 * np.abs(expected).max()), name


@pytest.mark.parametrize("sizes", FRONT_SIZES, ids=["smaller", "larger", "mixed", "width"])
def test_corrected_gains_are_those_of_roles(sizes: dict[str, Any]) -> None:
    """As released over gains of n/m in width and depth, which a constant takes; then those of the roles."""
    model = spread_out(make(BERT, num_hidden_layers=4))
    source, target = resized(model, "front-dct-corrected", **sizes)
    layers = wavescale.plan_resize(model, preset="front-dct", **sizes).target.num_hidden_layers
    for name, reads in FRONT_TENSORS.items():
        stack = np.stack([source[f"bert.encoder.layer.{k}.{name}"].double().numpy() for k in range(4)])
        found = np.stack([target[f"bert.encoder.layer.{k}.{name}"].double().numpy() for k in range(layers)])
        axes = tuple(range(1, stack.ndim))
        mean = stack.mean(axes, keepdims=True)[np.minimum(np.arange(layers), 3)]
        # Outputs keep the amplitude of a constant, inputs its sum, and so do layers that write to the stream.
        constant = float(np.prod([stack.shape[axis + 1] / found.shape[axis + 1] for axis in reads]))
        if name.startswith(("attention.output.dense", "output.dense")):
            constant *= 4 / layers
        released = float(np.prod([n / m for n, m in zip(stack.shape, found.shape, strict=True)]))
        expected = (front(stack, found.shape) - mean) / released * constant + mean * constant
        assert np.allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max()), name


def spread_out(model: Any) -> Any:
    """The model with layers of different mean and spread."""
    for number, layer in enumerate(model.bert.encoder.layer):
        for parameter in layer.parameters():
            parameter.data.mul_(1 + number / 2).add_(number / 10)
    return model


def test_a_layer_map_says_whose_mean_and_spread_a_layer_takes() -> None:
    model = spread_out(make(BERT, num_hidden_layers=3))
    source, target = resized(model, "front-dct", layer_map=[2, 0, 2], intermediate_size=13)
    for layer, origin in enumerate((2, 0, 2)):
        name = "bert.encoder.layer.{}.intermediate.dense.weight"
        weight = source[name.format(origin)].double().numpy()
        expected = front(weight[None], (1, 13, 16))[0]
        assert np.allclose(target[name.format(layer)], expected, atol=1e-6 * np.abs(expected).max())
        kept = "bert.encoder.layer.{}.output.dense.bias"
        assert torch.equal(target[kept.format(layer)], source[kept.format(origin)])


def test_a_plan_says_where_mean_and_spread_come_from() -> None:
    lines = wavescale.plan_resize(make(BERT), preset="front-dct-corrected", hidden_size=8).tensor_lines()
    z = "hidden 16→8: 8 cosines × 0.7071, with mean and spread of"
    assert any(line.endswith(f"z(dense) · {z} dense") for line in lines)
    tied = next(line for line in lines if line.startswith("cls.predictions.transform.LayerNorm.weight"))
    assert tied.endswith(f"2·(z(LayerNorm) · {z} LayerNorm)")


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


@pytest.mark.parametrize(("preset", "times"), [("front-dct", 2.0), ("front-dct-corrected", 1.0)])
def test_at_half_the_width_the_released_transform_doubles_spreads(preset: str, times: float) -> None:
    source, target = resized(make(BERT, hidden_size=64), preset, hidden_size=32, num_attention_heads=2)
    for name in ("attention.self.query", "attention.self.value", "attention.output.dense"):
        before, after = (tensors[f"bert.encoder.layer.0.{name}.weight"].std() for tensors in (source, target))
        assert float(after / before) == pytest.approx(times, rel=0.1)


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
@pytest.mark.parametrize("preset", ["front-dct", "front-dct-corrected"])
def test_cosines_leave_alone_what_keeps_its_size(case: Case, preset: str) -> None:
    model = make(case)
    source, target = resized(model, preset, intermediate_size=10)
    kept = [name for name in source if source[name].shape == target[name].shape]
    assert kept
    assert all(torch.equal(source[name], target[name]) for name in kept)


def test_a_plan_says_that_the_released_transform_has_no_norm() -> None:
    model = make(BERT, num_hidden_layers=3)
    said = [
        " ".join(wavescale.plan_resize(model, preset=preset, num_hidden_layers=2).remarks)
        for preset in ("front-dct", "front-dct-corrected")
    ]
    assert ["has no norm" in text for text in said] == [True, False]
    assert all("layers 3 to 2" in text and "2 cosines" in text for text in said)


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
