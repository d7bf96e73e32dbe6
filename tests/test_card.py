"""What of the source's card reaches the card of what was made from it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

import wavescale
from tiny import Case, make
from wavescale.card import model_card


def front(text: str) -> dict[str, Any]:
    """The front matter of the card that follows from a source's card."""
    plan = wavescale.plan_resize(make(Case("bert", "BertModel")), hidden_size=32)
    made = model_card(plan, "source", "wavescale resize source out", {}, text)
    found: dict[str, Any] = yaml.safe_load(made.split("---\n")[1])
    return found


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("---\nlicense: mit\n---\n", {"license": "mit"}),
        ('---\r\nlicense: "apache-2.0" # as the paper\r\ntags:\r\n- x\r\n---\r\n', {"license": "apache-2.0"}),
        ("---\nlicense:\n- mit\n- cc-by-4.0\n---\n", {"license": ["mit", "cc-by-4.0"]}),
        ("---\nbase_model: [a/b, c/d]\n---\n", {"base_model": ["a/b", "c/d"]}),
        ("---\nbase_model:\n  - &one a/b\nbase: *one\n---\n", {"base_model": ["a/b"]}),
        ("\ufeff---\nlicense: >-\n  other\nlicense_name: own\nlicense_link: LICENSE\n---\n# Title\n",
         {"license": "other", "license_name": "own", "license_link": "LICENSE"}),
        ("---\n{license: mit, base_model: a/b}\n---", {"license": "mit", "base_model": "a/b"}),
        ("---\nlicense: [mit\n---\n", {}), ("---\nlicense: 3\nbase_model: {a: b}\n---\n", {}), ("license: mit\n", {}),
        ("---\n- license: mit\n---\n", {}), ("---\nlicense: mit\n", {}), ("---\n" + "[" * 10_000 + "\n---\n", {}),
        ("---\nlicense: !!python/object/apply:os.system ['true']\n---\n", {}), ("---\ndate: 2026-02-31\n---\n", {}),
        ("---\nlicense: !!bool x\n---\n", {}), ("---\nlicense: !!int ''\n---\n", {}),
        ("---\nlicense: !!timestamp x\n---\n", {}),
    ],
)  # fmt: skip
def test_licence_and_base_of_any_yaml_reach_the_card(text: str, stated: dict[str, Any]) -> None:
    assert front(text) == {"library_name": "transformers", "tags": ["wavescale"], **stated}


def test_a_source_of_the_hub_is_the_base() -> None:
    plan = wavescale.plan_resize(make(Case("bert", "BertModel")), hidden_size=32)
    made = model_card(plan, "owner/name", "wavescale resize owner/name out", {}, "---\nbase_model: a/b\n---\n")
    assert yaml.safe_load(made.split("---\n")[1])["base_model"] == "owner/name"
