from __future__ import annotations

import json

import pytest

import wavescale
from tiny import LLAMA_70B
from wavescale.errors import CheckpointError
from wavescale.plan import Plan


def test_levels_are_recorded() -> None:
    plan = wavescale.plan_resize(LLAMA_70B, intermediate_size=14336, hidden_size=6144, wavelet="db2")
    text = json.dumps(json.loads(plan.to_json()))
    assert '"levels_up": 0, "levels_down": 1' in text
    assert '"levels_up": 6, "levels_down": 6' in text


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"kind": "Nope"}', '{"kind": "Read", "name": "x", "source_shape": [1]}']
)
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        Plan.from_json(text)
