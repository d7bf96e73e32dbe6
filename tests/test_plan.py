from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import wavescale
from tiny import CASES, LLAMA_70B, Case, make
from wavescale.plan import Plan


def test_a_70b_plan_has_the_right_totals() -> None:
    plan = wavescale.plan_resize(LLAMA_70B, scale_width=2)
    assert plan.source_parameters == 70_553_706_496
    assert plan.nbytes == 2 * plan.parameters
    assert plan.keeps_function
    assert len(plan.tensors) == 80 * 9 + 3
    assert plan.target.head_dim == 128


@pytest.mark.parametrize("case", CASES[::5], ids=str)
@pytest.mark.parametrize("options", [{"scale_width": 2}, {"scale_width": 0.5, "scale_depth": 0.5, "preset": "paper"}])
def test_a_plan_is_a_value(case: Case, options: dict[str, Any]) -> None:
    model = make(case)
    plan = wavescale.plan_resize(model, **options)
    assert plan == wavescale.plan_resize(model, **options)
    assert plan != wavescale.plan_resize(model, **options, seed=1)
    assert Plan.from_json(plan.to_json()) == plan
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.family = "other"  # type: ignore[misc]
