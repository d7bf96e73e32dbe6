from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import wavescale
from tiny import CASES, Case, difference, make
from wavescale.errors import OptionError
from wavescale.memory import model_tensors
from wavescale.methods import Resizing, Separable, choose
from wavescale.methods.depth import Chosen, Insert, Signal
from wavescale.operators import Resample
from wavescale.plan import Plan
from wavescale.spec import read_spec

LLAMA = Case("llama", "LlamaForCausalLM")
NAME = "model.layers.{}.mlp.up_proj.weight"
WRITER = "model.layers.{}.mlp.down_proj.weight"


def resizing(before: int, after: int) -> Resizing:
    specs = [read_spec({"model_type": "llama", "num_hidden_layers": layers}) for layers in (before, after)]
    return Resizing(specs[0], specs[1], {}, choose())


def test_insertion_keeps_the_order_and_spreads_the_new_layers() -> None:
    insert = Insert(resizing(6, 8))
    origins = [insert.origin(layer) for layer in range(8)]
    assert origins == sorted(origins)
    assert set(origins) == set(range(6))
    assert max(origins.count(origin) for origin in range(6)) == 2


def test_an_inserted_layer_copies_its_neighbour_and_writes_nothing() -> None:
    model = make(LLAMA)
    source, found = model_tensors(model), model_tensors(wavescale.resize(model, num_hidden_layers=4))
    assert torch.equal(found[NAME.format(1)], source[NAME.format(0)])
    assert not found[WRITER.format(1)].any()
    assert torch.equal(found[WRITER.format(2)], source[WRITER.format(1)])


@pytest.mark.parametrize("wavelet", ["haar", "db2", "coif3", "bior6.8"])
@pytest.mark.parametrize(("before", "after"), [(12, 6), (6, 12), (12, 8), (5, 7)])
def test_by_role_layers_are_means_and_writers_keep_their_sum(wavelet: str, before: int, after: int) -> None:
    signal = Signal(resizing(before, after), Resample.of(before, after, wavelet, "two-ended"), "role")
    np.testing.assert_allclose(signal.coefficients(writes=False).sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(signal.coefficients(writes=True).sum(axis=0), 1.0, atol=1e-12)


def test_haar_halves_depth_by_means_of_pairs() -> None:
    model = make(LLAMA, num_hidden_layers=4)
    source = model_tensors(model)
    found = model_tensors(wavescale.resize(model, num_hidden_layers=2, gain="role"))
    torch.testing.assert_close(found[NAME.format(1)], (source[NAME.format(2)] + source[NAME.format(3)]) / 2)
    torch.testing.assert_close(found[WRITER.format(1)], source[WRITER.format(2)] + source[WRITER.format(3)])


@pytest.mark.parametrize(("depth", "layers"), [("insert", 1), ("stack", 1)])
def test_what_adds_layers_cannot_take_them_away(depth: str, layers: int) -> None:
    with pytest.raises(OptionError, match="depth 'signal'"):
        wavescale.plan_resize(make(LLAMA), num_hidden_layers=layers, depth=depth)


@pytest.mark.parametrize("depth", ["first", "drop"])
def test_what_takes_layers_away_cannot_add_them(depth: str) -> None:
    with pytest.raises(OptionError, match=f"depth '{depth}'.*2 layers 3.*'insert'"):
        wavescale.plan_resize(make(LLAMA), num_hidden_layers=3, depth=depth)


@pytest.mark.parametrize(
    ("before", "after", "depth", "layers"),
    [
        (6, 3, "drop", (0, 2, 5)),
        (12, 6, "drop", (0, 2, 4, 7, 9, 11)),
        (6, 2, "drop", (0, 5)),
        (6, 1, "drop", (0,)),
        (6, 3, "first", (0, 1, 2)),
        (2, 5, "stack", (0, 1, 0, 1, 0)),
    ],
)
def test_choices_of_layers_copy_them_as_they_are(before: int, after: int, depth: str, layers: tuple[int, ...]) -> None:
    model = make(LLAMA, num_hidden_layers=before)
    source, found = model_tensors(model), model_tensors(wavescale.resize(model, num_hidden_layers=after, depth=depth))
    for layer, origin in enumerate(layers):
        for name in (NAME, WRITER):
            assert torch.equal(found[name.format(layer)], source[name.format(origin)])
    if depth == "drop":
        assert layers == tuple(np.round(np.linspace(0, before - 1, after)).astype(int))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_identity_map_leaves_every_tensor_as_it_is(case: Case) -> None:
    model = make(case, num_hidden_layers=3)
    plan = wavescale.plan_resize(model, layer_map=[0, 1, 2])
    assert plan.keeps_function
    assert any("nothing changes" in remark for remark in plan.remarks)
    source, found = model_tensors(model), model_tensors(wavescale.resize(model, layer_map=[0, 1, 2]))
    assert source.keys() == found.keys()
    for name, value in source.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_map_copies_each_layer_where_and_as_often_as_it_says(case: Case) -> None:
    model = make(case)
    target = wavescale.resize(model, layer_map=(0, 0, 1, 1))
    assert target.config.num_hidden_layers == 4
    source, found = model_tensors(model), model_tensors(target)
    scaled = dict(case.settings).get("scale_attn_by_inverse_layer_idx")
    for name, value in found.items():
        parts = name.split(".")
        at = next((at for at, part in enumerate(parts[:-2]) if part.isdigit()), None)
        if at is None:
            assert torch.equal(value, source[name]), name
        else:
            origin = ".".join([*parts[:at], str(int(parts[at]) // 2), *parts[at + 1 :]])
            if scaled and "c_attn" in name:
                # The model divides queries by the layer's number, so a copy elsewhere makes up for it.
                query = value.shape[-1] // 3
                by = (int(parts[at]) + 1) / (int(parts[at]) // 2 + 1)
                torch.testing.assert_close(value[..., :query], source[origin][..., :query] * by)
                assert torch.equal(value[..., query:], source[origin][..., query:])
            else:
                assert torch.equal(value, source[origin]), name


def test_maps_reorder_and_their_plan_says_so() -> None:
    model = make(LLAMA, num_hidden_layers=4)
    plan = wavescale.plan_resize(model, layer_map="1,0,2,3")
    assert not plan.keeps_function
    assert "the function is not kept: layers 4 to 4 by copies of 1, 0, 2..3" in plan.remarks
    assert not any("nothing changes" in remark for remark in plan.remarks)
    assert plan.choices.layer_map == (1, 0, 2, 3)
    assert Plan.from_json(plan.to_json()) == plan
    there = wavescale.resize(model, layer_map="1,0,2,3")
    assert difference(model, there) > 1e-3
    assert difference(model, wavescale.resize(there, layer_map="1,0,2,3")) == 0.0


def test_a_map_sets_the_number_of_layers_unless_a_size_says_the_same() -> None:
    model = make(LLAMA)
    plan = wavescale.plan_resize(model, layer_map=[0, 1, 1])
    assert plan.target.num_hidden_layers == 3
    assert "length of layer_map" in {decision.reason for decision in plan.decisions}
    sizes: tuple[dict[str, Any], ...] = ({"num_hidden_layers": 3}, {"scale_depth": 1.5}, {"like": make(LLAMA).config})
    for size in sizes:
        assert wavescale.plan_resize(model, layer_map=[0, 1, 1], **size).tensors == plan.tensors


def test_a_map_goes_with_any_width_and_any_preset() -> None:
    model = make(LLAMA, num_hidden_layers=4)
    for preset, factor in (("default", 2), ("paper", 2), ("hypercloning", 2), ("weight-selection", 0.5)):
        narrow = wavescale.resize(model, layer_map=[3, 0], preset=preset, scale_width=factor, details="zero")
        whole = wavescale.resize(model, preset=preset, scale_width=factor, details="zero")
        for found, expected in ((0, 3), (1, 0)):
            assert torch.equal(
                model_tensors(narrow)[NAME.format(found)], model_tensors(whole)[NAME.format(expected)]
            ), preset


def test_fields_with_one_entry_a_layer_follow_the_map() -> None:
    types = ["full_attention", "sliding_attention", "sliding_attention"]
    case = Case("qwen2", "Qwen2ForCausalLM", (("use_sliding_window", True), ("sliding_window", 4)))
    model = make(case, num_hidden_layers=3, layer_types=types)
    for layers in ([2, 1, 0], [0, 0, 1, 2], [1]):
        plan = wavescale.plan_resize(model, layer_map=layers)
        assert plan.config["layer_types"] == [types[layer] for layer in layers]
    assert wavescale.plan_resize(model, num_hidden_layers=2, depth="drop").config["layer_types"] == [types[0], types[2]]


@pytest.mark.parametrize(
    ("layer_map", "options", "words"),
    [
        ("", {}, "layer_map.*no list of layers.*0,2,4"),
        ([], {}, "layer_map.*no list of layers.*0,2,4"),
        ("0,two", {}, "'0,two' is no list of layers.*whole numbers from 0"),
        ("0;1", {}, "'0;1' is no list"),
        ([0, 1.5], {}, "no list of layers"),
        (3, {}, "layer_map.* 3 is no list"),
        (iter([0, 1]), {}, "no list of layers"),
        ([-1, 0], {}, "no list of layers.*from 0"),
        ([0, 2], {}, "names layer 2, the source has 2 layers.*0 to 1"),
        ([0, 1], {"num_hidden_layers": 3}, "names 2 layers.*asks for 3.*leave the size out"),
        ([0, 1], {"scale_depth": 2}, "names 2 layers.*asks for 4"),
        ([0, 1], {"depth": "stack"}, "depth 'stack' has no effect.*Leave one"),
    ],
)
def test_maps_that_cannot_be_used_are_refused(layer_map: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        wavescale.plan_resize(make(LLAMA), layer_map=layer_map, **options)


def test_copies_of_the_same_layers_are_the_same_map() -> None:
    assert Chosen.of(resizing(2, 4), "stack").layers == (0, 1, 0, 1)
    assert Chosen.of(resizing(2, 4), "stack").describe() == "copies of 0..1, 0..1"
    assert Chosen.of(resizing(3, 3), "drop").exact


def test_copies_cannot_make_an_axis_smaller() -> None:
    with pytest.raises(OptionError, match="intermediate smaller"):
        wavescale.plan_resize(make(LLAMA), intermediate_size=20, width="replicate")


def test_mixed_directions_are_decided_axis_by_axis() -> None:
    model = make(LLAMA)
    plan = wavescale.plan_resize(model, hidden_size=32, intermediate_size=20, num_hidden_layers=1)
    method = Separable(Resizing(read_spec(model.config.to_dict() | {"architectures": ["LlamaForCausalLM"]}),
                                read_spec(plan.config), {}, choose()))  # fmt: skip
    kinds = {name: type(axis).__name__ for name, axis in method.maps.items()}
    assert kinds == {
        "hidden": "ResidualMap",
        "intermediate": "SignalMap",
        "heads": "UnitMap",
        "kv_heads": "UnitMap",
        "pooled": "UnitMap",
    }
