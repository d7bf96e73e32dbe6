from __future__ import annotations

import json
import os
import re
import resource
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file

import wavescale
from tiny import MAIN_CASES, Case, make, outputs
from wavescale.checkpoint import CheckpointWriter
from wavescale.errors import CheckpointError, FaultError, OptionError, OutputError
from wavescale.expressions import Constant
from wavescale.plan import TensorPlan

LLAMA = Case("llama", "LlamaForCausalLM", (("tie_word_embeddings", True),))
BIG = 1 << 30


def random_bits(shape: Sequence[int], dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Every pattern of bits may come up: negative zeros, subnormals, NaN with a payload."""
    generator = torch.Generator().manual_seed(seed)
    nbytes = torch.empty(shape, dtype=dtype).nbytes
    return torch.randint(0, 256, (nbytes,), dtype=torch.uint8, generator=generator).view(dtype).reshape(shape)


SHAPES = {"matrix": (5, 3), "vector": (7,), "scalar": (), "empty": (0, 4), "cube": (2, 3, 2)}
VALUES = {
    f"{name}.{str(dtype).removeprefix('torch.')}": random_bits(shape, dtype, seed)
    for seed, (name, shape) in enumerate(SHAPES.items())
    for dtype in (torch.float32, torch.bfloat16, torch.float16)
}


def planned(values: Mapping[str, torch.Tensor]) -> list[TensorPlan]:
    return [
        TensorPlan(
            name, "head", tuple(value.shape), str(value.dtype).removeprefix("torch."), Constant(0.0, tuple(value.shape))
        )
        for name, value in values.items()
    ]


def bits(value: torch.Tensor) -> tuple[torch.dtype, tuple[int, ...], bytes]:
    return value.dtype, tuple(value.shape), value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def write(
    out: Path, values: Mapping[str, torch.Tensor] = VALUES, max_shard_size: int = BIG, overwrite: bool = False
) -> None:
    with CheckpointWriter(out, planned(values), max_shard_size, overwrite) as writer:
        with writer.rows() as rows:
            for name, value in values.items():
                rows.write(name, 0, value)
        writer.write_text("config.json", json.dumps({"model_type": "bert"}))


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything under a folder, hidden files too."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    make(LLAMA).save_pretrained(folder)
    return folder


def test_what_was_written_is_what_safetensors_reads_bit_for_bit(tmp_path: Path) -> None:
    write(tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert {name: bits(value) for name, value in found.items()} == {n: bits(value) for n, value in VALUES.items()}


def test_rows_find_their_place_in_any_order(tmp_path: Path) -> None:
    with CheckpointWriter(tmp_path / "out", planned(VALUES), 40) as writer:
        for first in (3, 0, 1):
            with writer.rows() as rows:
                for name, value in VALUES.items():
                    end = {0: 1, 1: 3, 3: None}[first]
                    if value.ndim and value.numel():
                        rows.write(name, first, value[first:end])
                    else:
                        rows.write(name, 0, value)
        writer.write_text("config.json", json.dumps({"model_type": "bert"}))
    write(tmp_path / "whole", max_shard_size=40)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_the_order_of_writing_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path / "forward")
    with CheckpointWriter(tmp_path / "backward", planned(VALUES), BIG) as writer, writer.rows() as rows:
        for name in reversed(VALUES):
            rows.write(name, 0, VALUES[name])
    written = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("forward", "backward")]
    assert written[0] == written[1]


def test_tensors_that_are_not_contiguous_are_written_in_their_own_order(tmp_path: Path) -> None:
    value = torch.arange(12.0).reshape(3, 4)
    write(tmp_path / "out", {"turned": value.t(), "strided": value[:, ::2], "expanded": torch.ones(1).expand(5)})
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(found["turned"], value.t())
    assert torch.equal(found["strided"], value[:, ::2])
    assert torch.equal(found["expanded"], torch.ones(5))


@pytest.mark.parametrize("size", [1, 24, 60, 100, 1000])
def test_shards_hold_at_most_the_size_that_was_given(size: int, tmp_path: Path) -> None:
    write(tmp_path / "out", max_shard_size=size)
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    seen: dict[str, str] = {}
    for number, file in enumerate(files, 1):
        part = load_file(file)
        total = sum(value.nbytes for value in part.values())
        assert total <= size or sum(value.nbytes > 0 for value in part.values()) == 1
        if len(files) > 1:
            assert file.name == f"model-{number:05d}-of-{len(files):05d}.safetensors"
        for name, value in part.items():
            assert name not in seen
            assert bits(value) == bits(VALUES[name])
            seen[name] = file.name
    assert set(seen) == set(VALUES)
    index = tmp_path / "out" / "model.safetensors.index.json"
    assert index.exists() == (len(files) > 1) == (size < sum(value.nbytes for value in VALUES.values()))
    if index.exists():
        found = json.loads(index.read_text())
        assert found["weight_map"] == seen
        assert found["metadata"]["total_size"] == sum(value.nbytes for value in VALUES.values())


@pytest.mark.parametrize("size", [3000, "1.5KiB"])
@pytest.mark.parametrize("case", [LLAMA, MAIN_CASES[0]], ids=str)
def test_transformers_loads_a_sharded_output(case: Case, size: int | str, tmp_path: Path) -> None:
    model = make(case)
    model.save_pretrained(tmp_path / "source")
    wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "sharded", hidden_size=32, max_shard_size=size)
    wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "whole", hidden_size=32)
    assert len(list((tmp_path / "sharded").glob("model-*.safetensors"))) > 2
    assert not (tmp_path / "sharded" / "model.safetensors").exists()
    sharded, info = type(model).from_pretrained(tmp_path / "sharded", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    whole = type(model).from_pretrained(tmp_path / "whole")
    for name, value in outputs(whole).items():
        assert torch.equal(outputs(sharded)[name], value), name


@pytest.mark.parametrize("size", ["", "much", "5 XB", "-5GB", "0", 0, -1, "0.1B"])
def test_a_shard_size_that_is_none_is_refused(size: int | str, source: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="max_shard_size"):
        wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32, max_shard_size=size)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError, SystemExit], ids=lambda e: e.__name__)
@pytest.mark.parametrize("at", [0, 5])
def test_an_exception_on_the_way_leaves_nothing(error: type[BaseException], at: int, tmp_path: Path) -> None:
    def write_some() -> None:
        with CheckpointWriter(tmp_path / "out", planned(VALUES), 40) as writer, writer.rows() as rows:
            assert len(list(tmp_path.iterdir())) == 1
            for name in list(VALUES)[:at]:
                rows.write(name, 0, VALUES[name])
            raise error

    with pytest.raises(error):
        write_some()
    assert contents(tmp_path) == {}


def test_a_source_that_turns_out_damaged_on_the_way_leaves_nothing(source: Path, tmp_path: Path) -> None:
    values = load_file(source / "model.safetensors")
    last = list(values)[-1]
    values[last].view(-1)[0] = float("nan")
    save_file(values, source / "model.safetensors", {"format": "pt"})
    before = contents(tmp_path)
    written: list[TensorPlan] = []
    with pytest.raises(CheckpointError, match="NaN"):
        wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32, on_tensor=written.append)
    assert written
    assert contents(tmp_path) == before


def test_an_exception_on_the_way_leaves_the_old_output_as_it_was(source: Path, tmp_path: Path) -> None:
    write(tmp_path / "out")
    before = contents(tmp_path)

    def stop(_: TensorPlan) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32, overwrite=True, on_tensor=stop)
    assert contents(tmp_path) == before


def test_nothing_is_seen_under_the_name_of_the_output_before_the_end(source: Path, tmp_path: Path) -> None:
    seen = []
    wavescale.resize_checkpoint(
        source, tmp_path / "out", hidden_size=32, on_tensor=lambda _: seen.append((tmp_path / "out").exists())
    )
    assert set(seen) == {False}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def limit_files(nbytes: int) -> None:
    """Have the file system itself refuse to write further, as a full disk does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.mark.parametrize("limit", [100, 4096])
@pytest.mark.parametrize("shard", ["5GB", "6KB"])
@pytest.mark.parametrize("when", ["from the start", "on the way"])
def test_a_disk_that_takes_no_more_is_a_fault_that_leaves_nothing(
    limit: int, shard: str, when: str, source: Path, tmp_path: Path
) -> None:
    before = contents(tmp_path)
    written: list[TensorPlan] = []

    def fill(tensor: TensorPlan) -> None:
        written.append(tensor)
        limit_files(limit)

    unlimited, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if when == "from the start":
        limit_files(limit)
    try:
        with pytest.raises(FaultError, match="File too large"):
            wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32, max_shard_size=shard, on_tensor=fill)
    finally:
        limit_files(unlimited)
    assert bool(written) == (when == "on the way")
    assert contents(tmp_path) == before


def test_the_output_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    write(tmp_path / "out")
    for written, usual in (("out", "folder"), ("out/model.safetensors", "file"), ("out/config.json", "file")):
        assert stat.S_IMODE((tmp_path / written).stat().st_mode) == stat.S_IMODE((tmp_path / usual).stat().st_mode)


@pytest.mark.parametrize("make_output", [Path.mkdir, Path.touch, write], ids=["empty folder", "file", "checkpoint"])
def test_an_output_that_exists_is_left_as_it_is(
    make_output: Callable[[Path], None], source: Path, tmp_path: Path
) -> None:
    make_output(tmp_path / "out")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=r"exists already.*--overwrite") as caught:
        wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32)
    assert str(tmp_path / "out") in str(caught.value)
    assert contents(tmp_path) == before


def test_an_output_that_appears_on_the_way_is_left_as_it_is(source: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)

    def appear(_: TensorPlan) -> None:
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "notes.txt").write_text("mine")

    with pytest.raises(OutputError, match="appeared while the resize was running"):
        wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32, on_tensor=appear)
    assert contents(tmp_path) == {**before, "out": None, "out/notes.txt": b"mine"}


def test_overwriting_replaces_all_of_the_old_output(source: Path, tmp_path: Path) -> None:
    write(tmp_path / "out", max_shard_size=24)
    wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32, overwrite=True)
    wavescale.resize_checkpoint(source, tmp_path / "fresh", hidden_size=32)
    replaced, fresh = (contents(tmp_path / name) for name in ("out", "fresh"))
    assert replaced.keys() == fresh.keys()
    assert replaced["model.safetensors"] == fresh["model.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "out", "source"]


def test_overwriting_an_empty_folder_fills_it(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_overwriting_through_a_link_leaves_no_traces(tmp_path: Path) -> None:
    write(tmp_path / "real")
    (tmp_path / "out").symlink_to("real")
    write(tmp_path / "out", {"new": torch.ones(3)}, overwrite=True)
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == {"new"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "real"]


class Occupant(NamedTuple):
    name: str
    files: dict[str, str]


OCCUPANTS = [
    Occupant("documents", {"thesis.txt": "years of work"}),
    Occupant("another program's config", {"config.json": '{"port": 8080}', "server.py": "", "data/users.db": "all"}),
    Occupant("a config that is no JSON", {"config.json": "port: 8080", "data/users.db": "all"}),
]


def test_what_was_there_comes_back_where_the_new_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "out")
    before, rename = contents(tmp_path), Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(FaultError, match="finishing the output failed: Input/output error"):
        write(tmp_path / "out", {"new": torch.ones(3)}, overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("occupant", OCCUPANTS, ids=lambda occupant: occupant.name)
def test_a_folder_that_is_no_checkpoint_is_never_replaced(occupant: Occupant, source: Path, tmp_path: Path) -> None:
    for name, text in occupant.files.items():
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text(text)
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="not a checkpoint folder"):
        wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32, overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["checkpoint-500/optimizer.pt", "runs/events.out"])
def test_what_lies_in_a_checkpoint_folder_besides_is_never_replaced(name: str, source: Path, tmp_path: Path) -> None:
    wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32)
    (tmp_path / "out" / name).parent.mkdir()
    (tmp_path / "out" / name).write_text("days of training")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=f"also holds {name.split('/')[0]}, which is no part of a checkpoint"):
        wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32, overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["trainer_state.json", "optimizer.pt", "scheduler.pt"])
def test_a_checkpoint_of_a_training_run_is_never_replaced(name: str, source: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "checkpoint-500")
    (tmp_path / "checkpoint-500" / name).write_text("days of training")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=f"also holds {name}, which is no part of a checkpoint"):
        wavescale.resize_checkpoint(source, tmp_path / "checkpoint-500", hidden_size=32, overwrite=True)
    assert contents(tmp_path) == before
    # What wavescale has written itself can be made again, with the moments that it has resized.
    wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32)
    (tmp_path / "out" / name).write_text("resized")
    os.utime(tmp_path / "out" / name, (1, 1))
    wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=48, overwrite=True)
    assert not (tmp_path / "out" / name).exists()


@pytest.mark.parametrize("name", ["model.safetensors", "trainer_state.json", "optimizer.pt"])
def test_an_output_that_was_trained_on_in_its_place_is_never_replaced(name: str, source: Path, tmp_path: Path) -> None:
    wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32)
    (tmp_path / "out" / name).write_bytes(b"days of training")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=f"{name} is newer than what wavescale wrote there"):
        wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32, overwrite=True)
    assert contents(tmp_path) == before


def test_nothing_is_written_into_the_source(source: Path) -> None:
    before = contents(source)
    with pytest.raises(OutputError, match="lies in the source, which is never touched"):
        wavescale.resize_checkpoint(source, source / "out", hidden_size=32)
    assert contents(source) == before


def test_a_file_is_never_replaced(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="not a checkpoint folder"):
        wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32, overwrite=True)
    assert (tmp_path / "out").read_text() == "mine"


def test_the_working_directory_as_output_is_written_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    try:
        write(Path(), overwrite=True)
    except OutputError:
        expected = set()
    else:
        expected = {"config.json", "model.safetensors"}
    assert {path.name for path in here.iterdir()} == expected
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize("parent", ["missing", "missing/deeper", "file"])
def test_a_parent_that_is_no_folder_is_named(parent: str, source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="no such folder") as caught:
        wavescale.resize_checkpoint(source, tmp_path / parent / "out", hidden_size=32)
    assert str(tmp_path / parent) in str(caught.value)
    assert contents(tmp_path) == before


def free_space(nbytes: int) -> Callable[[Any], Any]:
    return lambda _: shutil._ntuple_diskusage(10**12, 10**12 - nbytes, nbytes)


def test_too_little_room_is_refused_before_anything_is_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = wavescale.plan_resize(source, hidden_size=32)
    before = contents(tmp_path)
    written: list[TensorPlan] = []
    monkeypatch.setattr(shutil, "disk_usage", free_space(plan.nbytes))
    with pytest.raises(OutputError, match="GB free, the output needs") as caught:
        wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32, on_tensor=written.append)
    assert str(tmp_path) in str(caught.value)
    assert not written
    assert contents(tmp_path) == before


def test_room_enough_is_no_obstacle(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = wavescale.plan_resize(source, hidden_size=32)
    monkeypatch.setattr(shutil, "disk_usage", free_space(plan.nbytes + (64 << 20)))
    wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32)
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_parent_that_cannot_be_written_is_named(source: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(OutputError, match="cannot write there") as caught:
        wavescale.resize_checkpoint(source, locked / "out", hidden_size=32)
    assert str(locked) in str(caught.value)


def test_a_parked_tensor_is_the_same_and_leaves_no_file(tmp_path: Path) -> None:
    with CheckpointWriter(tmp_path / "out", planned(VALUES), BIG) as writer, writer.rows() as rows:
        for name, value in VALUES.items():
            rows.write(name, 0, value)
            assert bits(writer.parked(value)) == bits(value)
        parked = {name: writer.parked(value) for name, value in VALUES.items()}
        writer.write_pickle("more.pt", parked)
    found = torch.load(tmp_path / "out" / "more.pt", weights_only=True)
    assert {name: bits(value) for name, value in found.items()} == {name: bits(v) for name, v in VALUES.items()}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.safetensors", "more.pt"}


def test_what_is_written_besides_needs_room_as_well(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="GB free"):
        CheckpointWriter(tmp_path / "out", planned(VALUES), BIG, besides=1 << 60)


@pytest.mark.parametrize("name", ["2024_results", ".git"])
def test_a_folder_that_is_no_part_of_a_checkpoint_is_not_replaced(name: str, tmp_path: Path) -> None:
    write(tmp_path / "out")
    (tmp_path / "out" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "out" / name).mkdir()
    (tmp_path / "out" / name / "notes").write_text("a week of work")
    with pytest.raises(OutputError, match=rf"also holds {re.escape(name)}, which is no part of a checkpoint"):
        write(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / name / "notes").is_file()


def test_modules_that_a_checkpoint_names_are_replaced_with_it(tmp_path: Path) -> None:
    write(tmp_path / "out")
    (tmp_path / "out" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "out" / "modules.json").write_text('[{"idx": 1, "path": "1_Pooling"}]')
    (tmp_path / "out" / "1_Pooling").mkdir()
    write(tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "1_Pooling").exists()


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path: Path) -> None:
    write(tmp_path / "out")
    (tmp_path / "out" / "config.json").write_text('{"model_type": "bert"}')
    old = tmp_path / f".out.{os.getpid()}.old"
    old.mkdir()
    (old / "model.safetensors").write_bytes(b"old")
    write(tmp_path / "out", {"new": torch.ones(3)}, overwrite=True)
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == {"new"}


def test_a_mount_point_is_refused_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path / "out")
    with pytest.raises(OutputError, match="is a mount point, which cannot be replaced"):
        write(tmp_path / "out", overwrite=True)


def test_a_file_is_never_written_twice(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"others")
    with pytest.raises(AssertionError, match="written twice"), CheckpointWriter(tmp_path / "out", [], BIG) as writer:
        writer.copy(tmp_path / "weights", "model.safetensors")
    assert not (tmp_path / "out").exists()
