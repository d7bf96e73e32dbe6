from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

import wavescale
from tiny import CASES, MAIN_CASES, Case, difference, inputs_for, make, outputs
from wavescale.architectures import FAMILIES
from wavescale.checkpoint import open_checkpoint
from wavescale.cli import run
from wavescale.errors import CheckpointError, OptionError, OutputError, SizeError, UnknownArchitectureError
from wavescale.plan import Plan

TIED, UNTIED = ("tie_word_embeddings", True), ("tie_word_embeddings", False)
RESIZED_CASES = [
    *MAIN_CASES,
    Case("bert", "BertForPreTraining", (UNTIED,)),
    Case("roberta", "RobertaForCausalLM", (("is_decoder", True), UNTIED)),
    Case("gpt2", "GPT2DoubleHeadsModel", (TIED,)),
    Case("gpt2", "GPT2LMHeadModel", (UNTIED,)),
    Case("vit", "ViTModel", (("pooler_output_size", 10),)),
    Case("deit", "DeiTForMaskedImageModeling"),
    Case("llama", "LlamaForCausalLM", (TIED,)),
    Case("qwen3", "Qwen3ForCausalLM", (TIED, ("head_dim", 6))),
]
# All start from 2 layers of width 16 with 4 heads (2 key-value heads) and 24 units.
DIRECTIONS: dict[str, dict[str, Any]] = {
    "grown": {"hidden_size": 40, "num_attention_heads": 10, "num_key_value_heads": 5, "num_hidden_layers": 5},
    "shrunk": {"hidden_size": 12, "num_attention_heads": 3, "num_key_value_heads": 1, "num_hidden_layers": 1,
               "intermediate_size": 14},
    "mixed": {"hidden_size": 20, "num_attention_heads": 5, "num_key_value_heads": 1, "num_hidden_layers": 1},
}  # fmt: skip
FLAGS = {"num_hidden_layers": "--layers", "num_attention_heads": "--heads", "num_key_value_heads": "--kv-heads"}


def digest(folder: Path) -> dict[str, tuple[str, int]]:
    """Contents and time of the last change of every file."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def state(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert torch.equal(found[name], value), name


def load(folder: Path, class_name: str) -> tuple[PreTrainedModel, dict[str, Any]]:
    model, info = getattr(transformers, class_name).from_pretrained(folder, output_loading_info=True)
    return model, info


@dataclass
class Resized:
    """One model, resized in memory, on disk and by the command line."""

    case: Case
    sizes: dict[str, Any]
    source: PreTrainedModel
    model: PreTrainedModel
    loaded: PreTrainedModel
    loading: dict[str, Any]
    plan: Plan
    folder: Path
    before: tuple[dict[str, torch.Tensor], dict[str, Any], dict[str, tuple[str, int]]]
    exit_code: int

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    @property
    def command_line(self) -> Path:
        return self.folder / "command line"


def sizes_for(case: Case, direction: str) -> dict[str, Any]:
    grouped = "num_key_value_heads" in FAMILIES[case.family].fields
    return {name: size for name, size in DIRECTIONS[direction].items() if grouped or name != "num_key_value_heads"}


@pytest.fixture(scope="module", params=RESIZED_CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture(scope="module", params=DIRECTIONS)
def resized(case: Case, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Resized:
    sizes = sizes_for(case, request.param)
    folder = tmp_path_factory.mktemp("resized")
    source = make(case)
    source.save_pretrained(folder / "source")
    before = state(source), source.config.to_dict(), digest(folder / "source")
    model = wavescale.resize(source, **sizes)
    plan = wavescale.resize_checkpoint(folder / "source", folder / "disk", **sizes)
    options = [text for name, size in sizes.items()
               for text in (FLAGS.get(name, "--" + name.replace("_", "-")), str(size))]  # fmt: skip
    exit_code = run(["resize", str(folder / "source"), str(folder / "command line"), "-q", *options])
    loaded, loading = load(folder / "disk", case.class_name)
    return Resized(case, sizes, source, model, loaded, loading, plan, folder, before, exit_code)


def test_memory_disk_and_command_line_give_the_same_bits(resized: Resized) -> None:
    assert resized.exit_code == 0
    written = [load_file(path / "model.safetensors") for path in (resized.disk, resized.command_line)]
    assert_same(written[0], written[1])
    assert (resized.disk / "model.safetensors").read_bytes() == (
        resized.command_line / "model.safetensors"
    ).read_bytes()
    assert_same(state(resized.model), state(resized.loaded))
    resized.model.save_pretrained(resized.folder / "saved")
    assert_same(load_file(resized.folder / "saved" / "model.safetensors"), written[0])


def test_the_output_has_the_sizes_that_were_asked_for(resized: Resized) -> None:
    fields = FAMILIES[resized.case.family].fields
    config = json.loads((resized.disk / "config.json").read_text())
    for name, size in resized.sizes.items():
        assert getattr(resized.model.config, fields[name]) == config[fields[name]] == size
        assert getattr(resized.plan.target, name) == size


def test_the_output_loads_without_remarks_and_runs(resized: Resized) -> None:
    assert {kind: list(found) for kind, found in resized.loading.items() if found} == {}
    assert type(resized.loaded) is type(resized.model) is type(resized.source)
    in_memory, from_disk = outputs(resized.model), outputs(resized.loaded)
    assert in_memory.keys() == from_disk.keys() == outputs(resized.source).keys()
    for name, value in from_disk.items():
        assert torch.isfinite(value).all()
        assert in_memory[name].shape == value.shape
        assert torch.allclose(in_memory[name], value, rtol=1e-4, atol=1e-4)


def test_the_plan_says_truly_whether_the_function_is_kept(resized: Resized) -> None:
    if resized.case.class_name.endswith("Model") and resized.plan.target.hidden_size < resized.plan.source.hidden_size:
        assert not resized.plan.keeps_function  # hidden states of fewer channels cannot be those of more
    else:
        assert (difference(resized.source, resized.loaded) < 1e-4) == resized.plan.keeps_function


def test_the_config_in_memory_and_on_disk_agree(resized: Resized) -> None:
    on_disk, in_memory = resized.loaded.config.to_dict(), resized.model.config.to_dict()
    for config in (on_disk, in_memory):
        config.pop("_name_or_path", None)
        config.pop("architectures")
    assert in_memory == on_disk


def test_all_else_in_the_config_is_as_in_the_source(resized: Resized) -> None:
    before, after = (
        json.loads((path / "config.json").read_text()) for path in (resized.folder / "source", resized.disk)
    )
    changing = {*FAMILIES[resized.case.family].fields.values(), "layer_types", "pooler_output_size"}
    assert {k: v for k, v in after.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }


def test_the_source_is_left_as_it_was(resized: Resized) -> None:
    weights, config, files = resized.before
    assert_same(state(resized.source), weights)
    assert resized.source.config.to_dict() == config
    assert digest(resized.folder / "source") == files


def test_every_parameter_has_storage_of_its_own(resized: Resized) -> None:
    found = list(resized.model.parameters())
    places = [parameter.untyped_storage().data_ptr() for parameter in found]
    assert len(set(places)) == len(places)
    assert not set(places) & {parameter.untyped_storage().data_ptr() for parameter in resized.source.parameters()}
    for parameter in found:
        assert parameter.untyped_storage().nbytes() == parameter.nbytes
        assert parameter.is_contiguous()


def test_ties_stay_ties_and_nothing_else_is_tied(resized: Resized) -> None:
    def groups(model: PreTrainedModel) -> set[frozenset[str]]:
        names: dict[int, set[str]] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            names.setdefault(id(parameter), set()).add(re.sub(r"\.\d+\.", ".*.", name))
        return {frozenset(group) for group in names.values()}

    assert groups(resized.model) == groups(resized.source) == groups(resized.loaded)
    stored = load_file(resized.disk / "model.safetensors")
    assert sum(value.numel() for value in stored.values()) == resized.plan.parameters
    assert resized.plan.parameters == sum(parameter.numel() for parameter in resized.model.parameters())


def test_the_plan_in_the_output_reads_back_equal(resized: Resized) -> None:
    plan = Plan.from_json((resized.disk / "wavescale.json").read_text())
    assert dict(plan.config) == dict(resized.plan.config)
    assert replace(plan, config={}) == replace(resized.plan, config={})
    assert (resized.command_line / "wavescale.json").read_text() == (resized.disk / "wavescale.json").read_text()


def test_the_plan_is_the_one_that_was_announced(resized: Resized) -> None:
    announced = wavescale.plan_resize(resized.folder / "source", **resized.sizes)
    from_config = wavescale.plan_resize(resized.folder / "source" / "config.json", **resized.sizes)
    assert announced == resized.plan
    assert {tensor.name: tensor for tensor in from_config.tensors} == {t.name: t for t in announced.tensors}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("other", [case for case in CASES if case not in RESIZED_CASES], ids=str)
def test_every_class_loads_without_remarks_and_runs(other: Case, direction: str, tmp_path: Path) -> None:
    sizes = sizes_for(other, direction)
    make(other).save_pretrained(tmp_path / "source")
    wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "out", **sizes)
    loaded, loading = load(tmp_path / "out", other.class_name)
    assert {kind: list(found) for kind, found in loading.items() if found} == {}
    assert all(torch.isfinite(value).all() for value in outputs(loaded).values())


@cache
def model_of(case: Case, **settings: Any) -> PreTrainedModel:
    return make(case, **settings)


LLAMA = Case("llama", "LlamaForCausalLM")
TIED_LLAMA = Case("llama", "LlamaForCausalLM", (TIED,))
BERT = Case("bert", "BertForMaskedLM")
GPT2 = Case("gpt2", "GPT2LMHeadModel")


def saved(case: Case, folder: Path, **settings: Any) -> Path:
    model_of(case, **settings).save_pretrained(folder)
    return folder


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    values = load_file(folder / "model.safetensors")
    change(values)
    save_file(values, folder / "model.safetensors", {"format": "pt"})


def edit_config(folder: Path, **values: Any) -> None:
    """Set fields of a config.json; None takes a field out."""
    config = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


@pytest.mark.parametrize("save", ["bin", "legacy", "shards"])
@pytest.mark.parametrize("case", [BERT, TIED_LLAMA], ids=str)
def test_the_layout_of_the_source_does_not_matter(case: Case, save: str, tmp_path: Path) -> None:
    source = saved(case, tmp_path / "source")
    other = tmp_path / "other"
    if save == "shards":
        model_of(case).save_pretrained(other, max_shard_size=3000)
        assert len(list(other.glob("model-*.safetensors"))) > 2
    else:
        other.mkdir()
        (other / "config.json").write_bytes((source / "config.json").read_bytes())
        # A state_dict holds tied tensors under both names.
        torch.save(model_of(case).state_dict(), other / "pytorch_model.bin",
                   _use_new_zipfile_serialization=save == "bin")  # fmt: skip
    for folder in (source, other):
        wavescale.resize_checkpoint(folder, tmp_path / f"{folder.name} out", hidden_size=32, num_hidden_layers=1)
    assert_same(
        load_file(tmp_path / "other out" / "model.safetensors"),
        load_file(tmp_path / "source out" / "model.safetensors"),
    )


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_kept(training: bool) -> None:
    model = make(BERT).train(training)
    found = wavescale.resize(model, hidden_size=32)
    assert {module.training for module in found.modules()} == {training}
    assert {module.training for module in model.modules()} == {training}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("case", [BERT, TIED_LLAMA], ids=str)
def test_the_dtype_is_kept_in_memory_and_on_disk(case: Case, dtype: torch.dtype, tmp_path: Path) -> None:
    model = make(case, dtype)
    model.save_pretrained(tmp_path / "source")
    found = wavescale.resize(model, hidden_size=32)
    assert {parameter.dtype for parameter in found.parameters()} == {dtype}
    wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "out", hidden_size=32)
    loaded, _ = load(tmp_path / "out", case.class_name)
    assert loaded.config.dtype == dtype
    assert_same(state(loaded), state(found))


def test_the_dtype_of_a_model_that_was_converted_after_loading_is_kept(tmp_path: Path) -> None:
    model, _ = load(saved(BERT, tmp_path / "source"), BERT.class_name)
    found = wavescale.resize(model.half(), hidden_size=32)
    assert {parameter.dtype for parameter in found.parameters()} == {torch.float16}
    assert found.config.dtype == torch.float16


def test_tensors_of_several_dtypes_each_keep_their_own(tmp_path: Path) -> None:
    source = saved(LLAMA, tmp_path / "source")

    def mix(values: dict[str, torch.Tensor]) -> None:
        for name, value in values.items():
            values[name] = value if "norm" in name else value.to(torch.bfloat16)

    edit(source, mix)
    wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32)
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert {name: value.dtype for name, value in found.items()} == {
        name: torch.float32 if "norm" in name else torch.bfloat16 for name in found
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_dtype_option_rounds_what_float32_gives(dtype: torch.dtype, tmp_path: Path) -> None:
    source = saved(BERT, tmp_path / "source")
    name = str(dtype).removeprefix("torch.")
    wavescale.resize_checkpoint(source, tmp_path / "plain", hidden_size=24, num_hidden_layers=1)
    wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=24, num_hidden_layers=1, dtype=name)
    code = run(["resize", str(source), str(tmp_path / "cli"), "-q", "--hidden-size", "24", "--layers", "1",
                "--dtype", name])  # fmt: skip
    assert code == 0
    plain, out, cli = (load_file(tmp_path / n / "model.safetensors") for n in ("plain", "out", "cli"))
    assert_same(out, {name: value.to(dtype) for name, value in plain.items()})
    assert_same(cli, out)
    loaded, _ = load(tmp_path / "out", "BertForMaskedLM")
    assert loaded.dtype == loaded.config.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_dtype_option_works_in_memory_as_on_disk(dtype: torch.dtype, tmp_path: Path) -> None:
    name = str(dtype).removeprefix("torch.")
    found = wavescale.resize(model_of(BERT), hidden_size=24, dtype=name)
    wavescale.resize_checkpoint(saved(BERT, tmp_path / "source"), tmp_path / "out", hidden_size=24, dtype=name)
    loaded, _ = load(tmp_path / "out", "BertForMaskedLM")
    assert found.dtype == found.config.dtype == dtype
    assert_same(state(found), state(loaded))


def test_values_beyond_the_range_of_the_dtype_are_refused_by_name(tmp_path: Path) -> None:
    source = saved(BERT, tmp_path / "source")
    name = "bert.encoder.layer.1.output.dense.weight"
    edit(source, lambda values: values[name].mul_(1e6))
    with pytest.raises(CheckpointError, match=rf"{re.escape(name)}.*float16") as caught:
        wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32, dtype="float16")
    assert "bfloat16" in str(caught.value)
    wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32, dtype="bfloat16")


@pytest.mark.parametrize("dtype", ["float8", "int8", "torch.int8", ""])
def test_an_unknown_dtype_is_refused(dtype: str) -> None:
    with pytest.raises(OptionError, match=r"dtype .* is unknown; use one of .*bfloat16"):
        wavescale.resize(model_of(BERT), hidden_size=32, dtype=dtype)


def test_generation_settings_come_along_and_are_not_shared() -> None:
    model = make(LLAMA)
    model.generation_config.max_new_tokens = 7
    found = wavescale.resize(model, hidden_size=32)
    assert found.generation_config.max_new_tokens == 7
    found.generation_config.max_new_tokens = 9
    assert model.generation_config.max_new_tokens == 7


# Windows shorter than the 9 tokens of the test inputs: the layers' types matter for what comes out.
SLIDING = Case(
    "qwen2",
    "Qwen2ForCausalLM",
    (("use_sliding_window", True), ("sliding_window", 3), ("max_window_layers", 1)),
)


@pytest.mark.parametrize("depth", [1, 3, 4, 5])
@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
@pytest.mark.parametrize("written", [True, False], ids=["written", "by max_window_layers"])
def test_types_of_layers_follow_the_layers(family: str, depth: int, written: bool, tmp_path: Path) -> None:
    case = replace(SLIDING, family=family, class_name=f"{family.capitalize()}ForCausalLM")
    source = saved(case, tmp_path / "source")
    types = json.loads((source / "config.json").read_text())["layer_types"]
    assert types == ["full_attention", "sliding_attention"]
    if not written:
        edit_config(source, layer_types=None)
    plan = wavescale.resize_checkpoint(source, tmp_path / "out", num_hidden_layers=depth)
    found = json.loads((tmp_path / "out" / "config.json").read_text())["layer_types"]
    assert len(found) == depth
    if depth > 2:
        assert plan.keeps_function
        assert set(found) == set(types)
        loaded, _ = load(tmp_path / "out", case.class_name)
        assert difference(model_of(case), loaded) < 1e-4


def test_a_head_dim_of_its_own_stays(tmp_path: Path) -> None:
    case = Case("qwen3", "Qwen3ForCausalLM", (("head_dim", 6),))
    wavescale.resize_checkpoint(saved(case, tmp_path / "source"), tmp_path / "out", hidden_size=32)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["head_dim"], config["num_attention_heads"]) == (6, 8)


def test_a_head_dim_that_the_config_leaves_out_is_written_where_it_no_longer_follows(tmp_path: Path) -> None:
    source = saved(Case("qwen2", "Qwen2ForCausalLM"), tmp_path / "source")
    edit_config(source, head_dim=None)
    wavescale.resize_checkpoint(source, tmp_path / "same", hidden_size=32)
    assert "head_dim" not in json.loads((tmp_path / "same" / "config.json").read_text())
    wavescale.resize_checkpoint(source, tmp_path / "more", num_attention_heads=8, num_key_value_heads=4)
    assert json.loads((tmp_path / "more" / "config.json").read_text())["head_dim"] == 4
    loaded, info = load(tmp_path / "more", "Qwen2ForCausalLM")
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert difference(model_of(Case("qwen2", "Qwen2ForCausalLM")), loaded) < 1e-4


@pytest.mark.parametrize(
    ("n_inner", "sizes", "expected"),
    [
        (None, {"hidden_size": 32}, None),
        (None, {"hidden_size": 32, "intermediate_size": 96}, 96),
        (None, {"intermediate_size": 80}, 80),
        (64, {"hidden_size": 32}, 128),
        (24, {"hidden_size": 32}, 48),
    ],
)
def test_n_inner_follows(n_inner: int | None, sizes: dict[str, Any], expected: int | None, tmp_path: Path) -> None:
    model = make(GPT2, n_inner=n_inner)
    model.save_pretrained(tmp_path / "source")
    wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "out", **sizes)
    assert json.loads((tmp_path / "out" / "config.json").read_text()).get("n_inner") == expected
    loaded, _ = load(tmp_path / "out", GPT2.class_name)
    assert loaded.config.n_inner == expected
    assert difference(model, loaded) < 1e-4


@pytest.mark.parametrize(("pooled", "expected"), [(None, 32), (16, 32), (10, 10)])
def test_pooler_output_size_follows_where_it_was_the_width(pooled: int | None, expected: int, tmp_path: Path) -> None:
    source = tmp_path / "source"
    make(Case("vit", "ViTModel"), pooler_output_size=pooled).save_pretrained(source)
    wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["pooler_output_size"] == expected
    loaded, info = load(tmp_path / "out", "ViTModel")
    assert not info["mismatched_keys"]
    assert loaded.pooler.dense.weight.shape == (expected, 32)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "name", ["model.layers.1.mlp.down_proj.weight", "model.embed_tokens.weight", "model.norm.weight"]
)
def test_a_source_with_nan_or_infinity_is_refused_by_name(name: str, bad: float, tmp_path: Path) -> None:
    source = saved(LLAMA, tmp_path / "source")
    edit(source, lambda values: values[name].view(-1)[3].fill_(bad))
    with pytest.raises(CheckpointError, match=rf"^{re.escape(name)}: 1 of \d+ values") as caught:
        wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32, num_hidden_layers=3)
    assert "damaged" in str(caught.value)
    model = make(LLAMA)
    with torch.no_grad():
        model.get_parameter(name).view(-1)[3] = bad
    with pytest.raises(CheckpointError, match=f"^{re.escape(name)}: 1 of"):
        wavescale.resize(model, hidden_size=32)


def test_a_missing_tensor_is_named_with_the_shape_that_it_should_have(tmp_path: Path) -> None:
    source = saved(BERT, tmp_path / "source")
    name = "bert.encoder.layer.1.output.dense.weight"
    edit(source, lambda values: values.__delitem__(name))
    with pytest.raises(CheckpointError, match=rf"^{re.escape(name)}: missing.*\[16, 24\]"):
        wavescale.plan_resize(source, hidden_size=32)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((17, 24), ("'hidden'", "17", "16")),
        ((16, 25), ("'intermediate'", "25", "24")),
        ((384,), ("1 axes", "[16, 24]")),
    ],
)
def test_a_misshapen_tensor_is_named_with_both_shapes(
    shape: tuple[int, ...], words: tuple[str, ...], tmp_path: Path
) -> None:
    source = saved(BERT, tmp_path / "source")
    name = "bert.encoder.layer.1.output.dense.weight"
    edit(source, lambda values: values.update({name: torch.zeros(shape)}))
    with pytest.raises(CheckpointError, match=re.escape(name)) as caught:
        wavescale.plan_resize(source, hidden_size=32)
    for word in words:
        assert word in str(caught.value)


def test_extra_tensors_are_carried_over_where_no_axis_of_theirs_changes(tmp_path: Path) -> None:
    source = saved(BERT, tmp_path / "source")
    extra = {"v_head.weight": torch.randn(1, 10), "bert.encoder.layer.5.scale": torch.randn(3)}
    edit(source, lambda values: values.update(extra))
    plan = wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32)
    assert any("carried over unchanged" in remark and "v_head.weight" in remark for remark in plan.remarks)
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(written[name], value) for name, value in extra.items())
    assert wavescale.verify(source, tmp_path / "out").kept
    assert wavescale.resize_into(make(BERT, hidden_size=32, num_attention_heads=8), source).keeps_function


@pytest.mark.parametrize(
    ("name", "shape", "sizes", "reason"),
    [
        ("v_head.weight", (1, 16), {"hidden_size": 32}, "may have an axis that changes, of length 16"),
        ("eh_proj.weight", (16, 32), {"hidden_size": 32}, "may have an axis that changes, of length 16"),
        ("bert.encoder.layer.0.adapter.weight", (3, 2), {"num_hidden_layers": 3}, "may belong to a layer"),
        ("x", (24,), {"intermediate_size": 48}, "may have an axis that changes, of length 24"),
    ],
)
def test_other_extra_tensors_are_refused_unless_they_are_dropped(
    name: str, shape: tuple[int, ...], sizes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    source, out = saved(BERT, tmp_path / "source"), tmp_path / "out"
    edit(source, lambda values: values.update({name: torch.zeros(shape)}))
    with pytest.raises(CheckpointError, match=rf"^{re.escape(name)}: .*{reason}.*--drop '{re.escape(name)}'"):
        wavescale.plan_resize(source, **sizes)
    plan = wavescale.resize_checkpoint(source, out, drop=[f"{name[:-1]}?"], **sizes)
    assert f"left out with --drop: {name}" in plan.remarks
    assert name not in load_file(out / "model.safetensors")
    assert f"--drop '{name[:-1]}?'" in (out / "README.md").read_text()
    assert wavescale.verify(source, out).kept


@pytest.mark.parametrize("case", [case for case in CASES if ("tie_word_embeddings", True) in case.settings], ids=str)
def test_tied_tensors_are_found_under_either_name(case: Case, tmp_path: Path) -> None:
    """`safetensors.torch.save_model` keeps one name of each, whichever comes first; from_pretrained takes both."""
    source = saved(case, tmp_path / "source")
    plain = wavescale.resize_checkpoint(source, tmp_path / "plain", hidden_size=32)
    head = FAMILIES[case.family].classes[case.class_name]
    names = {original.format(base=head.base): copy.format(base=head.base) for copy, original in head.ties.items()}

    def rename(values: dict[str, torch.Tensor]) -> None:
        for original, copy in names.items():
            values[copy] = values.pop(original)

    edit(source, rename)
    plan = wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32)
    assert plan.keeps_function
    assert plan.parameters == plain.parameters
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "out"))
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_patterns_that_drop_too_little_or_too_much_are_refused(tmp_path: Path) -> None:
    source = saved(BERT, tmp_path / "source")
    with pytest.raises(OptionError, match=r"--drop\) 'v_head\.\*' fits no tensor"):
        wavescale.plan_resize(source, hidden_size=32, drop=["v_head.*"])
    with pytest.raises(CheckpointError, match=r"attention\.self\.query\.weight: missing.*--drop leaves out too much"):
        wavescale.plan_resize(source, hidden_size=32, drop=["*query*"])
    pattern: Any = "v_head.*"
    with pytest.raises(OptionError, match="is no list of patterns"):
        wavescale.plan_resize(source, hidden_size=32, drop=pattern)


def test_layers_behind_the_last_one_are_extra(tmp_path: Path) -> None:
    source = saved(BERT, tmp_path / "source")
    edit_config(source, num_hidden_layers=1)
    with pytest.raises(CheckpointError, match=r"^bert\.encoder\.layer\.1\..*has no such tensor"):
        wavescale.plan_resize(source, hidden_size=32)
    wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32, drop=["*.layer.1.*"])
    assert wavescale.verify(source, tmp_path / "out").kept


def test_a_layer_that_the_weights_do_not_have_is_named(tmp_path: Path) -> None:
    source = saved(BERT, tmp_path / "source")
    edit_config(source, num_hidden_layers=3)
    with pytest.raises(CheckpointError, match=r"^bert\.encoder\.layer\.2\..*: missing"):
        wavescale.plan_resize(source, hidden_size=32)


def test_buffers_that_older_versions_saved_do_not_matter(tmp_path: Path) -> None:
    source = saved(BERT, tmp_path / "source")
    wavescale.resize_checkpoint(source, tmp_path / "plain", hidden_size=32)
    edit(source, lambda values: values.update({"bert.embeddings.position_ids": torch.arange(20)[None]}))
    wavescale.resize_checkpoint(source, tmp_path / "buffered", hidden_size=32)
    plain, buffered = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "buffered"))
    assert_same(buffered, plain)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.uint8, torch.float8_e4m3fn])
def test_quantized_weights_are_refused_with_their_dtype(dtype: torch.dtype, tmp_path: Path) -> None:
    source = saved(LLAMA, tmp_path / "source")
    name = "model.layers.0.mlp.up_proj.weight"
    edit(source, lambda values: values.update({name: values[name].to(dtype)}))
    with pytest.raises(CheckpointError, match=rf"^{re.escape(name)}: dtype is .*expected one of .*[Dd]equantize"):
        wavescale.plan_resize(source, hidden_size=32)


@pytest.mark.parametrize("architecture", [None, "BertModel"])
def test_an_unknown_family_is_refused_with_those_that_are_known(architecture: str | None, tmp_path: Path) -> None:
    source = saved(BERT, tmp_path / "source")
    edit_config(source, model_type="mamba")
    with pytest.raises(UnknownArchitectureError, match="'mamba'") as caught:
        wavescale.plan_resize(source, hidden_size=32, architecture=architecture)
    assert ("bert" if architecture else ", ".join(FAMILIES)) in str(caught.value)


def test_a_model_in_memory_of_an_unknown_family_is_refused() -> None:
    config = transformers.ElectraConfig(
        vocab_size=9, embedding_size=4, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4
    )
    with pytest.raises(UnknownArchitectureError, match="'electra'"):
        wavescale.resize(transformers.ElectraModel(config), hidden_size=8)


def test_an_unknown_class_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    source = saved(BERT, tmp_path / "source")
    edit_config(source, architectures=["BertForEverything"])
    with pytest.raises(UnknownArchitectureError, match=r"'BertForEverything'.*BertForMaskedLM.*--architecture"):
        wavescale.plan_resize(source, hidden_size=32)


def test_a_config_without_model_type_needs_the_class_to_be_named(tmp_path: Path) -> None:
    source = saved(BERT, tmp_path / "source")
    wavescale.resize_checkpoint(source, tmp_path / "plain", hidden_size=32)
    edit_config(source, model_type=None, architectures=None)
    with pytest.raises(UnknownArchitectureError, match=r"no model_type.*--architecture"):
        wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32)
    wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32, architecture="BertForMaskedLM")
    out, plain = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "plain"))
    assert_same(out, plain)
    assert type(transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "out")).__name__ == "BertForMaskedLM"


@pytest.mark.parametrize(
    ("family", "field", "value"),
    [
        ("bert", "model_type", ["bert"]),
        ("bert", "architectures", [["BertModel"]]),
        ("bert", "hidden_size", "16"),
        ("bert", "num_attention_heads", 5),
        ("bert", "num_hidden_layers", 0),
        ("bert", "intermediate_size", 2.5),
        ("bert", "vocab_size", "many"),
        ("bert", "max_position_embeddings", -5),
        ("llama", "num_key_value_heads", 3),
        ("llama", "head_dim", "4"),
        ("llama", "dtype", "float8"),
        ("qwen3", "layer_types", ["full_attention"]),
        ("qwen3", "layer_types", 2),
        ("vit", "patch_size", 0),
        ("vit", "image_size", [8]),
        ("vit", "num_channels", "three"),
    ],
)
def test_a_config_with_a_value_that_makes_no_sense_is_refused(
    family: str, field: str, value: Any, tmp_path: Path
) -> None:
    case = next(case for case in MAIN_CASES if case.family == family)
    source = saved(case, tmp_path / "source")
    edit_config(source, **{field: value})
    with pytest.raises((CheckpointError, UnknownArchitectureError)):
        wavescale.plan_resize(source / "config.json", num_hidden_layers=3)


COPIES = [
    (TIED_LLAMA, "lm_head.weight", "model.embed_tokens.weight"),
    (GPT2, "lm_head.weight", "transformer.wte.weight"),
    (BERT, "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
    (BERT, "cls.predictions.decoder.bias", "cls.predictions.bias"),
    (Case("roberta", "RobertaForMaskedLM"), "lm_head.decoder.weight", "roberta.embeddings.word_embeddings.weight"),
]


@pytest.mark.parametrize(("case", "copy", "original"), COPIES, ids=str)
def test_a_stored_copy_of_a_tied_tensor_that_is_equal_is_accepted(
    case: Case, copy: str, original: str, tmp_path: Path
) -> None:
    source = saved(case, tmp_path / "source")
    wavescale.resize_checkpoint(source, tmp_path / "plain", hidden_size=32)
    edit(source, lambda values: values.update({copy: values[original].clone()}))
    plan = wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32)
    assert plan.ties == ((copy, original),)
    out, plain = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "plain"))
    assert_same(out, plain)


@pytest.mark.parametrize(("case", "copy", "original"), COPIES, ids=str)
def test_a_stored_copy_of_a_tied_tensor_that_differs_is_refused_with_both_names(
    case: Case, copy: str, original: str, tmp_path: Path
) -> None:
    source = saved(case, tmp_path / "source")
    edit(source, lambda values: values.update({copy: values[original] + 1e-3}))
    with pytest.raises(CheckpointError, match=f"^{re.escape(copy)}: differs from {re.escape(original)}"):
        wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("spelling", ["source", "source/../source", "link", "./source/"])
def test_an_output_that_is_the_source_is_refused(
    spelling: str, overwrite: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(BERT, tmp_path / "source")
    (tmp_path / "link").symlink_to(source)
    monkeypatch.chdir(tmp_path)
    before = digest(source)
    with pytest.raises(OutputError, match="is the source itself"):
        wavescale.resize_checkpoint(source, spelling, hidden_size=32, overwrite=overwrite)
    assert digest(source) == before


def test_an_output_that_holds_the_source_is_not_replaced(tmp_path: Path) -> None:
    # A trainer's folder: the final model, and checkpoints in folders below it.
    saved(BERT, tmp_path / "trained")
    source = saved(BERT, tmp_path / "trained" / "checkpoint-500")
    before = digest(tmp_path)
    with pytest.raises(OutputError):
        wavescale.resize_checkpoint(source, tmp_path / "trained", hidden_size=32, overwrite=True)
    assert digest(tmp_path) == before


def test_the_card_says_how_the_model_was_made(tmp_path: Path) -> None:
    source = saved(BERT, tmp_path / "source")
    (source / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n\n# The source\n")
    wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32, num_hidden_layers=3, wavelet="db2")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "\nwavescale resize source out --hidden-size 32 --layers 3 --wavelet db2\n" in card
    assert f"`{open_checkpoint(source).fingerprint()}`" in card
    for package in ("wavescale", "torch", "transformers", "safetensors", "PyWavelets", "numpy"):
        assert f"{package} {version(package)}" in card
    front = card.split("---\n")[1].splitlines()
    assert "license: mit" in front
    assert not any(line.startswith("base_model") for line in front)
    assert "| hidden_size | 16 | 32 |" in card


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("entrance", ["python", "command line"])
def test_no_text_in_the_output_carries_a_path(
    relative: bool, entrance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(BERT, tmp_path / "source")
    saved(BERT, tmp_path / "model to be like", hidden_size=32)
    monkeypatch.chdir(tmp_path)
    root = Path() if relative else tmp_path
    if entrance == "python":
        wavescale.resize_checkpoint(root / "source", root / "out", like=root / "model to be like")
    else:
        assert run(["resize", str(root / "source"), str(root / "out"), "-q",
                    "--like", str(root / "model to be like" / "config.json")]) == 0  # fmt: skip
    for path in (tmp_path / "out").iterdir():
        if path.suffix != ".safetensors":
            assert str(tmp_path) not in path.read_text()
            assert str(Path.home()) not in path.read_text()


def test_a_source_named_by_its_home_is_not_taken_for_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(BERT, tmp_path / "source")
    monkeypatch.setenv("HOME", str(tmp_path))
    wavescale.resize_checkpoint("~/source", tmp_path / "out", hidden_size=32)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base_model" not in card
    assert "\nwavescale resize source out --hidden-size 32\n" in card


@pytest.mark.parametrize(
    "options",
    [
        {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 6, "intermediate_size": 30},
        {"scale_width": "3/2", "scale_depth": 2, "seed": 3},
        {"scale_width": 0.5, "dtype": "bfloat16", "wavelet": "db2", "gain": "role"},
        {"hidden_size": 32, "num_hidden_layers": 4, "preset": "paper", "depth": "stack", "width": "signal"},
        {"layer_map": [1, 0, 1], "scale_width": 2, "preset": "hypercloning"},
    ],
    ids=lambda options: " ".join(options),
)
def test_the_command_on_the_card_makes_the_same_model_again(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(BERT, tmp_path / "a source")
    wavescale.resize_checkpoint(tmp_path / "a source", tmp_path / "an output", **options)
    found = re.search(r"```\n(.*)\n```", (tmp_path / "an output" / "README.md").read_text())
    assert found is not None
    program, command, source, out, *flags = shlex.split(found[1])
    assert (program, command, source, out) == ("wavescale", "resize", "a source", "an output")
    monkeypatch.chdir(tmp_path)
    assert run([command, source, "again", "-q", *flags]) == 0
    written = [load_file(tmp_path / name / "model.safetensors") for name in (out, "again")]
    assert_same(written[1], written[0])


def test_the_callbacks_see_the_plan_and_then_every_tensor_once(tmp_path: Path) -> None:
    source = saved(BERT, tmp_path / "source")
    seen: list[Any] = []
    plan = wavescale.resize_checkpoint(
        source, tmp_path / "out", hidden_size=32, on_plan=seen.append, on_tensor=seen.append
    )
    assert seen == [plan, *plan.tensors]


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"kind": "Plan"}', '{"kind": "Nonsense"}', '{"kind": "Sizes"}', "3"]
)
def test_a_text_that_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="the plan cannot be read"):
        Plan.from_json(text)


@pytest.mark.parametrize("scale", ["2/3", "abc", "1/0", "nan", "inf", 0, -1, "1e-9", float("nan")])
def test_a_scale_that_fits_no_size_is_refused(scale: Any) -> None:
    with pytest.raises((SizeError, OptionError), match="scale_width"):
        wavescale.plan_resize(model_of(BERT), scale_width=scale)


@pytest.mark.parametrize("device", ["nowhere", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_written(device: str, tmp_path: Path) -> None:
    source = saved(BERT, tmp_path / "source")
    with pytest.raises(OptionError, match=rf"device '{device}'.*Use cpu"):
        wavescale.resize_checkpoint(source, tmp_path / "out", hidden_size=32, device=device)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("class_name", ["BertModel", "RobertaModel", "ViTModel", "DeiTModel"])
def test_an_encoder_without_its_pooler_stays_without(class_name: str) -> None:
    case = next(case for case in CASES if case.class_name == class_name)
    whole = make(case)
    model = type(whole)(whole.config, add_pooling_layer=False).eval()
    grown = wavescale.resize(model, scale_width=2)
    assert grown.pooler is None
    states = [m(**inputs_for(m)).last_hidden_state for m in (model, grown)]
    assert torch.allclose(states[0], states[1][..., ::2], atol=1e-4)


def test_what_is_no_checkpoint_or_no_model_is_named(tmp_path: Path) -> None:
    model: Any = make(Case("llama", "LlamaForCausalLM"))
    folder: Any = str(tmp_path)
    with pytest.raises(CheckpointError, match="LlamaForCausalLM is no folder and no hub id"):
        wavescale.resize_checkpoint(model, tmp_path / "out", hidden_size=32)
    with pytest.raises(OptionError, match=r"str .* is no model in memory"):
        wavescale.resize(folder, hidden_size=32)
    with pytest.raises(OptionError, match="Linear is no model"):
        wavescale.plan_resize(torch.nn.Linear(2, 2), hidden_size=32)
    with pytest.raises(OptionError, match="LlamaForCausalLM is no plan"):
        wavescale.training_recipe(model)


def test_a_model_gives_its_sizes_and_torch_its_dtype() -> None:
    model = make(Case("llama", "LlamaForCausalLM"))
    larger = wavescale.resize(model, hidden_size=32)
    plan = wavescale.plan_resize(model, like=larger, dtype=torch.bfloat16)
    assert plan.target == wavescale.plan_resize(model, hidden_size=32).target
    assert {tensor.dtype for tensor in plan.tensors} == {"bfloat16"}


def renamed(model: PreTrainedModel, folder: Path, rename: Callable[[str], str], **config: Any) -> Path:
    """A checkpoint whose tensors go by other names, and whose config says other things."""
    model.save_pretrained(folder)
    file = folder / "model.safetensors"
    save_file({rename(name): value for name, value in load_file(file).items()}, file, metadata={"format": "pt"})
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


def gamma_and_beta(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


# As GPT-2 and BERT lie on the hub: without the prefix, with old names, and with the heads of another class.
PUBLISHED: dict[str, tuple[Case, Callable[[str], str], dict[str, Any]]] = {
    "gpt2": (Case("gpt2", "GPT2LMHeadModel"), lambda name: name.removeprefix("transformer."), {}),
    "bert": (Case("bert", "BertForPreTraining"), gamma_and_beta, {"architectures": ["BertForMaskedLM"]}),
}


@pytest.mark.parametrize("published", PUBLISHED)
@pytest.mark.parametrize(
    "options",
    [
        {"scale_width": 2},
        {"num_hidden_layers": 1},
        {"scale_width": "1/2"},
        {"intermediate_size": 12},
        {"scale_width": 2, "preset": "random"},
        {"scale_width": 2, "preset": "ligo", "train_steps": 0},
        {"scale_width": "1/2", "width": "merge"},
    ],
    ids=str,
)
def test_checkpoints_as_they_are_published_are_resized_and_load(
    published: str, options: dict[str, Any], tmp_path: Path
) -> None:
    case, rename, config = PUBLISHED[published]
    source = renamed(make(case), tmp_path / "source", rename, **config)
    plan = wavescale.resize_checkpoint(source, tmp_path / "out", **options)
    found, told = getattr(transformers, plan.architecture).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not told["missing_keys"]
    assert all(value.isfinite().all() for value in found.state_dict().values())
    left_out = [remark for remark in plan.remarks if "left out" in remark]
    runs = plan.choices.calibrate != "none" or plan.choices.mapping != "operators"
    assert bool(left_out) == (published == "bert" and runs)
    assert all("pooler.dense.bias" in remark for remark in left_out)
    if not {"preset", "width"} & options.keys():  # a merge weighs what the heads of the other class read as well
        source_model = getattr(transformers, plan.architecture).from_pretrained(source)
        in_memory = wavescale.resize(source_model.eval(), **{**options, "calibrate": plan.choices.calibrate})
        for name, value in in_memory.state_dict().items():
            torch.testing.assert_close(found.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("published", PUBLISHED)
def test_a_published_checkpoint_fills_a_model(published: str, tmp_path: Path) -> None:
    case, rename, config = PUBLISHED[published]
    source = renamed(make(case), tmp_path / "source", rename, **config)
    plan = wavescale.plan_resize(source, scale_width=2)
    with torch.device("meta"):
        target = getattr(transformers, plan.architecture)._from_config(transformers.AutoConfig.for_model(**plan.config))
    wavescale.resize_into(target, source)
    wavescale.resize_checkpoint(source, tmp_path / "out", scale_width=2)
    wanted = getattr(transformers, plan.architecture).from_pretrained(tmp_path / "out")
    assert difference(target.eval(), wanted.eval()) == 0.0


def test_a_source_whose_files_are_links_into_the_output_is_not_replaced(tmp_path: Path) -> None:
    make(Case("bert", "BertModel")).save_pretrained(tmp_path / "out")
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_bytes((tmp_path / "out" / "config.json").read_bytes())
    (source / "model.safetensors").symlink_to("../out/model.safetensors")
    before = digest(source)
    with pytest.raises(OutputError, match=r"holds model\.safetensors, so it is not replaced"):
        wavescale.resize_checkpoint(source, tmp_path / "out", scale_width=2, overwrite=True)
    (tmp_path / "out" / "text.txt").write_text("a text")
    make(Case("bert", "BertModel")).save_pretrained(tmp_path / "other")
    with pytest.raises(OutputError, match=r"holds text\.txt, so it is not replaced"):
        wavescale.resize_checkpoint(
            tmp_path / "other", tmp_path / "out", num_hidden_layers=1, overwrite=True,
            calibrate=tmp_path / "out" / "text.txt",
        )  # fmt: skip
    assert digest(source) == before


def test_code_that_is_not_copied_is_not_named(tmp_path: Path) -> None:
    case = Case("llama", "LlamaForCausalLM")
    source = renamed(make(case), tmp_path / "source", str, auto_map={"AutoConfig": "configuration_x.XConfig"})
    wavescale.resize_checkpoint(source, tmp_path / "out", scale_width=2)
    assert "auto_map" not in json.loads((tmp_path / "out" / "config.json").read_text())
    transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", trust_remote_code=True)


def test_a_size_of_files_is_a_whole_number_or_a_text(tmp_path: Path) -> None:
    make(Case("bert", "BertModel")).save_pretrained(tmp_path / "source")
    size: Any = 5e9
    with pytest.raises(OptionError, match=r"max_shard_size 5000000000\.0 is no number of bytes"):
        wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "out", scale_width=2, max_shard_size=size)


def test_patches_may_be_wider_than_high() -> None:
    model = make(Case("vit", "ViTModel"), patch_size=[4, 8], image_size=[8, 16])
    given = {"pixel_values": torch.randn(2, 3, 8, 16, generator=torch.Generator().manual_seed(0))}
    with torch.no_grad():
        wanted, found = (
            one(**given).last_hidden_state for one in (model, wavescale.resize(model, num_hidden_layers=3))
        )
    torch.testing.assert_close(found, wanted)
