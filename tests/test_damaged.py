"""Damaged configs, indices and weight files: a public function works or raises WavescaleError, and nothing else."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

import wavescale
from tiny import Case, make
from wavescale.analysis import similar_units
from wavescale.errors import WavescaleError

JUNK: list[Any] = [
    None, True, 0, 1, 3, -1, 2**70, 1.5, float("nan"), float("inf"), "", "x", "float99", "../x", [], [3], [None], {},
    {"x": 1}, [[[]]], "é\ud800", {"weight_map": 3}, [0, 4, 8], "F32", "I8", [2**62, 2**62],
]  # fmt: skip
FILES = ("config.json", "model.safetensors.index.json", "model.safetensors", "generation_config.json")
CASES = [Case("llama", "LlamaForCausalLM"), Case("bert", "BertForMaskedLM"), Case("vit", "ViTForImageClassification"),
         Case("gpt2", "GPT2LMHeadModel"), Case("qwen2", "Qwen2ForCausalLM")]  # fmt: skip


def uses(source: Path, out: Path) -> dict[str, Callable[[], object]]:
    """Public functions that read a checkpoint."""
    return {
        "plan": lambda: wavescale.plan_resize(source, scale_width=2),
        "plan of a config": lambda: wavescale.plan_resize(source / "config.json", scale_depth=2),
        "grow": lambda: wavescale.resize_checkpoint(source, out, scale_width=2, num_hidden_layers=3),
        "shrink": lambda: wavescale.resize_checkpoint(source, out, num_hidden_layers=1, calibrate="random"),
        "inspect": lambda: wavescale.inspect(source),
        "analyse": lambda: wavescale.analyse(source, [similar_units]),
    }


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a value stands in JSON."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield from places(item, (*path, key))


def replaced(data: st.DataObject, value: Any) -> Any:
    """JSON with one value replaced, taken away, or put beside another."""
    path = data.draw(st.sampled_from([place for place in places(value) if place]))
    here = value
    for key in path[:-1]:
        here = here[key]
    if isinstance(here, dict) and data.draw(st.booleans()):
        if data.draw(st.booleans()):
            del here[path[-1]]
        else:
            here[data.draw(st.sampled_from(["x", "weight_map", "layer_types", "auto_map", "quantization_config"]))] = (
                data.draw(st.sampled_from(JUNK))
            )
    else:
        here[path[-1]] = data.draw(st.sampled_from(JUNK))
    note(f"{path}: {json.dumps(value)[:500]}")
    return value


def damaged(data: st.DataObject, raw: bytes) -> bytes:
    """A file with bytes changed, put in, or cut off."""
    at = data.draw(st.integers(0, min(len(raw) - 1, 4000)))
    some = data.draw(st.binary(max_size=4))
    match data.draw(st.sampled_from(["cut", "put", "change", "nest"])):
        case "cut":
            return raw[:at]
        case "put":
            return raw[:at] + some + raw[at:]
        case "change":
            return raw[:at] + some + raw[at + len(some) :]
        case _:
            return raw[:at] + b"[" * 100_000 + raw[at:]


def mutate(data: st.DataObject, file: Path) -> None:
    raw = file.read_bytes()
    if data.draw(st.integers(0, 3)) == 0:
        file.write_bytes(damaged(data, raw))
    elif file.suffix == ".json":
        file.write_text(json.dumps(replaced(data, json.loads(raw))))
    else:
        length = int.from_bytes(raw[:8], "little")
        header = json.dumps(replaced(data, json.loads(raw[8 : 8 + length]))).encode()
        file.write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + length :])


@contextmanager
def only_its_own_errors(name: str) -> Iterator[None]:
    said = ""
    try:
        yield
    except WavescaleError as error:
        said = str(error)
    event(f"{name}: {'refused' if said else 'works'}")
    assert len(said.splitlines()) < 2


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Path]]:
    """Checkpoints of a few families, in one file and in several, and what they were grown to."""
    folder, found = tmp_path_factory.mktemp("originals"), []
    for number, case in enumerate(CASES):
        for shards in ("5GB", "5KB"):
            source, out = folder / f"source {number} {shards}", folder / f"out {number} {shards}"
            make(case).save_pretrained(source, max_shard_size=shards)
            wavescale.resize_checkpoint(source, out, scale_width=2, max_shard_size=shards)
            found.append((source, out))
    return found


@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_sources_raise_nothing_but_wavescales_errors(
    data: st.DataObject, originals: list[tuple[Path, Path]]
) -> None:
    original, _ = data.draw(st.sampled_from(originals))
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "source"), Path(folder, "out")
        shutil.copytree(original, source)
        files = [source / name for name in FILES if (source / name).is_file()]
        mutate(data, data.draw(st.sampled_from([*files, *source.glob("model-00001-of-*")])))
        before = {path: path.read_bytes() for path in source.iterdir()}
        name, use = data.draw(st.sampled_from(sorted(uses(source, out).items())))
        with only_its_own_errors(name):
            use()
        assert {path: path.read_bytes() for path in source.iterdir()} == before
        assert not list(Path(folder).glob("*.partial"))


@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_outputs_raise_nothing_but_wavescales_errors(
    data: st.DataObject, originals: list[tuple[Path, Path]]
) -> None:
    source, grown = data.draw(st.sampled_from(originals))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        shutil.copytree(grown, out)
        files = [out / name for name in (*FILES, "wavescale.json") if (out / name).is_file()]
        mutate(data, data.draw(st.sampled_from([*files, *out.glob("model-00001-of-*")])))
        with only_its_own_errors("verify"):
            wavescale.verify(source, out)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000 + "]" * 100_000, "1" * 5_000, '{"a":' * 70 + "1" + "}" * 70],
    ids=["nested", "long integer", "nested in what can be read"],
)
def test_json_beyond_all_bounds_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "x": ' + text + "}")
    with pytest.raises(WavescaleError, match=r"config\.json: (cannot be read as JSON|is nested more than)"):
        wavescale.plan_resize(tmp_path / "config.json", hidden_size=64)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("architectures", 3, "llama class 3 is not known"), ("hidden_size", "16", "hidden_size is '16', expected an"),
     ("num_hidden_layers", 10**9, "num_hidden_layers is 1000000000, expected an integer from 1 to 8,192"),
     ("hidden_act", "swoosh", "transformers cannot load it"), ("head_dim", -1, "head_dim is -1")],
)  # fmt: skip
def test_a_config_with_wrong_values_is_refused_in_one_line(
    field: str, value: Any, message: str, tmp_path: Path
) -> None:
    make(Case("llama", "LlamaForCausalLM")).save_pretrained(tmp_path / "source")
    file = tmp_path / "source" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), field: value}))
    with pytest.raises(WavescaleError, match=message) as raised:
        wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "out", num_hidden_layers=1, calibrate="random")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_an_index_with_junk_beside_its_map_is_read(tmp_path: Path) -> None:
    make(Case("llama", "LlamaForCausalLM")).save_pretrained(tmp_path / "source", max_shard_size="5KB")
    index = tmp_path / "source" / "model.safetensors.index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "metadata": "junk"}))
    assert wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "out", scale_width=2).keeps_function
