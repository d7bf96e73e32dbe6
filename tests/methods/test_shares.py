from __future__ import annotations

from typing import Any

import pytest
import torch

import wavescale
from tiny import CASES, MAIN_CASES, Case, difference, make
from wavescale.architectures import FAMILIES
from wavescale.expressions import Apply, Read, UnequalShares, folded
from wavescale.memory import model_tensors
from wavescale.operators import Copies, Replicate

SOURCE = torch.randn((6, 8), generator=torch.Generator().manual_seed(0))


def copies(m: int) -> Replicate:
    return Replicate(n=8, m=m, divide="count")


def shares(operator: Copies, rows: int = 6, seed: int = 1, spread: float = 1.0, whole: float = 1.0) -> torch.Tensor:
    source = SOURCE.repeat(-(-rows // 6), 1)[:rows]
    made = Apply(operator, Read("w", tuple(source.shape)), "hidden", 1)
    return UnequalShares(made, operator, "hidden", 1, 1, 1, seed, spread, whole).compute({"w": source}.__getitem__)


@pytest.mark.parametrize("spread", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("whole", [1.0, 0.0])
@pytest.mark.parametrize(
    "operator", [copies(13), copies(24), copies(32), Replicate(n=8, m=16, divide="count", tiled=True)]
)
def test_the_shares_of_the_copies_of_a_unit_sum_to_the_whole(operator: Copies, whole: float, spread: float) -> None:
    found = shares(operator, spread=spread, whole=whole).double()
    for unit in range(8):
        here = found[:, operator.copied == unit]
        torch.testing.assert_close(here.sum(dim=1), whole * SOURCE[:, unit].double(), rtol=1e-6, atol=1e-6)
        assert here.shape[1] == 1 or float((here[:, 0] - here[:, 1]).abs().min()) > 0


def test_of_two_copies_one_takes_more_by_a_coin_for_every_weight() -> None:
    found = shares(copies(16), 4096, spread=0.5).view(4096, 8, 2) / SOURCE.repeat(683, 1)[:4096, :, None]
    assert set(found.mul(1000).round().flatten().tolist()) == {250.0, 750.0}
    assert abs(float((found[..., 0] > found[..., 1]).float().mean()) - 0.5) < 0.01  # 4096·8 coins
    assert abs(float(torch.corrcoef((found[..., 0] - 0.5).T).fill_diagonal_(0).abs().max())) < 0.1


@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_shares_of_a_whole_weight_round_nothing_in_half_types(spread: float) -> None:
    half = SOURCE.bfloat16()
    operator = copies(16)
    made = Apply(operator, Read("w", (6, 8)), "hidden", 1)
    node = folded(UnequalShares(made, operator, "hidden", 1, 1, 1, 1, spread))
    assert node.scaling is not None
    found = node.compute({"w": half}.__getitem__)
    assert torch.equal(found.float(), node.compute({"w": half.float()}.__getitem__))
    assert torch.equal(found.float().view(6, 8, 2).sum(2), half.float())


def test_of_four_copies_no_two_are_alike_and_of_three_the_last_has_an_equal_share() -> None:
    four = shares(copies(32), 64).view(64, 8, 4)
    for one in range(4):
        for other in range(one):
            assert not torch.equal(four[..., one], four[..., other])
    three = shares(copies(24)).view(6, 8, 3)
    torch.testing.assert_close(three[..., 2], SOURCE / 3)


def test_a_block_of_rows_does_not_depend_on_the_others() -> None:
    assert torch.equal(shares(copies(16), 700)[:256], shares(copies(16), 256))


def test_seeds_and_tensors_have_shares_of_their_own() -> None:
    model = make(Case("llama", "LlamaForCausalLM"))
    first, again, other = (model_tensors(wavescale.resize(model, hidden_size=32, seed=seed)) for seed in (0, 0, 1))
    up, gate = "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.gate_proj.weight"
    zero = model_tensors(wavescale.resize(model, hidden_size=32, details="zero"))
    assert torch.equal(first[up], again[up])
    assert not torch.equal(first[up], other[up])
    assert not torch.allclose(first[up] - zero[up], first[gate] - zero[gate])


def test_a_plan_says_how_unequal_they_are_and_reads_it_back() -> None:
    model = make(Case("llama", "LlamaForCausalLM"))
    plan = wavescale.plan_resize(model, hidden_size=32, detail_size=3)
    assert "hidden in shares of 1 ± 3" in str(plan)
    assert wavescale.Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("options", "message"),
    [({"detail_size": 0}, "detail_size.*0 is no positive number"), ({"detail_size": float("nan")}, "nan is no"),
     ({"detail_size": 2, "details": "zero"}, "no effect without details"),
     ({"detail_size": 2, "preset": "paper"}, "no effect without details"),
     ({"detail_size": 2, "preset": "ligo"}, "no effect with 'ligo'")],
)  # fmt: skip
def test_a_size_that_is_none_or_has_no_effect_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(wavescale.WavescaleError, match=message):
        wavescale.plan_resize(make(Case("llama", "LlamaForCausalLM")), hidden_size=32, **options)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_shares_change_weights_and_not_the_function(case: Case) -> None:
    model = make(case)
    found = wavescale.resize(model, hidden_size=32, num_hidden_layers=3)
    zero = wavescale.resize(model, hidden_size=32, num_hidden_layers=3, details="zero")
    assert difference(model, found) < 1e-5
    changed = [
        name for name, value in model_tensors(found).items() if not torch.equal(value, model_tensors(zero)[name])
    ]
    assert len(changed) >= 6


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("width", ["fpi", "aki"])
def test_copies_drawn_in_any_order_have_shares_that_sum(width: str, seed: int) -> None:
    # Of few heads the pairs may come to lie evenly spaced, forwards or backwards.
    model = make(Case("bert", "BertModel"), num_attention_heads=3, hidden_size=24)
    options: dict[str, Any] = {"hidden_size": 48, "width": width, "seed": seed}
    found, zero = (wavescale.resize(model, details=details, **options) for details in ("antisymmetric", "zero"))
    changed, before = model_tensors(found), model_tensors(zero)
    name = "encoder.layer.0.attention.output.dense.weight"
    assert not torch.equal(changed[name], before[name])
    assert torch.allclose(changed[name].sum(1), before[name].sum(1), atol=1e-5)


def batch(case: Case) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    if FAMILIES[case.family].name in ("vit", "deit"):
        return {"pixel_values": torch.randn((8, 3, 8, 8), generator=generator),
                "labels": torch.randint(0, 5, (8,), generator=generator)}  # fmt: skip
    ids = torch.randint(3, 31, (8, 12), generator=generator)
    return {"input_ids": ids, "labels": ids}


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
@pytest.mark.parametrize(
    "sizes",
    [
        {"hidden_size": 32},
        {"intermediate_size": 30},
        {"hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 3},
        {"hidden_size": 32, "num_attention_heads": 8, "num_key_value_heads": 4, "width": "pad"},
    ],
    ids=["twice", "units", "between", "padded"],
)
def test_every_part_is_alive_by_step_2_and_no_two_are_twins_at_step_100(case: Case, sizes: dict[str, Any]) -> None:
    if "num_key_value_heads" not in FAMILIES[case.family].fields:
        sizes = {name: size for name, size in sizes.items() if name != "num_key_value_heads"}
    model = make(case)
    found = wavescale.resize(model, **sizes)
    for module in found.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    found.train()
    inputs = batch(case)
    optimizer = torch.optim.AdamW(found.parameters(), lr=1e-3)
    alive: dict[str, torch.Tensor] = {}
    for step in range(100):
        optimizer.zero_grad()
        found(**inputs).loss.backward()
        if step < 2:
            for name, parameter in found.named_parameters():
                if parameter.grad is not None:
                    rows = parameter.grad.ne(0).flatten(1).any(1) if parameter.ndim > 1 else parameter.grad.ne(0)
                    alive[name] = alive.get(name, torch.zeros_like(rows)) | rows
        optimizer.step()
    for name, rows in alive.items():
        # Words and positions that do not occur have no gradient, and softmax does not see a key's bias.
        if not any(word in name for word in ("embed", "wte", "wpe", "key.bias", "k_proj.bias", "c_attn.bias")):
            assert rows.all(), name
    for name, parameter in found.named_parameters():
        if parameter.ndim >= 2 and not any(word in name for word in ("embed", "wte", "wpe")):
            rows = parameter.detach().flatten(1)
            assert (torch.cdist(rows, rows) + torch.eye(len(rows))).min() > 1e-4, name


@pytest.mark.parametrize(
    ("options", "idle"),
    [
        ({"scale_width": 2}, False),
        ({"scale_width": 2, "width": "pad"}, False),
        ({"scale_width": 2, "width": "signal"}, True),
        ({"scale_depth": 2, "depth": "signal"}, True),
        ({"scale_width": "1/2", "calibrate": "none"}, True),
    ],
    ids=str,
)
def test_a_size_of_details_that_are_not_made_is_said_to_have_no_effect(options: dict[str, Any], idle: bool) -> None:
    plan = wavescale.plan_resize(make(Case("llama", "LlamaForCausalLM")), detail_size=3, **options)
    assert any("detail_size 3 has no effect" in remark for remark in plan.remarks) == idle
