from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub.utils._paths import filter_repo_objects

import wavescale
from tiny import Case, make

# As repositories on the hub have them: weights once more in half precision or for other programs, and code.
BESIDE = ("consolidated.safetensors", "fp16/model.safetensors", "onnx/model.onnx", "tf_model.h5", "modeling_x.py")
NEEDED = (
    "1_Pooling/config.json",
    "two/model.safetensors",
    "3_Dense/pytorch_model.bin",
    "tokenizer.json",
    "LICENSE",
)


@pytest.mark.parametrize("sharded", [False, True])
def test_of_a_repository_of_the_hub_only_what_is_needed_is_fetched(
    sharded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, here = tmp_path / "hub", tmp_path / "here"
    make(Case("bert", "BertModel")).save_pretrained(hub, max_shard_size="20KB" if sharded else "1GB")
    weights = {path.name for path in hub.glob("*.safetensors*")}
    for name in (*BESIDE, *NEEDED):
        (hub / name).parent.mkdir(exist_ok=True)
        (hub / name).write_text("{}")
    modules = [{"path": path, "type": "x"} for path in ("", "1_Pooling", "two", "3_Dense")]
    (hub / "modules.json").write_text(json.dumps(modules))

    def download(model: str, allow_patterns: list[str]) -> str:
        assert model == "owner/name"
        names = [str(path.relative_to(hub)) for path in hub.rglob("*") if path.is_file()]
        for name in filter_repo_objects(names, allow_patterns=allow_patterns):
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(hub / name, here / name)
        return str(here)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    wavescale.resize_checkpoint("owner/name", tmp_path / "out", num_hidden_layers=2)
    fetched = {str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()}
    assert fetched == {"config.json", "modules.json", *weights, *NEEDED}
