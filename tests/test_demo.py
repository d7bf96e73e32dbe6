from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModel

from tiny import Case, make
from wavescale.demo import demo
from wavescale.errors import OutputError


def test_the_demo_grows_and_shrinks_a_real_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo(tmp_path / "demo")
    printed = capsys.readouterr().out
    for word in ("22.7M", "109.5M", "12 × 768", "3 × 192", "function kept", "train"):
        assert word in printed, word
    grown, shrunk = (AutoModel.from_pretrained(tmp_path / "demo" / name).config for name in ("grown", "shrunk"))
    assert (grown.num_hidden_layers, grown.hidden_size, grown.num_attention_heads) == (12, 768, 24)
    assert (shrunk.num_hidden_layers, shrunk.hidden_size, shrunk.num_attention_heads) == (3, 192, 6)


def test_the_demo_replaces_nothing_but_its_own(tmp_path: Path) -> None:
    make(Case("bert", "BertModel")).save_pretrained(tmp_path / "grown")
    (tmp_path / "grown" / "notes.txt").write_text("trained for a week")
    with pytest.raises(OutputError, match="is there and not of an earlier demo"):
        demo(tmp_path)
    assert (tmp_path / "grown" / "notes.txt").is_file()
