from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

import wavescale
from tiny import Case, make
from wavescale.cli import run
from wavescale.methods import PRESETS, Choices
from wavescale.plan import Plan

COMMANDS = ("resize", "plan", "inspect", "verify", "demo")
BERT = Case("bert", "BertModel")
# Sizes that a third goes into: 3 layers, width 24, 6 heads, 36 units.
THIRDS: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 6, "intermediate_size": 36}
SCRIPT = [str(Path(sys.executable).parent / "wavescale")]
MODULE = [sys.executable, "-m", "wavescale"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Path:
    """An empty hub cache, no network, and `model` in the current folder."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    make(BERT, **THIRDS).save_pretrained(work / "model")
    monkeypatch.chdir(work)
    capfd.readouterr()
    return work


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def edit_config(folder: Path, **values: Any) -> None:
    """Set fields of a config.json; None takes a field out."""
    config = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def process(command: list[str], *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "80"}
    return subprocess.run([*command, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def assert_one_message(code: int, out: str, err: str, expected_code: int = 2) -> None:
    assert code == expected_code
    assert out == ""
    assert "Traceback" not in err
    # click says how to call the command before it says what is wrong.
    lines = [line for line in err.splitlines() if line and not line.startswith(("Usage: ", "Try '"))]
    assert len(lines) == 1, err
    assert lines[0].lower().startswith("error: ")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_shows_an_example(command: str, flag: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run([command, flag]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    text = " ".join(out.split())
    assert "Example" in text
    assert f"wavescale {command}" in text.partition("Example")[2]


def test_help_lists_every_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    for command in COMMANDS:
        assert f"\n  {command} " in out


def test_every_option_of_resize_is_explained(capfd: pytest.CaptureFixture[str]) -> None:
    run(["resize", "--help"])
    out = capfd.readouterr().out
    for option in (
        "--hidden-size", "--layers", "--heads", "--kv-heads", "--intermediate-size", "--like", "--scale-width",
        "--scale-depth", "--preset", "--width", "--depth", "--layer-map", "--wavelet", "--gain", "--seed", "--dtype",
        "--max-shard-size", "--device", "--overwrite", "--optimizer-state", "--architecture", "--train-file",
        "--train-steps", "--train-rate", "--quiet", "--verbose",
    ):  # fmt: skip
        lines = out.splitlines()
        at = next(at for at, line in enumerate(lines) if re.match(rf"\s+(--?[\w-]+, )?{option}[ ,]", line))
        explained = " ".join(lines[at : at + 2])  # a second name moves the words to the next line
        assert len(explained.split("  ")[-1]) > 5, explained


def test_version_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capfd.readouterr() == (f"wavescale {wavescale.__version__}\n", "")


def test_no_arguments_show_the_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    out, err = capfd.readouterr()
    assert "Commands:" in out + err


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["plan", "model", "--scale-width", "2"], ["plan", "model", "--scale-width", "1/7"]],
    ids=lambda arguments: " ".join(arguments),
)
def test_the_module_and_the_console_script_are_the_same(arguments: list[str], folder: Path) -> None:
    script, module = process(SCRIPT, *arguments, cwd=folder), process(MODULE, *arguments, cwd=folder)
    assert script.returncode in (0, 2)
    assert script.stdout + script.stderr
    assert (module.returncode, module.stdout, module.stderr) == (script.returncode, script.stdout, script.stderr)


def test_the_help_of_the_module_names_itself_and_is_else_that_of_the_console_script() -> None:
    script, module = process(SCRIPT, "--help"), process(MODULE, "--help")
    assert script.returncode == module.returncode == 0
    assert script.stdout.startswith("Usage: wavescale ")
    assert module.stdout.split("\n", 1)[1] == script.stdout.split("\n", 1)[1]


# Options of a resize that cannot be done, and words that its message must have.
REFUSED: dict[str, tuple[list[str], list[str]]] = {
    "size that is no number": (["--hidden-size", "wide"], ["--hidden-size", "integer"]),
    "size of zero": (["--layers", "0"], ["--layers", "0", "positive"]),
    "negative size": (["--hidden-size", "-8"], ["--hidden-size", "-8", "positive"]),
    "size that heads do not divide": (["--hidden-size", "26"], ["26", "24", "28", "--heads"]),
    "heads that do not divide": (["--heads", "5"], ["24", "5", "4", "6"]),
    "key-value heads of its own": (["--kv-heads", "2"], ["--kv-heads", "bert"]),
    "scale that fits nothing": (["--scale-width", "1/7"], ["scale_width", "24", "1/6"]),
    "scale that is no number": (["--scale-width", "much"], ["scale_width", "much", "2/3"]),
    "scale of zero": (["--scale-depth", "0"], ["scale_depth", "0"]),
    "division by zero": (["--scale-depth", "1/0"], ["scale_depth", "1/0"]),
    "unknown wavelet": (["--scale-width", "2/3", "--wavelet", "ripple"], ["ripple", "db2"]),
    "continuous wavelet": (["--scale-width", "2/3", "--wavelet", "morl"], ["morl"]),
    "unknown preset": (["--preset", "best"], ["best", "default", "paper", "weight-selection", "hypercloning"]),
    "unknown width": (["--width", "stretch"], ["stretch", "replicate", "tile", "signal", "select"]),
    "unknown depth": (["--depth", "stretch"], ["stretch", "insert", "signal", "stack", "first", "drop"]),
    "map that is no list": (["--layer-map", "0,x"], ["--layer-map", "0,x", "whole numbers", "0,2,4"]),
    "map with a negative layer": (["--layer-map", "-1,0"], ["--layer-map", "-1,0", "from 0"]),
    "map beyond the last layer": (["--layer-map", "0,3"], ["--layer-map", "layer 3", "3 layers", "0 to 2"]),
    "map of another length": (["--layer-map", "0,1", "--layers", "3"], ["--layer-map", "2 layers", "--layers", "3"]),
    "map beside a depth": (["--layer-map", "0,1", "--depth", "drop"], ["--layer-map", "'drop'", "Leave one"]),
    "cosines with another transform": (
        ["--method", "front-dct-corrected", "--width", "signal", "--scale-width", "2/3"],
        ["front-dct-corrected", "'signal'", "'dct' for both"],
    ),
    "random copies that shrink": (
        ["--scale-width", "2/3", "--method", "bert2bert-fpi"],
        ["fpi", "smaller", "Use width 'signal'"],
    ),
    "selection that grows": (["--scale-width", "2", "--preset", "weight-selection"], ["select", "larger", "replicate"]),
    "tiles between multiples": (
        ["--scale-width", "4/3", "--preset", "hypercloning"],
        ["tile", "24", "48", "replicate"],
    ),
    "unknown gain": (["--gain", "loud"], ["loud", "role", "orthonormal"]),
    "unknown dtype": (["--dtype", "int4"], ["int4", "bfloat16"]),
    "seed that is no number": (["--seed", "lucky"], ["--seed", "integer"]),
    "unknown device": (["--device", "abacus"], ["abacus", "cpu"]),
    "shards of no size": (["--max-shard-size", "large"], ["large", "5GB"]),
    "copies that shrink": (["--scale-width", "2/3", "--width", "replicate"], ["replicate", "signal"]),
    "insertion that shrinks": (["--layers", "1", "--depth", "insert"], ["insert", "signal"]),
    "unknown class": (["--architecture", "BertForEverything"], ["BertForEverything", "BertForMaskedLM"]),
    "class of another family": (["--architecture", "LlamaModel"], ["LlamaModel", "llama", "bert"]),
    "like what is not there": (["--like", "no/such/folder"], ["no/such/folder"]),
    "like an id of the hub": (["--like", "owner/model"], ["owner/model", "HF_HUB_OFFLINE"]),
    "unknown option": (["--shrink"], ["--shrink"]),
    "option without value": (["--hidden-size"], ["--hidden-size"]),
}


@pytest.mark.parametrize(("options", "words"), REFUSED.values(), ids=REFUSED)
def test_options_that_cannot_be_used_are_refused_in_one_message_and_nothing_is_written(
    options: list[str], words: list[str], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = listing(folder.parent)
    code = run(["resize", "model", "out", *options])
    out, err = capfd.readouterr()
    assert_one_message(code, out, err)
    for word in words:
        assert word in err
    assert listing(folder.parent) == before


def refused(model: str, folder: Path, capfd: pytest.CaptureFixture[str], *options: str, out: str = "out") -> str:
    """Check that both commands refuse a model (an output: that resize does); returns what they say."""
    before = listing(folder.parent)
    code = run(["resize", model, out, "--layers", "2", *options])
    stdout, err = capfd.readouterr()
    assert_one_message(code, stdout, err)
    assert listing(folder.parent) == before
    if out == "out":
        code = run(["plan", model, "--layers", "2"])
        stdout, planned = capfd.readouterr()
        assert_one_message(code, stdout, planned)
        assert planned == err
    return err


def test_an_unknown_family_is_refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    edit_config(folder / "model", model_type="mamba")
    message = refused("model", folder, capfd)
    assert "'mamba'" in message
    assert "llama" in message


def test_a_config_without_family_is_refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    edit_config(folder / "model", model_type=None)
    assert "--architecture" in refused("model", folder, capfd)


@pytest.mark.parametrize("name", ["owner/model", "bert-nowhere", "owner/my--model"])
def test_an_id_of_the_hub_is_refused_offline(name: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert name in refused(name, folder, capfd)


def test_an_id_of_the_hub_is_refused_offline_by_the_console_script_as_well(folder: Path) -> None:
    before = listing(folder)
    done = process(SCRIPT, "resize", "owner/model", "out", "--scale-width", "2", cwd=folder)
    assert_one_message(done.returncode, done.stdout, done.stderr)
    assert "owner/model" in done.stderr
    assert listing(folder) == before


@pytest.mark.parametrize("name", ["no/such/folder", "./nothing", "/nowhere", "model/model.safetensors", ""])
def test_a_model_that_is_not_there_is_refused(name: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert name.removeprefix("./") in refused(name, folder, capfd)


def test_a_damaged_config_is_refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "model" / "config.json").write_text("{")
    assert "config.json" in refused("model", folder, capfd)


def test_damaged_weights_are_refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    weights = folder / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "model.safetensors" in refused("model", folder, capfd)


def test_missing_tensors_are_refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    weights = folder / "model" / "model.safetensors"
    values = load_file(weights)
    del values["encoder.layer.2.output.dense.bias"]
    save_file(values, weights, {"format": "pt"})
    assert "encoder.layer.2.output.dense.bias" in refused("model", folder, capfd)


@pytest.mark.parametrize("out", ["there", "model", "file", "missing/out"])
def test_an_output_that_cannot_be_written_is_refused(out: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "there").mkdir()
    (folder / "there" / "notes.txt").write_text("mine")
    (folder / "file").write_text("mine")
    assert out.partition("/")[0] in refused("model", folder, capfd, out=out)


@pytest.mark.parametrize("out", ["there", "model", "file"])
def test_overwriting_what_is_no_output_is_refused(out: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "there").mkdir()
    (folder / "there" / "notes.txt").write_text("mine")
    (folder / "file").write_text("mine")
    assert out in refused("model", folder, capfd, "--overwrite", out=out)


def test_a_source_with_nan_is_refused_and_nothing_is_left(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    weights = folder / "model" / "model.safetensors"
    values = load_file(weights)
    name = "encoder.layer.2.output.dense.bias"
    values[name][0] = torch.nan
    save_file(values, weights, {"format": "pt"})
    before = listing(folder)
    code = run(["resize", "model", "out", "--layers", "2", "-q"])
    out, err = capfd.readouterr()
    assert_one_message(code, out, err)
    assert name in err
    assert listing(folder) == before


@pytest.mark.parametrize("command", ["resize", "plan", "inspect", "verify"])
def test_missing_arguments_are_refused(command: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = listing(folder)
    code = run([command])
    out, err = capfd.readouterr()
    assert_one_message(code, out, err)
    assert "MODEL" in err
    assert listing(folder) == before


IMPORTS = """
import json, sys
from wavescale.cli import run
for arguments in json.loads(sys.argv[1]):
    code = run(arguments)
    loaded = [name for name in ("torch", "transformers") if name in sys.modules]
    if code or loaded:
        sys.exit(f"{arguments}: exit code {code}, imported {loaded}")
"""


@pytest.mark.parametrize(
    "commands",
    [
        [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)],
        [
            ["plan", "model/config.json", "--layers", "5"],
            ["plan", "model", "--scale-width", "2/3"],
            ["plan", "model", "--hidden-size", "32", "--preset", "paper"],
            ["plan", "model", "--like", "config only", "--dtype", "bfloat16"],
            ["plan", "config only", "--layers", "1", "--wavelet", "db2", "--json"],
            ["plan", "model", "--scale-width", "2/3", "--layer-map", "0,2", "--preset", "weight-selection"],
            ["plan", "model", "--scale-width", "2", "--preset", "hypercloning"],
        ],
    ],
    ids=["help", "plan"],
)
def test_help_and_plan_import_neither_torch_nor_transformers(commands: list[list[str]], folder: Path) -> None:
    (folder / "config only").mkdir()
    (folder / "config only" / "config.json").write_bytes((folder / "model" / "config.json").read_bytes())
    done = process([sys.executable, "-c", IMPORTS], json.dumps(commands), cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_a_plan_as_json_is_the_plan(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "model", "--hidden-size", "32", "--layers", "5", "--json"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert json.loads(out)["kind"] == "Plan"
    found = Plan.from_json(out)
    expected = wavescale.plan_resize(folder / "model", hidden_size=32, num_hidden_layers=5)
    assert found == expected
    assert dict(found.config) == dict(expected.config)


@pytest.mark.usefixtures("folder")
def test_a_plan_lists_sizes_reasons_and_every_tensor(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "model", "--hidden-size", "48"]) == 0
    grouped = capfd.readouterr().out
    assert "BertModel (bert)" in grouped
    assert "given" in grouped
    assert "follows hidden_size" in grouped
    assert "encoder.layer.{0..2}.output.dense.weight  [48, 72] float32" in grouped
    assert run(["plan", "model", "--hidden-size", "48", "--verbose"]) == 0
    every = capfd.readouterr().out
    for layer in range(3):
        assert f"encoder.layer.{layer}.output.dense.weight  [48, 72] float32" in every


def test_planning_writes_nothing(folder: Path) -> None:
    before = listing(folder.parent)
    assert run(["plan", "model", "--hidden-size", "32"]) == 0
    assert listing(folder.parent) == before


def test_a_quiet_resize_prints_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["resize", "model", "out", "--scale-width", "2", "-q"]) == 0
    assert capfd.readouterr() == ("", "")
    assert (folder / "out" / "model.safetensors").is_file()


def test_a_quiet_resize_of_the_console_script_prints_nothing(folder: Path) -> None:
    done = process(SCRIPT, "resize", "model", "out", "--scale-width", "2", "--quiet", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (folder / "out" / "model.safetensors").is_file()


def test_a_quiet_resize_that_calibrates_prints_nothing_either(tmp_path: Path) -> None:
    make(Case("gpt2", "GPT2LMHeadModel")).save_pretrained(tmp_path / "model")
    done = process(SCRIPT, "resize", "model", "out", "--layers", "1", "-q", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_resize_says_its_plan_and_where_it_went(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["resize", "model", "out", "--scale-width", "2"]) == 0
    out, err = capfd.readouterr()
    assert err == ""  # no bar where nobody watches
    plan = wavescale.plan_resize(folder / "model", scale_width=2)
    assert out.splitlines() == [*plan.lines(tensors=False), "written: out"]
    assert run(["resize", "model", "out", "--scale-width", "2", "--verbose", "--overwrite"]) == 0
    assert set(plan.tensor_lines(every=True)) <= {line.strip() for line in capfd.readouterr().out.splitlines()}


@pytest.mark.parametrize(
    ("width", "depth", "sizes"),
    [
        ("2/3", "2/3", (16, 2, 4, 24)),
        ("1/3", "1/3", (8, 1, 2, 12)),
        ("4/3", "5/3", (32, 5, 8, 48)),
        ("0.5", "1", (12, 3, 3, 18)),
        ("1.5", "2.0", (36, 6, 9, 54)),
        ("2", "2", (48, 6, 12, 72)),
    ],
)
def test_scales_are_fractions_or_decimals(
    width: str, depth: str, sizes: tuple[int, ...], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["resize", "model", "out", "--scale-width", width, "--scale-depth", depth, "-q"]) == 0
    config = json.loads((folder / "out" / "config.json").read_text())
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    assert tuple(config[name] for name in names) == sizes
    assert run(["plan", "model", "--scale-width", width, "--scale-depth", depth, "--json"]) == 0
    assert capfd.readouterr().out.strip() == (folder / "out" / "wavescale.json").read_text().strip()


@pytest.mark.parametrize("spelling", ["other", "other/config.json"])
def test_sizes_are_taken_from_another_model(spelling: str, folder: Path) -> None:
    make(BERT, hidden_size=32, num_attention_heads=2, num_hidden_layers=1).save_pretrained(folder / "other")
    assert run(["resize", "model", "out", "--like", spelling, "-q"]) == 0
    config, other = (json.loads((folder / name / "config.json").read_text()) for name in ("out", "other"))
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    assert [config[name] for name in names] == [other[name] for name in names] == [32, 1, 2, 24]


def test_options_reach_the_plan(folder: Path) -> None:
    options = ["--preset", "paper", "--width", "signal", "--depth", "stack", "--wavelet", "db2", "--gain", "role",
               "--seed", "5", "--dtype", "bfloat16", "--heads", "12", "--hidden-size", "48",
               "--intermediate-size", "50", "--layers", "6", "--architecture", "BertModel",
               "--max-shard-size", "10KB"]  # fmt: skip
    assert run(["resize", "model", "out", "-q", *options]) == 0
    plan = Plan.from_json((folder / "out" / "wavescale.json").read_text())
    choices = plan.choices
    assert (choices.preset, choices.width, choices.depth, choices.wavelet, choices.gain, choices.seed) == (
        "paper", "signal", "stack", "db2", "role", 5
    )  # fmt: skip
    assert (plan.target.num_attention_heads, plan.target.intermediate_size, plan.target.num_hidden_layers) == (
        12,
        50,
        6,
    )
    assert {tensor.dtype for tensor in plan.tensors} == {"bfloat16"}
    assert (folder / "out" / "model.safetensors.index.json").is_file()


@pytest.mark.parametrize("command", ["resize", "plan"])
def test_a_layer_map_reaches_the_plan(command: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    expected = wavescale.plan_resize(folder / "model", layer_map=[0, 2, 2, 1])
    if command == "plan":
        assert run(["plan", "model", "--layer-map", "0,2,2,1", "--json"]) == 0
        text = capfd.readouterr().out
    else:
        assert run(["resize", "model", "out", "--layer-map", "0,2,2,1", "-q"]) == 0
        text = (folder / "out" / "wavescale.json").read_text()
        assert json.loads((folder / "out" / "config.json").read_text())["num_hidden_layers"] == 4
        values, source = (load_file(folder / name / "model.safetensors") for name in ("out", "model"))
        name = "encoder.layer.{}.output.dense.weight"
        for layer, origin in enumerate((0, 2, 2, 1)):
            assert torch.equal(values[name.format(layer)], source[name.format(origin)])
    assert Plan.from_json(text) == expected


# What each preset of others is tried on.
OTHERS = {
    "weight-selection": "--scale-width 2/3",
    "hypercloning": "--scale-width 2",
    **dict.fromkeys(
        ("bert2bert-fpi", "bert2bert-aki", "stack", "interleave", "llama-pro", "random"), "--scale-width 2 --layers 5"
    ),
    **dict.fromkeys(("front-dct", "front-dct-corrected"), "--scale-width 1/2 --layers 2"),
}


@pytest.mark.parametrize("option", ["--preset", "--method"])
@pytest.mark.parametrize("preset", OTHERS)
def test_presets_of_others_reach_the_plan(preset: str, option: str, folder: Path) -> None:
    sizes = OTHERS[preset].split()
    assert run(["resize", "model", "out", option, preset, *sizes, "-q"]) == 0
    plan = Plan.from_json((folder / "out" / "wavescale.json").read_text())
    named = dict(zip(sizes[::2], sizes[1::2], strict=True))
    layers = int(named["--layers"]) if "--layers" in named else None
    assert plan == wavescale.plan_resize(
        folder / "model", preset=preset, scale_width=named["--scale-width"], num_hidden_layers=layers
    )
    assert plan.choices.preset == preset


def test_every_preset_is_tried_and_explained(capfd: pytest.CaptureFixture[str]) -> None:
    assert {*OTHERS, "default", "paper", "ligo", "mango"} == set(PRESETS)  # the last two are trained
    docs = [Path(__file__).parents[1] / name for name in ("README.md", "docs/methods.md")]
    kinds = get_type_hints(Choices)
    values = {
        *PRESETS,
        *(value for name in ("width", "depth", "order", "gain", "details") for value in get_args(kinds[name])),
    }
    for page in docs:
        text = page.read_text(encoding="utf-8")
        assert [value for value in sorted(values - {"auto"}) if f"`{value}`" not in text] == []
    for command in ("plan", "resize"):
        run([command, "--help"])
        text = re.sub(r"-\s+", "-", capfd.readouterr().out)  # lines may break within a name
        assert set(re.findall(r"[\w-]+", text)) >= {"--method", "--preset", *PRESETS}


def test_the_tree_of_the_readme_is_whole() -> None:
    home = Path(__file__).parents[1]
    _, _, tree = (home / "README.md").read_text(encoding="utf-8").partition("## The tree")
    told = set(re.findall(r"^  ([\w/]+\.py) ", tree, re.MULTILINE))
    package = home / "src" / "wavescale"
    found = {str(path.relative_to(package)) for path in package.rglob("*.py")}
    assert told <= found
    assert [name for name in found - told if not name.endswith("/__init__.py")] == []


def test_overwriting_replaces_the_output(folder: Path) -> None:
    assert run(["resize", "model", "out", "--scale-width", "2", "-q"]) == 0
    assert run(["resize", "model", "out", "--scale-width", "1/2", "-q", "--overwrite"]) == 0
    assert json.loads((folder / "out" / "config.json").read_text())["hidden_size"] == 12
    assert {path.name for path in folder.iterdir()} == {"model", "out"}


def test_sizes_go_by_the_names_of_the_config_as_well(folder: Path) -> None:
    given = ["--num-hidden-layers", "6", "--num-attention-heads", "12", "--hidden-size", "48"]
    assert run(["resize", "model", "out", "-q", *given]) == 0
    config = json.loads((folder / "out" / "config.json").read_text())
    assert (config["num_hidden_layers"], config["num_attention_heads"]) == (6, 12)


def test_a_polite_end_leaves_nothing_behind(folder: Path) -> None:
    model = make(BERT, hidden_size=256, num_hidden_layers=24, num_attention_heads=4, intermediate_size=1024)
    model.save_pretrained(folder / "large")
    command = [*MODULE, "resize", "large", "out", "--scale-width", "4"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    running = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    while running.poll() is None and not list(folder.glob(".out.*.partial")):
        time.sleep(0.01)
    running.terminate()
    assert running.wait(60) == 128 + signal.SIGTERM
    assert {path.name for path in folder.iterdir()} == {"model", "large"}


@pytest.mark.parametrize("environment", [{"RANK": "1"}, {"RANK": "1", "WORLD_SIZE": ""}], ids=str)
def test_a_process_that_is_alone_says_what_is_wrong(
    environment: dict[str, str], folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert "no such local folder" in refused("nothing/there", folder, capfd)
    assert run(["resize", "model", "out", "--scale-width", "2", "-q"]) == 0


@pytest.mark.usefixtures("folder")
def test_a_number_of_processes_that_is_none_is_refused(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    assert run(["resize", "model", "out", "--scale-width", "2", "-q"]) == 2
    assert "WORLD_SIZE is 'two', expected a number of processes" in capfd.readouterr().err
