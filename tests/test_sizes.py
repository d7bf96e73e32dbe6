from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from wavescale.errors import OptionError, SizeError
from wavescale.resizing import plan_resize
from wavescale.sizes import SizeRequest, resolve_sizes
from wavescale.spec import read_spec

SMOLLM2 = {
    "model_type": "llama",
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "vocab_size": 64,
}
BERT = {"model_type": "bert", "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
VIT = {"model_type": "vit", "hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}


def sizes(config: dict[str, Any], **request: Any) -> tuple[int, ...]:
    found, _, _ = resolve_sizes(read_spec(config), SizeRequest(**request))
    return (found.hidden_size, found.num_hidden_layers, found.num_attention_heads, found.num_key_value_heads,
            found.intermediate_size, found.head_dim)  # fmt: skip


def reasons(config: dict[str, Any], **request: Any) -> dict[str, str]:
    _, decisions, _ = resolve_sizes(read_spec(config), SizeRequest(**request))
    return {decision.name: decision.reason for decision in decisions}


def test_what_is_not_given_follows_hidden_size() -> None:
    assert sizes(SMOLLM2, hidden_size=768) == (768, 30, 12, 4, 2048, 64)
    assert sizes(BERT, hidden_size=192) == (192, 12, 6, 6, 768, 32)


def test_what_is_not_given_stays_when_hidden_size_does() -> None:
    assert sizes(SMOLLM2, num_hidden_layers=40) == (576, 40, 9, 3, 1536, 64)
    assert sizes(SMOLLM2, num_attention_heads=12) == (576, 30, 12, 3, 1536, 64)


def test_an_explicit_size_beats_a_scale_beats_like_beats_following() -> None:
    like = {**SMOLLM2, "hidden_size": 1152, "num_attention_heads": 18, "num_key_value_heads": 6,
            "num_hidden_layers": 12, "intermediate_size": 4096}  # fmt: skip
    assert sizes(SMOLLM2, like=like) == (1152, 12, 18, 6, 4096, 64)
    assert sizes(SMOLLM2, like=like, scale_depth=Fraction(2)) == (1152, 60, 18, 6, 4096, 64)
    assert sizes(SMOLLM2, like=like, scale_width=Fraction(2, 3), intermediate_size=99) == (384, 12, 6, 2, 99, 64)
    assert reasons(SMOLLM2, like=like, scale_width=Fraction(2, 3), intermediate_size=99) == {
        "hidden_size": "scale_width 2/3",
        "num_hidden_layers": "like",
        "num_attention_heads": "scale_width 2/3",
        "num_key_value_heads": "scale_width 2/3",
        "intermediate_size": "given",
    }


def test_every_decision_has_its_reason() -> None:
    assert reasons(SMOLLM2, hidden_size=768) == {
        "hidden_size": "given",
        "num_hidden_layers": "stays",
        "num_attention_heads": "follows hidden_size at the same head_dim",
        "num_key_value_heads": "follows hidden_size at the same head_dim",
        "intermediate_size": "follows hidden_size at the same ratio",
    }


def test_like_takes_only_sizes_and_lists_the_rest() -> None:
    like = {**SMOLLM2, "hidden_size": 1152, "num_attention_heads": 18, "num_key_value_heads": 6, "vocab_size": 99,
            "max_position_embeddings": 8192, "rope_theta": 1e6}  # fmt: skip
    source = {**SMOLLM2, "max_position_embeddings": 2048, "rope_theta": 1e4}
    _, _, remarks = resolve_sizes(read_spec(source), SizeRequest(like=like))
    assert [remark.split()[1] for remark in remarks] == ["vocab_size", "max_position_embeddings", "rope_theta"]


def test_like_with_another_head_dim_is_refused_under_rotary_positions() -> None:
    like = {**SMOLLM2, "hidden_size": 1152, "num_attention_heads": 9}
    with pytest.raises(SizeError, match="head_dim is 128, the source has 64"):
        resolve_sizes(read_spec(SMOLLM2), SizeRequest(like=like))


def test_a_stored_head_dim_stays() -> None:
    assert sizes(VIT, hidden_size=200, num_attention_heads=3, intermediate_size=800) == (200, 12, 3, 3, 800, 64)
    plan = plan_resize(VIT, hidden_size=200, num_attention_heads=3, intermediate_size=800)
    assert plan.config["head_dim"] == 64


@pytest.mark.parametrize(
    ("config", "request_", "words"),
    [
        (BERT, {"hidden_size": 200}, ("6.25", "192 or 224", "--heads")),
        (SMOLLM2, {"hidden_size": 600}, ("9.375", "576 or 768", "--heads")),
        (SMOLLM2, {"scale_width": Fraction(3, 2)}, ("13.5", "4/3 and 5/3", "--heads")),
        (SMOLLM2, {"scale_depth": Fraction(1, 100)}, ("0.3", "1/30", "--layers")),
        (SMOLLM2, {"num_attention_heads": 10, "hidden_size": 640}, ("3.33333", "576 or 768", "--kv-heads")),
        (SMOLLM2, {"num_attention_heads": 10}, ("10 is no multiple of num_key_value_heads 3", "1 or 2", "--kv-heads")),
        (SMOLLM2, {"hidden_size": 580, "num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536},
         ("580", "576 or 585", "LlamaConfig", "5 or 10")),
        (BERT, {"hidden_size": 0}, ("hidden_size (--hidden-size) is 0", "positive integer")),
        (BERT, {"num_hidden_layers": -2}, ("-2", "--layers")),
        (BERT, {"num_key_value_heads": 3}, ("no key-value heads", "--kv-heads")),
        (BERT, {"scale_width": Fraction(0)}, ("scale_width is 0", "above 0")),
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit_name_the_nearest_that_do(
    config: dict[str, Any], request_: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(SizeError) as caught:
        resolve_sizes(read_spec(config), SizeRequest(**request_))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("hidden", range(60, 400, 7))
def test_the_sizes_that_errors_name_are_accepted(hidden: int) -> None:
    try:
        sizes(SMOLLM2, hidden_size=hidden)
    except SizeError as error:
        named = str(error).split("fits: ")[1].split(";")[0].split(" or ")
        for size in named:
            assert sizes(SMOLLM2, hidden_size=int(size))[0] == int(size)
    else:
        assert hidden % 192 == 0


@pytest.mark.parametrize("value", ["abc", "1/0", object()])
def test_a_scale_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(OptionError, match="scale_width"):
        plan_resize(SMOLLM2, scale_width=value)


def test_the_nearest_width_for_some_heads_fits_all_that_follows() -> None:
    config = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
              "intermediate_size": 172, "num_hidden_layers": 1, "vocab_size": 10}  # fmt: skip
    with pytest.raises(SizeError, match="Nearest hidden_size for 6 heads: 96; nearest"):
        plan_resize(config, num_attention_heads=6)
    assert plan_resize(config, num_attention_heads=6, hidden_size=96).target.num_key_value_heads == 3
