from __future__ import annotations

import numpy as np
import pytest
import torch

import wavescale
from tiny import Case, make
from wavescale.errors import OptionError
from wavescale.memory import model_tensors
from wavescale.methods import Resizing, Separable, choose
from wavescale.methods.depth import Insert, Signal
from wavescale.spec import read_spec

LLAMA = Case("llama", "LlamaForCausalLM")
NAME = "model.layers.{}.mlp.up_proj.weight"
WRITER = "model.layers.{}.mlp.down_proj.weight"


def resizing(before: int, after: int) -> Resizing:
    specs = [read_spec({"model_type": "llama", "num_hidden_layers": layers}) for layers in (before, after)]
    return Resizing(specs[0], specs[1], {}, choose())


def test_stack_repeats_the_whole_stack() -> None:
    model = make(LLAMA)
    source, found = model_tensors(model), model_tensors(wavescale.resize(model, num_hidden_layers=5, depth="stack"))
    for layer in range(5):
        assert torch.equal(found[NAME.format(layer)], source[NAME.format(layer % 2)])


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
    signal = Signal(resizing(before, after), wavelet, "two-ended", "role")
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
