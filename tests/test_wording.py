from __future__ import annotations

from typing import Any

import pytest

import wavescale
from tiny import LLAMA_70B


def test_a_plan_prints_every_tensor_and_decision() -> None:
    plan = wavescale.plan_resize(LLAMA_70B, num_hidden_layers=100)
    text = str(plan)
    for word in ("num_hidden_layers", "80", "100", "given", "lm_head.weight", "mlp.down_proj", "constant 0", "kept"):
        assert word in text
    every = plan.tensor_lines(every=True)
    assert len(every) == len(plan.tensors)
    assert "model.layers.99.mlp.down_proj.weight" in "\n".join(every)
    assert len(plan.tensor_lines()) < 40


@pytest.mark.parametrize(
    ("options", "besides"),
    [({"preset": "ligo"}, True), ({"order": "similarity", "scale_width": 0.5}, True), ({}, False)],
    ids=["mapping", "order", "copies"],
)
def test_a_plan_says_that_its_work_is_not_all(options: dict[str, Any], besides: bool) -> None:
    # What is trained or found out before the plan is carried out has no FLOPs in its tensors.
    plan = wavescale.plan_resize(LLAMA_70B, **{"scale_width": 2, **options})
    assert ("besides training, calibration or analysis" in str(plan)) == besides == bool(plan.asks_for)
