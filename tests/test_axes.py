from __future__ import annotations

import pytest

from wavescale.axes import check_shape, parse_axes
from wavescale.errors import CheckpointError

SIZES = {"heads": 3, "kv_heads": 1, "head_dim": 4, "hidden": 10, "vocab": 31}


@pytest.mark.parametrize(
    ("text", "shape", "sides"),
    [
        ("hidden", (10,), "o"),
        ("vocab hidden", (31, 10), "oo"),
        ("(heads head_dim) <- hidden", (12, 10), "oi"),
        ("hidden -> (heads head_dim)", (10, 12), "io"),
        ("hidden -> (heads head_dim) + (kv_heads head_dim) + (kv_heads head_dim)", (10, 20), "io"),
        ("heads + kv_heads", (4,), "o"),
    ],
)
def test_axes_have_shape_and_side(text: str, shape: tuple[int, ...], sides: str) -> None:
    axes = parse_axes(text)
    assert axes.shape(SIZES) == shape
    assert "".join(axis.side[0] for axis in axes.axes) == sides


def test_the_parts_of_a_fused_axis_stand_alone() -> None:
    axes = parse_axes("hidden -> (heads head_dim) + (kv_heads head_dim)")
    assert axes.fused == 1
    assert axes.part(1) == parse_axes("hidden -> (kv_heads head_dim)")
    assert axes.names == {"hidden", "heads", "kv_heads", "head_dim"}
    assert parse_axes("vocab hidden").fused is None


@pytest.mark.parametrize("text", ["", "(heads", "heads)", "a <- b -> c", "Hidden", "a, b", "heads-dim"])
def test_what_is_no_notation_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="axes"):
        parse_axes(text)


def test_a_wrong_length_names_the_axis_and_both_lengths() -> None:
    axes = parse_axes("(heads head_dim) <- hidden")
    check_shape("q_proj.weight", axes, (12, 10), SIZES)
    with pytest.raises(CheckpointError, match=r"q_proj.weight: axis 'hidden' is 11, the config says 10"):
        check_shape("q_proj.weight", axes, (12, 11), SIZES)
    with pytest.raises(CheckpointError, match="has 1 axes"):
        check_shape("q_proj.weight", axes, (12,), SIZES)
