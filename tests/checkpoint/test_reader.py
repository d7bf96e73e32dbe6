from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from wavescale.checkpoint import open_checkpoint
from wavescale.errors import CheckpointError
from wavescale.resizing import plan_resize

CONFIG = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "intermediate_size": 8,
    "vocab_size": 11,
    "max_position_embeddings": 6,
}


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "matrix": torch.randn((3, 4), generator=generator),
        "half": torch.randn((5,), generator=generator).to(torch.float16),
        "brain": torch.randn((2, 2, 2), generator=generator).to(torch.bfloat16),
        "double": torch.randn((2, 3), generator=generator).double(),
        "number": torch.tensor(7),
        "nothing": torch.zeros((0, 4)),
    }


def make_folder(path: Path, config: Mapping[str, Any] = CONFIG) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    return path


def write_index(folder: Path, name: str, weight_map: Mapping[str, object]) -> None:
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": dict(weight_map)}))


def split(values: Mapping[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    names = sorted(values)
    return [{name: values[name] for name in names[:2]}, {name: values[name] for name in names[2:]}]


def safetensors_single(folder: Path, values: dict[str, torch.Tensor]) -> None:
    save_file(values, folder / "model.safetensors")


def safetensors_sharded(folder: Path, values: dict[str, torch.Tensor]) -> None:
    where: dict[str, str] = {}
    for number, part in enumerate(split(values), 1):
        name = f"model-{number:05d}-of-00002.safetensors"
        save_file(part, folder / name)
        where |= dict.fromkeys(part, name)
    write_index(folder, "model.safetensors.index.json", where)


def bin_single(folder: Path, values: dict[str, torch.Tensor]) -> None:
    torch.save(values, folder / "pytorch_model.bin")


def bin_legacy(folder: Path, values: dict[str, torch.Tensor]) -> None:
    torch.save(values, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def bin_nested(folder: Path, values: dict[str, torch.Tensor]) -> None:
    torch.save({"epoch": 3, "state_dict": values}, folder / "pytorch_model.bin")


def bin_sharded(folder: Path, values: dict[str, torch.Tensor]) -> None:
    where: dict[str, str] = {}
    for number, part in enumerate(split(values), 1):
        name = f"pytorch_model-{number:05d}-of-00002.bin"
        torch.save(part, folder / name)
        where |= dict.fromkeys(part, name)
    write_index(folder, "pytorch_model.bin.index.json", where)


LAYOUTS = [safetensors_single, safetensors_sharded, bin_single, bin_legacy, bin_nested, bin_sharded]


@pytest.mark.parametrize("save", LAYOUTS, ids=lambda save: save.__name__)
def test_shapes_dtypes_and_bits_come_back_from_every_layout(
    save: Callable[[Path, dict[str, torch.Tensor]], None], tmp_path: Path
) -> None:
    values = tensors()
    folder = make_folder(tmp_path / "model")
    save(folder, values)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.tensors == {
        name: (tuple(value.shape), str(value.dtype).removeprefix("torch.")) for name, value in values.items()
    }
    for name, value in values.items():
        found = checkpoint.read(name)
        assert found.dtype == value.dtype
        assert torch.equal(found, value)
    assert checkpoint.nbytes == sum(p.stat().st_size for p in folder.iterdir() if p.suffix in (".safetensors", ".bin"))


def test_safetensors_are_preferred_where_both_formats_are_there(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    save_file({"a": torch.ones(2)}, folder / "model.safetensors")
    torch.save({"a": torch.zeros(2)}, folder / "pytorch_model.bin")
    checkpoint = open_checkpoint(folder)
    assert [file.name for file in checkpoint.files] == ["model.safetensors"]
    assert torch.equal(checkpoint.read("a"), torch.ones(2))


@pytest.mark.parametrize("gone", [True, False], ids=["shards gone", "shards there"])
def test_one_file_is_preferred_over_an_index_of_an_older_save(gone: bool, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    safetensors_sharded(folder, tensors())
    save_file({"a": torch.ones(2)}, folder / "model.safetensors")
    if gone:
        for shard in folder.glob("model-*"):
            shard.unlink()
    checkpoint = open_checkpoint(folder)
    assert [file.name for file in checkpoint.files] == ["model.safetensors"]
    assert list(checkpoint.tensors) == ["a"]


class Payload:
    """Writes a file when it is unpickled by a loader that runs code."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def dump_plain(payload: Any, file: Path) -> None:
    file.write_bytes(pickle.dumps(payload, protocol=2))


def dump_zip(payload: Any, file: Path) -> None:
    torch.save(payload, file)


def dump_legacy(payload: Any, file: Path) -> None:
    torch.save(payload, file, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("dump", [dump_plain, dump_zip, dump_legacy], ids=lambda dump: dump.__name__)
@pytest.mark.parametrize("nested", [False, True])
def test_a_pickle_that_carries_code_is_refused_and_its_code_not_run(
    dump: Callable[[Any, Path], None], nested: bool, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    folder = make_folder(tmp_path / "model")
    content: dict[str, Any] = {"a": torch.ones(2), "b": Payload(marker)}
    file = folder / "pytorch_model.bin"
    dump({"state_dict": content} if nested else content, file)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin.*never runs code"):
        open_checkpoint(folder).tensors  # noqa: B018  (reads the header)
    assert not marker.exists()
    # The payload is live: a loader that trusts the file does run it.
    torch.load(file, weights_only=False) if dump is not dump_plain else pickle.loads(file.read_bytes())
    assert marker.exists()


@pytest.mark.parametrize(
    "content",
    [[torch.ones(2)], {"a": torch.ones(2), "epoch": 3}, {"a": {"b": torch.ones(2)}}, torch.ones(2), {0: torch.ones(2)}],
    ids=["list", "number among tensors", "nested", "bare tensor", "a name that is no text"],
)
def test_a_pickle_of_something_else_than_named_tensors_is_refused(content: Any, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    torch.save(content, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin.*named tensors"):
        open_checkpoint(folder).tensors  # noqa: B018


@pytest.mark.parametrize("save", [bin_single, bin_legacy], ids=lambda save: save.__name__)
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_pickle_cut_short_is_refused(
    save: Callable[[Path, dict[str, torch.Tensor]], None], kept: float, tmp_path: Path
) -> None:
    folder = make_folder(tmp_path / "model")
    save(folder, tensors())
    file = folder / "pytorch_model.bin"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: .*cut short"):
        open_checkpoint(folder).tensors  # noqa: B018


@pytest.mark.parametrize("kept", [0, 4, 8, 60, -1])
def test_a_safetensors_file_cut_short_is_refused(kept: int, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    safetensors_single(folder, tensors())
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: is no sound safetensors file.*cut short"):
        open_checkpoint(folder).tensors  # noqa: B018


def header(text: str, length: int | None = None, data: int = 24) -> bytes:
    encoded = text.encode()
    return (len(encoded) if length is None else length).to_bytes(8, "little") + encoded + bytes(data)


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


LIES = {
    "header longer than the file": header("{}", length=1 << 20),
    "header longer than any memory": header("{}", length=(1 << 63) - 1),
    "header that is no JSON": header("{'a'"),
    "header of another kind": header("[1, 2]"),
    "offsets beyond the data": header(json.dumps({"a": entry([3], 20, 32)})),
    "more values than bytes": header(json.dumps({"a": entry([100], 0, 24)})),
    "fewer values than bytes": header(json.dumps({"a": entry([2], 0, 24)})),
    "offsets that run backwards": header(json.dumps({"a": entry([6], 24, 0)})),
    "tensors that overlap": header(json.dumps({"a": entry([4], 0, 16), "b": entry([4], 8, 24)})),
    "a hole between tensors": header(json.dumps({"a": entry([2], 0, 8), "b": entry([2], 16, 24)})),
    "data left over": header(json.dumps({"a": entry([2], 0, 8)})),
    "negative shape": header(json.dumps({"a": entry([-6], 0, 24)})),
    "a shape that overflows": header(json.dumps({"a": entry([1 << 62, 1 << 62], 0, 24)})),
    "a dtype that there is not": header(json.dumps({"a": entry([6], 0, 24, "F99")})),
}


@pytest.mark.parametrize("content", LIES.values(), ids=LIES)
def test_a_safetensors_header_that_lies_is_refused(content: bytes, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: is no sound safetensors file"):
        open_checkpoint(folder).tensors  # noqa: B018


def test_the_files_of_the_lies_are_sound_without_the_lie(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(header(json.dumps({"a": entry([6], 0, 24)})))
    assert open_checkpoint(folder).tensors == {"a": ((6,), "float32")}


def test_a_file_cut_short_after_its_header_was_read_is_refused_with_the_tensor(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    safetensors_single(folder, tensors())
    checkpoint = open_checkpoint(folder)
    assert "matrix" in checkpoint.tensors
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match=r"matrix: cannot be read from .*model\.safetensors"):
        checkpoint.read("matrix")


@pytest.mark.parametrize("save", [safetensors_sharded, bin_sharded], ids=lambda save: save.__name__)
def test_a_shard_that_the_index_names_and_that_is_missing_is_named(
    save: Callable[[Path, dict[str, torch.Tensor]], None], tmp_path: Path
) -> None:
    folder = make_folder(tmp_path / "model")
    save(folder, tensors())
    missing = next(path for path in folder.iterdir() if "-00002-of-" in path.name)
    missing.unlink()
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    assert str(missing) in str(caught.value)
    assert "index.json" in str(caught.value)


def test_a_shard_outside_the_folder_is_not_opened(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    save_file({"a": torch.ones(2)}, tmp_path / "other.safetensors")
    write_index(folder, "model.safetensors.index.json", {"a": "../other.safetensors"})
    with pytest.raises(CheckpointError, match=r"other\.safetensors.*not in the folder"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "index",
    [{}, {"weight_map": None}, {"weight_map": ["a"]}, [], {"weight_map": {"a": ["model-00001-of-00001.safetensors"]}}],
    ids=["no map", "null", "list", "no object", "a list for a name"],
)
def test_an_index_without_a_map_of_names_is_refused(index: object, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    save_file({"a": torch.ones(2)}, folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json"):
        open_checkpoint(folder)


def test_a_tensor_stored_in_two_shards_is_refused_with_both(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    save_file({"a": torch.ones(2), "twice": torch.ones(2)}, folder / names[0])
    save_file({"twice": torch.zeros(2)}, folder / names[1])
    write_index(folder, "model.safetensors.index.json", {"a": names[0], "twice": names[1]})
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder).tensors  # noqa: B018
    assert str(caught.value).startswith("twice: stored twice")
    assert all(name in str(caught.value) for name in names)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b"[]", b'"bert"', b"NaN"], ids=repr)
def test_a_config_that_is_no_json_object_is_refused_with_its_path(content: bytes, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    save_file({"a": torch.ones(2)}, folder / "model.safetensors")
    (folder / "config.json").write_bytes(content)
    for named in (folder, folder / "config.json"):
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(named, weights=False)
        assert str(folder / "config.json") in str(caught.value)


def test_a_folder_without_weights_is_refused_where_weights_are_needed(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    (folder / "model.gguf").write_bytes(b"GGUF")
    assert not open_checkpoint(folder, weights=False).has_weights
    with pytest.raises(CheckpointError, match="no weights found") as caught:
        open_checkpoint(folder)
    assert str(folder) in str(caught.value)


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    save_file({"a": torch.ones(2)}, tmp_path / "model" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model: no config\.json in this folder"):
        open_checkpoint(tmp_path / "model")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder") as caught:
        open_checkpoint(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(caught.value)


def test_a_file_that_is_no_config_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: expected a folder"):
        open_checkpoint(tmp_path / "model.safetensors")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of the hub, offline; returns its folder."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    return cache


def cached(cache: Path, name: str) -> Path:
    """The snapshot folder of a model in the hub's cache, as huggingface_hub lays it out."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    return make_folder(repository / "snapshots" / commit)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ["owner/model", "model", "owner/my--model", "owner/a..b", "owner/model.git"])
@pytest.mark.parametrize("weights", [True, False])
def test_a_hub_id_while_offline_is_refused_by_name(name: str, weights: bool) -> None:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(name, weights)
    assert str(caught.value).startswith(f"{name}: ")


def test_a_hub_id_in_the_cache_is_found_while_offline(offline: Path) -> None:
    folder = cached(offline, "owner/model")
    save_file({"a": torch.ones(2)}, folder / "model.safetensors")
    checkpoint = open_checkpoint("owner/model")
    assert checkpoint.path == folder
    assert torch.equal(checkpoint.read("a"), torch.ones(2))


def test_a_sharded_hub_model_is_planned_from_config_and_index_alone(offline: Path) -> None:
    # `plan` fetches config.json and *.safetensors.index.json only, so this is what is there.
    folder = cached(offline, "owner/sharded")
    write_index(folder, "model.safetensors.index.json", {"a": "model-00001-of-00002.safetensors"})
    plan = plan_resize("owner/sharded", hidden_size=16)
    assert plan.target.hidden_size == 16


def test_the_fingerprint_follows_contents_and_not_the_place(tmp_path: Path) -> None:
    digests = []
    for name, value, width in (("one", 1.0, 8), ("two", 1.0, 8), ("other weight", 2.0, 8), ("other config", 1.0, 16)):
        folder = make_folder(tmp_path / name, {**CONFIG, "hidden_size": width})
        save_file({"a": torch.full((3,), value)}, folder / "model.safetensors")
        digests.append(open_checkpoint(folder).fingerprint())
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert all(digest.startswith("sha256:") and len(digest) == 7 + 64 for digest in digests)
