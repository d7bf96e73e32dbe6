"""The laws of exact growth: what is grown computes what it was grown from, at every size that is promised.

Growing parts twins by unequal shares unless told otherwise, so every test here tests them, too.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, note, settings
from hypothesis import strategies as st

import wavescale
from tiny import CASES, MAIN_CASES, Case, difference, make
from wavescale.architectures import FAMILIES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EXACT = 1e-5
POST_LN = tuple(name for name, family in FAMILIES.items() if family.placement == "post")
# Families that take more heads at the same width.
STORES_HEAD_DIM = tuple(name for name, family in FAMILIES.items() if family.stores_head_dim)
PRE_LN_CASES = [case for case in CASES if case.family not in POST_LN]
POST_LN_CASES = [case for case in CASES if case.family in POST_LN]
POST_LN_MAIN = [case for case in MAIN_CASES if case.family in POST_LN]
# Sizes that go into 5/4 and 3/2 everywhere.
SIZES = {"hidden_size": 32, "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 24}


def main_case(family: str) -> Case:
    return Case(family, FAMILIES[family].default_class)


def known(family: str, sizes: dict[str, int]) -> dict[str, Any]:
    """The sizes that a family has; only some have key-value heads of their own."""
    return {name: size for name, size in sizes.items() if name in FAMILIES[family].fields}


def config(family: str, sizes: dict[str, int]) -> dict[str, Any]:
    """Sizes under the names of the family's config."""
    return {FAMILIES[family].fields[name]: size for name, size in known(family, sizes).items()}


def source(case: Case, **sizes: int) -> PreTrainedModel:
    """A model of these sizes where the case names no other."""
    return make(case, **{**config(case.family, {**SIZES, **sizes}), **dict(case.settings)})


def assert_exact(model: PreTrainedModel, **growth: Any) -> None:
    plan = wavescale.plan_resize(model, **growth)
    assert plan.keeps_function, plan.remarks
    assert difference(model, wavescale.resize(model, **growth)) < EXACT


@pytest.mark.parametrize("case", PRE_LN_CASES, ids=str)
@pytest.mark.parametrize("factor", ["5/4", "3/2", 2])
def test_width_at_any_ratio_before_post_ln(case: Case, factor: int | str) -> None:
    # A single key-value head has no 5/4; it stays.
    one = {"num_key_value_heads": 1} if ("num_key_value_heads", 1) in case.settings else {}
    assert_exact(source(case), scale_width=factor, **one)


@pytest.mark.parametrize("case", POST_LN_CASES, ids=str)
@pytest.mark.parametrize("factor", [2, 3])
def test_width_at_whole_multiples_after_post_ln(case: Case, factor: int) -> None:
    assert_exact(source(case), scale_width=factor)


# GPT-2 and Llama refuse a width that their heads do not divide, so theirs is one head; GPT-2's grows with it.
@pytest.mark.parametrize(
    ("family", "heads"), [("gpt2", 1), ("llama", 1), *((f, 4) for f in STORES_HEAD_DIM if f != "llama")]
)
def test_a_prime_width(family: str, heads: int) -> None:
    kept = known(family, {"num_attention_heads": heads, "num_key_value_heads": min(heads, 2)})
    head_dim: dict[str, Any] = {"head_dim": 48 // heads} if "num_key_value_heads" in kept else {}
    model = make(main_case(family), **config(family, {**kept, "hidden_size": 48}), **head_dim)
    assert_exact(model, hidden_size=67, intermediate_size=59, **kept)


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
@pytest.mark.parametrize("units", [25, 37, 48])
def test_units_alone(case: Case, units: int) -> None:
    assert_exact(source(case), intermediate_size=units)


@pytest.mark.parametrize("family", STORES_HEAD_DIM)
@pytest.mark.parametrize(("heads", "kv_heads"), [(12, 4), (12, 6), (16, 4), (8, 8), (16, 16)])
def test_heads_and_groups_alone(family: str, heads: int, kv_heads: int) -> None:
    grown = known(family, {"num_attention_heads": heads, "num_key_value_heads": kv_heads})
    assert_exact(source(main_case(family), hidden_size=48), **grown)


@pytest.mark.parametrize("family", ["vit", "deit"])
@pytest.mark.parametrize("heads", [9, 11])
def test_any_number_of_heads_without_groups(family: str, heads: int) -> None:
    assert_exact(source(main_case(family)), num_attention_heads=heads)


@pytest.mark.parametrize(
    ("before", "after"), [((9, 3), (12, 4)), ((9, 3), (9, 9)), ((4, 2), (10, 5)), ((4, 1), (8, 4)), ((6, 2), (12, 2))]
)
def test_groups_move_whole_with_their_query_heads(before: tuple[int, int], after: tuple[int, int]) -> None:
    model = source(main_case("qwen2"), num_attention_heads=before[0], num_key_value_heads=before[1])
    assert_exact(model, num_attention_heads=after[0], num_key_value_heads=after[1])


def test_a_plan_says_when_a_group_has_no_room_for_its_heads() -> None:
    model = source(main_case("qwen2"), num_attention_heads=12, num_key_value_heads=3)
    plan = wavescale.plan_resize(model, num_key_value_heads=4)
    assert not plan.keeps_function
    assert any("no room" in remark for remark in plan.remarks)


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
@pytest.mark.parametrize(("hidden", "heads"), [(64, 2), (96, 2), (96, 3), (160, 5)])
def test_head_dim_grows_where_the_model_forces_it(family: str, hidden: int, heads: int) -> None:
    assert_exact(source(main_case(family), num_attention_heads=2), hidden_size=hidden, num_attention_heads=heads)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("layers", [3, 6])
def test_inserted_layers(case: Case, layers: int) -> None:
    assert_exact(source(case), num_hidden_layers=layers)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_everything_at_once(case: Case) -> None:
    sizes = {
        "hidden_size": 96 if case.family in POST_LN else 60,
        "num_attention_heads": 12,
        "num_key_value_heads": dict(case.settings).get("num_key_value_heads", 6),
        "intermediate_size": 41,
        "num_hidden_layers": 5,
    }
    assert_exact(source(case), **known(case.family, sizes))


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
def test_forgetting_the_gain_shows(case: Case) -> None:
    # The tests above can fail: with orthonormal gains everywhere the function is lost.
    model = source(case)
    assert difference(model, wavescale.resize(model, scale_width=2, gain="orthonormal")) > 1e-3


@pytest.mark.parametrize("case", POST_LN_MAIN, ids=str)
def test_post_ln_between_multiples_is_said_to_be_close_only(case: Case, tmp_path: Path) -> None:
    model = source(case)
    model.save_pretrained(tmp_path / "source")
    plan = wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "out", hidden_size=48)
    assert not plan.keeps_function
    assert any("whole multiples" in remark for remark in plan.remarks)
    assert EXACT < difference(model, wavescale.resize(model, hidden_size=48)) < 1
    found = wavescale.verify(tmp_path / "source", tmp_path / "out")
    assert not found.kept
    assert f"differs by {found.output_difference:.1e}" in found.verdict
    assert found.first_departure is not None
    assert f"first to depart: {found.first_departure.name}," in found.verdict


def probe(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Enough tokens or images that a median over them is no accident."""
    generator = torch.Generator().manual_seed(7)
    if hasattr(model.config, "image_size"):
        return {"pixel_values": torch.randn((64, 3, 8, 8), generator=generator)}
    return {"input_ids": torch.randint(3, 31, (8, 16), generator=generator)}


def logits(model: PreTrainedModel) -> torch.Tensor:
    """One row per token or image, in float64."""
    given = {name: x.to(model.dtype) if x.is_floating_point() else x for name, x in probe(model).items()}
    with torch.no_grad():
        found: torch.Tensor = model(**given).logits
    return found.double().flatten(0, -2)


def noise(found: torch.Tensor, expected: torch.Tensor) -> float:
    """What rounding does to a typical token: root mean square over its logits, median over tokens.

    The largest difference, by which exactness is judged, is one number's accident: between two ways
    to round the same model it moves by a factor of two. So is a mean over tokens: where a query that
    nearly vanishes is normed (Qwen3), a single token can hold half of all squared error, in the
    source's own cast as well as in the grown model.
    """
    return float(((found - expected).square().mean(-1).sqrt()).median())


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_types_lose_at_most_twice_the_sources_own_noise(case: Case, dtype: str) -> None:
    labels: dict[str, Any] = {"num_labels": 31} if case.family in ("vit", "deit") else {}
    model = make(case, **config(case.family, {name: 2 * size for name, size in SIZES.items()}), **labels)
    expected, cast = logits(model), deepcopy(model).to(getattr(torch, dtype))
    own = noise(logits(cast), expected)
    half = {"intermediate_size": 72} if case.family in POST_LN else {"scale_width": 1.5}
    growths: list[dict[str, Any]] = [{"scale_width": 2}, {"scale_width": 3}, half, {"num_hidden_layers": 5}]
    for growth in growths:
        for grown in (wavescale.resize(model, dtype=dtype, **growth), wavescale.resize(cast, **growth)):
            assert grown.dtype == cast.dtype
            assert noise(logits(grown), expected) <= 2 * own, growth


@pytest.mark.parametrize("case", [case for case in MAIN_CASES if FAMILIES[case.family].norm == "layer"], ids=str)
def test_in_float64_only_its_rounding_is_left(case: Case) -> None:
    # transformers computes RMSNorm in float32, so the other families have no float64 to show.
    model = make(case, dtype=torch.float64)
    assert difference(model, wavescale.resize(model, hidden_size=32, num_hidden_layers=3)) < 1e-12


@dataclass(frozen=True)
class Growth:
    """A case and its sizes before and after."""

    case: Case
    head_dim: int
    before: dict[str, int]
    after: dict[str, int]

    @property
    def promised(self) -> bool:
        """Whether the README's table of families promises that this growth keeps the function."""
        family, before, after = FAMILIES[self.case.family], self.before, self.after
        heads, new_heads = before["num_attention_heads"], after["num_attention_heads"]
        if family.placement == "post" and after["hidden_size"] % before["hidden_size"]:
            return False
        if "num_key_value_heads" in family.fields:
            # The source group that is copied least still has room for all its query heads.
            groups, new_groups = before["num_key_value_heads"], after["num_key_value_heads"]
            return new_groups // groups * (new_heads // new_groups) >= heads // groups
        return family.stores_head_dim or after["hidden_size"] // new_heads >= self.head_dim


@st.composite
def growths(draw: st.DrawFn) -> Growth:
    """Sizes that the family takes, nowhere smaller but for a head_dim that the model derives from them."""
    case = draw(st.sampled_from(CASES))
    family = FAMILIES[case.family]
    rotary, grouped = family.rotary, "num_key_value_heads" in family.fields
    groups = draw(st.integers(1, 3)) if grouped else 1
    heads = groups * draw(st.integers(1, 4))
    head_dim = draw(st.sampled_from([4, 6, 8] if rotary else [3, 4, 5, 8]))
    hidden = heads * max(head_dim, -(-8 // heads)) if family.heads_divide_hidden else draw(st.integers(8, 24))
    if not family.stores_head_dim:
        head_dim = hidden // heads
    before = {
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": draw(st.integers(1, 24)),
        "num_hidden_layers": draw(st.integers(1, 3)),
    }
    new_groups = draw(st.integers(groups, 3 * groups)) if grouped else 1
    new_heads = new_groups * draw(st.integers(-(-heads // new_groups), -(-2 * heads // new_groups)))
    if family.heads_divide_hidden:
        new_hidden = new_heads * draw(st.integers(-(-hidden // new_heads), -(-3 * hidden // new_heads)))
    else:
        new_hidden = draw(st.integers(hidden, 3 * hidden))
    after = {
        "hidden_size": new_hidden,
        "num_attention_heads": new_heads,
        "num_key_value_heads": new_groups,
        "intermediate_size": draw(st.integers(before["intermediate_size"], 50)),
        "num_hidden_layers": draw(st.integers(before["num_hidden_layers"], 6)),
    }
    return Growth(case, head_dim, before, after)


@settings(derandomize=True, max_examples=100)
@given(growths())
def test_any_growth_is_as_exact_as_its_plan_says(growth: Growth) -> None:
    family = growth.case.family
    head_dim: dict[str, Any] = {"head_dim": growth.head_dim} if FAMILIES[family].stores_head_dim else {}
    model = make(growth.case, **config(family, growth.before), **head_dim)
    after = known(family, growth.after)
    plan = wavescale.plan_resize(model, **after)
    note(f"{plan.remarks}")
    assert plan.keeps_function == growth.promised
    if plan.keeps_function:
        assert difference(model, wavescale.resize(model, **after)) < EXACT
