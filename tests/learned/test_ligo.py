"""LiGO's tensors against its formula, written out longhand in numpy for given M and d."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import wavescale
from tiny import Case, inputs_for, make
from wavescale.analysis import Subject
from wavescale.findings import mapping_of
from wavescale.learned import Ligo
from wavescale.memory import build_model, model_tensors

if TYPE_CHECKING:
    from transformers import PreTrainedModel

GPT2 = Case("gpt2", "GPT2LMHeadModel")
BERT = Case("bert", "BertForMaskedLM")
TWICE: dict[str, Any] = {"scale_width": 2, "scale_depth": 2}
Array = np.ndarray[Any, np.dtype[np.float64]]


def start(model: PreTrainedModel, **options: Any) -> Ligo:
    found = mapping_of(wavescale.plan_resize(model, preset="ligo", **options), Subject.in_memory(model))
    assert isinstance(found, Ligo)
    return found


def set_at_random(mapping: Ligo) -> None:
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for value in mapping.parameters.values():
            value.copy_(torch.randn(value.shape, generator=generator))


def numpy_of(model: PreTrainedModel) -> dict[str, Array]:
    return {name: value.double().numpy() for name, value in model_tensors(model).items()}


class Longhand:
    """The formula, with [I; M] and the sum over layers under short names."""

    def __init__(self, mapping: Ligo, weights: dict[str, Array]) -> None:
        self.parameters = {name: value.detach().double().numpy() for name, value in mapping.parameters.items()}
        self.weights = weights

    def wide(self, use: str, layer: int) -> Array:
        rows = self.parameters[f"maps/{use}"]
        rows = rows[layer] if len(rows) > 1 else rows[0]
        return np.vstack([np.eye(rows.shape[1]), rows])

    def sum(self, name: str, layer: int, part: int = 0, parts: int = 1) -> Array:
        weights = self.parameters[f"depth/{{base}}{name}/{part}"][layer]
        prefix = next(key.partition("0.")[0] for key in self.weights if key.endswith(name.partition("{layer}.")[2]))
        source = [
            np.split(self.weights[f"{prefix}{n}.{name.partition('{layer}.')[2]}"], parts, axis=-1)[part]
            for n in range(len(weights))
        ]
        return np.asarray(sum(d * w for d, w in zip(weights, source, strict=True)))


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, Array]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].detach().numpy(), value, atol=2e-5, rtol=1e-5, err_msg=name)


def bert_longhand(mapping: Ligo, source: dict[str, Array], layers: int) -> dict[str, Array]:
    by, e = Longhand(mapping, source), "bert.embeddings."
    g = by.wide("hidden", 0)
    made = {f"{e}{kind}_embeddings.weight": source[f"{e}{kind}_embeddings.weight"] @ g.T
            for kind in ("word", "position", "token_type")}  # fmt: skip
    for name in ("weight", "bias"):
        made[f"{e}LayerNorm.{name}"] = g @ source[f"{e}LayerNorm.{name}"]
        made[f"cls.predictions.transform.LayerNorm.{name}"] = g @ source[f"cls.predictions.transform.LayerNorm.{name}"]
    made["cls.predictions.transform.dense.weight"] = g @ source["cls.predictions.transform.dense.weight"] @ g.T
    made["cls.predictions.transform.dense.bias"] = g @ source["cls.predictions.transform.dense.bias"]
    made["cls.predictions.bias"] = source["cls.predictions.bias"]
    for layer in range(layers):
        at = f"bert.encoder.layer.{layer}."
        value, units = by.wide("value", layer), by.wide("ffn", layer)

        def deep(name: str, layer: int = layer) -> Array:
            return by.sum(f"encoder.layer.{{layer}}.{name}", layer)

        for use in ("query", "key", "value"):
            name = f"attention.self.{use}"
            made[f"{at}{name}.weight"] = by.wide(use, layer) @ deep(f"{name}.weight") @ g.T
            made[f"{at}{name}.bias"] = by.wide(use, layer) @ deep(f"{name}.bias")
        for name, outputs, inputs in (
            ("attention.output.dense", g, value),
            ("intermediate.dense", units, g),
            ("output.dense", g, units),
        ):
            made[f"{at}{name}.weight"] = outputs @ deep(f"{name}.weight") @ inputs.T
            made[f"{at}{name}.bias"] = outputs @ deep(f"{name}.bias")
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            for kind in ("weight", "bias"):
                made[f"{at}{name}.{kind}"] = g @ deep(f"{name}.{kind}")
    return made


def gpt2_longhand(mapping: Ligo, source: dict[str, Array], layers: int) -> dict[str, Array]:
    by, t = Longhand(mapping, source), "transformer."
    g = by.wide("hidden", 0)
    made = {f"{t}{name}.weight": source[f"{t}{name}.weight"] @ g.T for name in ("wte", "wpe")}
    made |= {f"{t}ln_f.{name}": g @ source[f"{t}ln_f.{name}"] for name in ("weight", "bias")}
    for layer in range(layers):
        at, units = f"{t}h.{layer}.", by.wide("ffn", layer)

        def deep(name: str, part: int = 0, parts: int = 1, layer: int = layer) -> Array:
            return by.sum(f"h.{{layer}}.{name}", layer, part, parts)

        # Stored as (input, output), query, key and value end to end.
        uses = ("query", "key", "value")
        made[f"{at}attn.c_attn.weight"] = np.hstack(
            [g @ deep("attn.c_attn.weight", n, 3) @ by.wide(use, layer).T for n, use in enumerate(uses)]
        )
        made[f"{at}attn.c_attn.bias"] = np.hstack(
            [by.wide(use, layer) @ deep("attn.c_attn.bias", n, 3) for n, use in enumerate(uses)]
        )
        for name, outputs, inputs in (
            ("attn.c_proj", g, by.wide("value", layer)),
            ("mlp.c_fc", units, g),
            ("mlp.c_proj", g, units),
        ):
            made[f"{at}{name}.weight"] = inputs @ deep(f"{name}.weight") @ outputs.T
            made[f"{at}{name}.bias"] = outputs @ deep(f"{name}.bias")
        for name in ("ln_1", "ln_2"):
            for kind in ("weight", "bias"):
                made[f"{at}{name}.{kind}"] = g @ deep(f"{name}.{kind}")
    return made


@pytest.mark.parametrize(("case", "longhand"), [(BERT, bert_longhand), (GPT2, gpt2_longhand)], ids=["bert", "gpt2"])
def test_every_tensor_is_the_formula(case: Case, longhand: Any) -> None:
    model = make(case)
    mapping = start(model, **TWICE)
    set_at_random(mapping)
    assert_same(mapping.tensors(), longhand(mapping, numpy_of(model), layers=4))


def test_what_a_resize_writes_is_the_trained_mapping() -> None:
    model = make(GPT2)
    batches = [{"input_ids": inputs_for(model)["input_ids"], "labels": inputs_for(model)["input_ids"]}]
    before = numpy_of(model)
    large = wavescale.resize(model, preset="ligo", train_file=batches, train_steps=3, train_rate=0.01, **TWICE)
    mapping = start(model, **TWICE)
    from wavescale.learned import train

    train(mapping, large, batches, steps=3, rate=0.01)
    assert_same(model_tensors(large), gpt2_longhand(mapping, before, layers=4))
    for name, value in numpy_of(model).items():  # the source is not trained
        np.testing.assert_array_equal(value, before[name])


def test_it_starts_from_stacked_layers_and_even_rows() -> None:
    mapping = start(make(BERT, num_hidden_layers=3), hidden_size=32, num_hidden_layers=7)
    assert mapping.parameters["maps/hidden"].shape == (1, 16, 16)
    assert mapping.parameters["maps/ffn"].shape == (7, 24, 24)
    for name, value in mapping.parameters.items():
        torch.testing.assert_close(value.sum(-1), torch.ones(value.shape[:-1]))
        assert (value >= 0).all()
        if name.startswith("depth/"):
            assert value.shape == (7, 3)
            assert value.argmax(-1).tolist() == [0, 1, 2, 0, 1, 2, 0]
            assert value.max(-1).values.min() > 1 / (1 + 2 * 0.03)
    assert {name.partition("/")[0] for name in mapping.parameters} == {"maps", "depth"}


MISTRAL = Case("mistral", "MistralForCausalLM")
SCALED = Case("gpt2", "GPT2LMHeadModel", (("scale_attn_by_inverse_layer_idx", True),))


@pytest.mark.parametrize(
    ("case", "sizes"),
    [
        (MISTRAL, {"num_attention_heads": 8}),
        (MISTRAL, {"num_attention_heads": 8, "num_key_value_heads": 4}),
        (SCALED, {}),
        (BERT, {}),
    ],
)
def test_heads_of_the_source_stay_whole_beside_their_keys(case: Case, sizes: dict[str, Any]) -> None:
    """With M of zero the new heads and units write nothing, and the old ones do as they did."""
    model = make(case)
    mapping = start(model, intermediate_size=30, **sizes)
    with torch.no_grad():
        for name, value in mapping.parameters.items():
            value.copy_(torch.eye(2) if name.startswith("depth/") else torch.zeros_like(value))
        plan = wavescale.plan_resize(model, preset="ligo", intermediate_size=30, **sizes)
        large = build_model(plan, mapping.tensors(), like=model)
        found, expected = (each(**inputs_for(model)).logits for each in (large, model))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_heads_stay_whole_where_they_grow() -> None:
    model = make(BERT)
    mapping = start(model, hidden_size=24, num_attention_heads=4)  # four heads of six channels
    name = "bert.encoder.layer.0.attention.self.query.bias"
    with torch.no_grad():
        mapping.parameters["depth/{base}encoder.layer.{layer}.attention.self.query.bias/0"].copy_(torch.eye(2))
        mapping.parameters["maps/query"].zero_()
    found = mapping.tensors()[name].detach().view(4, 6)
    torch.testing.assert_close(found[:, :4], model_tensors(model)[name].view(4, 4))
    assert (found[:, 4:] == 0).all()
