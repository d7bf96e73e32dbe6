from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import PreTrainedModel, Trainer, TrainingArguments

import wavescale
from tiny import CASES, MAIN_CASES, Case, inputs_for, make
from wavescale.architectures import FAMILIES
from wavescale.artifacts import Artifacts
from wavescale.cli import run
from wavescale.errors import CheckpointError, OptionError, OutputError
from wavescale.execute import execute
from wavescale.memory import disk_names, model_tensors

GPT2 = Case("gpt2", "GPT2LMHeadModel")
LLAMA = Case("llama", "LlamaForCausalLM")
TIED, UNTIED = ("tie_word_embeddings", True), ("tie_word_embeddings", False)
GRADIENT_CASES = [
    *MAIN_CASES,
    Case("bert", "BertForPreTraining", (UNTIED,)),
    Case("bert", "BertForSequenceClassification"),
    Case("roberta", "RobertaForCausalLM", (("is_decoder", True), UNTIED)),
    Case("gpt2", "GPT2LMHeadModel", (UNTIED,)),
    Case("gpt2", "GPT2LMHeadModel", (("scale_attn_by_inverse_layer_idx", True),)),
    Case("deit", "DeiTForMaskedImageModeling"),
    Case("llama", "LlamaForCausalLM", (TIED,)),
    Case("llama", "LlamaForCausalLM", (("num_key_value_heads", 4),)),
    Case("llama", "LlamaForCausalLM", (("attention_bias", True), ("mlp_bias", True))),
    Case("qwen3", "Qwen3ForCausalLM", (TIED, ("head_dim", 6))),
]
# All start from 2 layers of width 16 with 24 units.
GROWTHS: dict[str, dict[str, Any]] = {
    "wider": {"hidden_size": 32},
    "more units": {"intermediate_size": 37},
    "deeper": {"num_hidden_layers": 5},
    "all at once": {"hidden_size": 32, "intermediate_size": 53, "num_hidden_layers": 3},
}


def backward(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Gradients of a loss that every output has a part in."""
    model.zero_grad()
    found = model(**inputs_for(model))
    loss = torch.zeros((), dtype=model.dtype)
    for value in found.values():
        if torch.is_tensor(value) and value.is_floating_point():
            weights = torch.randn(value.shape, generator=torch.Generator().manual_seed(3)).to(value.dtype)
            loss = loss + (value * weights).mean() + value.square().mean()
    torch.autograd.backward(loss)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def groups(model: PreTrainedModel, split: bool) -> list[dict[str, Any]]:
    """The groups of an optimizer: all in one, or as Trainer's own code makes them."""
    named = dict(model.named_parameters())
    if not split:
        return [{"params": list(named.values())}]
    decayed = set(Trainer.get_decay_parameter_names(None, model))
    return [
        {"params": [p for n, p in named.items() if n in decayed], "weight_decay": 0.1},
        {"params": [p for n, p in named.items() if n not in decayed], "weight_decay": 0.0},
    ]


def adam(model: PreTrainedModel, split: bool = True) -> torch.optim.AdamW:
    """An AdamW whose first moments are the gradients and whose second moments are their squares."""
    optimizer = torch.optim.AdamW(groups(model, split), lr=3e-4, betas=(0.8, 0.99))
    gradients = backward(model)
    for name, parameter in model.named_parameters():
        if name in gradients:
            optimizer.state[parameter] = {
                "step": torch.tensor(7.0),
                "exp_avg": gradients[name].clone(),
                "exp_avg_sq": gradients[name].square(),
            }
    return optimizer


def moments(model: PreTrainedModel, state: dict[str, Any], split: bool = True) -> dict[str, dict[str, torch.Tensor]]:
    """Moments by name, through torch's own loading."""
    optimizer = torch.optim.AdamW(groups(model, split))
    optimizer.load_state_dict(state)
    return {name: optimizer.state[p] for name, p in model.named_parameters() if p in optimizer.state}


def grow(
    case: Case, split: bool = True, **options: Any
) -> tuple[PreTrainedModel, PreTrainedModel, dict[str, dict[str, torch.Tensor]]]:
    source = make(case, torch.float64)
    options = {"details": "zero", **options}
    target = wavescale.resize(source, **options)
    plan = wavescale.plan_resize(source, **options)
    state = wavescale.resize_optimizer_state(adam(source, split).state_dict(), source, target, plan)
    return source, target, moments(target, state, split)


def together(model: PreTrainedModel, case: Case, name: str, value: torch.Tensor) -> torch.Tensor:
    """Keys and values summed over the copies of a group, which serve different queries and are no twins."""
    before = dict(case.settings).get("num_key_value_heads", 2)
    after = getattr(model.config, "num_key_value_heads", None)
    if "num_key_value_heads" not in FAMILIES[case.family].fields or after == before or before == 4:
        return value
    if not any(part in name for part in ("k_proj", "v_proj")):
        return value
    return value.view(before, after // before, -1, *value.shape[1:]).sum(dim=1)


@pytest.mark.parametrize("growth", GROWTHS)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_first_moments_are_gradients_of_the_grown_model(case: Case, growth: str) -> None:
    source, target, found = grow(case, **GROWTHS[growth])
    gradients = backward(target)
    scale = max(float(gradient.abs().max()) for gradient in gradients.values())
    carried = 0
    for name, moment in found.items():
        if "num_hidden_layers" in GROWTHS[growth] and not moment["exp_avg"].any():
            continue  # of an inserted layer, see below
        carried += 1
        expected, first = (together(target, case, name, v) for v in (gradients[name], moment["exp_avg"]))
        torch.testing.assert_close(first, expected, rtol=1e-4, atol=1e-6 * scale, msg=name)
        if expected.shape == gradients[name].shape:
            torch.testing.assert_close(
                moment["exp_avg_sq"], gradients[name].square(), rtol=1e-3, atol=1e-9 * scale**2, msg=name,
            )  # fmt: skip
    assert carried == len(backward(source))


@pytest.mark.parametrize("case", [c for c in GRADIENT_CASES if "scale_attn" not in str(c)], ids=str)
def test_what_an_inserted_layer_adds_starts_without_momentum_and_with_steps_of_ordinary_size(case: Case) -> None:
    source, target, found = grow(case, num_hidden_layers=5)
    gradients, before = backward(target), adam(source)
    kept = {id(p): before.state[p]["exp_avg_sq"] for p in source.parameters() if p in before.state}
    seconds = {name: kept[id(p)] for name, p in source.named_parameters() if id(p) in kept}
    new = [name for name, moment in found.items() if not moment["exp_avg"].any()]
    assert len(new) == len(found) - len(seconds)
    for name in new:
        layer = next(int(part) for part in name.split(".") if part.isdigit())
        like = name.replace(f".{layer}.", f".{layer * 2 // 5}.", 1)
        torch.testing.assert_close(found[name]["exp_avg_sq"], seconds[like])
        writes = any(part in name for part in ("c_proj", "o_proj", "down_proj", "output", "fc2"))
        if FAMILIES[case.family].placement == "pre" and not writes:
            assert not gradients[name].abs().max() > 1e-12, name


@pytest.mark.parametrize(("case", "split"), [*((c, True) for c in CASES), *((c, False) for c in MAIN_CASES)], ids=str)
def test_every_class_has_its_moments_in_the_right_places(case: Case, split: bool) -> None:
    source, target, found = grow(case, split, hidden_size=32, num_hidden_layers=3)
    with_gradient = backward(source)
    shapes = {name: p.shape for name, p in target.named_parameters()}
    with_momentum = [name for name, moment in found.items() if moment["exp_avg"].any()]
    assert len(with_momentum) == sum(bool(gradient.any()) for gradient in with_gradient.values())
    for name, moment in found.items():
        assert moment["exp_avg"].shape == moment["exp_avg_sq"].shape == shapes[name], name
        assert moment["step"] == 7


def test_the_dual_is_not_the_weights_operator() -> None:
    # METHOD: true over naive gradient, with Haar at twice the width.
    source = make(LLAMA, torch.float64)
    plan = wavescale.plan_resize(source, hidden_size=32, details="zero")
    target = wavescale.resize(source, hidden_size=32, details="zero")
    names = {disk: name for name, disk in disk_names(target).items()}
    before, after = backward(source), backward(target)
    naive = {names[tensor.name]: value for tensor, value in execute(plan, lambda disk: before[names[disk]])}
    wanted = {
        "model.embed_tokens.weight": 0.5,
        "model.norm.weight": 0.5,
        "model.layers.0.input_layernorm.weight": 0.5,
        "model.layers.1.mlp.gate_proj.weight": 1.0,
        "model.layers.1.mlp.down_proj.weight": 1.0,
        "model.layers.0.self_attn.q_proj.weight": 1.0,
        "model.layers.0.self_attn.o_proj.weight": 1.0,
        "lm_head.weight": 2.0,
    }
    for name, ratio in wanted.items():
        torch.testing.assert_close(after[name], ratio * naive[name], rtol=1e-4, atol=1e-9, msg=name)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_padded_channels_start_without_momentum_and_with_steps_of_ordinary_size(family: str) -> None:
    case = Case(family, FAMILIES[family].default_class)
    _, target, found = grow(case, hidden_size=24, num_attention_heads=4, num_key_value_heads=2)
    gradients = backward(target)
    embedding, second = (found["model.embed_tokens.weight"][key] for key in ("exp_avg", "exp_avg_sq"))
    assert not embedding[:, 16:].any()
    torch.testing.assert_close(second[:, 16:], second[:, :16].mean(dim=1, keepdim=True).expand(-1, 8))
    assert (second[3:30, 16:] > 0).sum() > 0
    # RMSNorm keeps padding out of the other channels' gradients, so those are still known exactly.
    scale = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, moment in found.items():
        known = moment["exp_avg"] != 0
        torch.testing.assert_close(moment["exp_avg"][known], gradients[name][known], rtol=1e-3, atol=1e-5 * scale)
        assert (moment["exp_avg_sq"].amax(dim=-1) > 0).any()


@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_scaling_a_tensor_changes_the_loss_as_much_as_in_the_source(case: Case) -> None:
    # ⟨A⁻ᵀG, AW⟩ = ⟨G, W⟩ holds also where copies are no twins and beside padding, for moment and gradient alike.
    post = FAMILIES[case.family].placement == "post"
    grouped = {"num_key_value_heads": 2} if "num_key_value_heads" in FAMILIES[case.family].fields else {}
    width: dict[str, Any] = {"hidden_size": 48} if post else {"hidden_size": 40, "num_attention_heads": 4, **grouped}
    if case.family == "gpt2":
        width = {"hidden_size": 40, "num_attention_heads": 10}
    if dict(case.settings).get("num_key_value_heads") == 4:
        width["num_key_value_heads"] = 4
    source, target, found = grow(case, intermediate_size=37, **width)
    before, after = backward(source), backward(target)
    sources, targets = dict(source.named_parameters()), dict(target.named_parameters())
    scale = max(float(gradient.norm()) for gradient in before.values())
    for name, moment in found.items():
        expected = (before[name] * sources[name]).sum()
        tolerance: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6 * scale, "msg": name}
        torch.testing.assert_close((moment["exp_avg"] * targets[name]).sum(), expected, **tolerance)
        torch.testing.assert_close((after[name] * targets[name]).sum(), expected, **tolerance)


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
@pytest.mark.parametrize("gain", ["role", "orthonormal"])
@pytest.mark.parametrize("case", [GPT2, LLAMA], ids=str)
def test_there_and_back_gives_the_first_moments_of_the_source(case: Case, gain: str, wavelet: str) -> None:
    signal: dict[str, Any] = {"width": "signal", "gain": gain, "wavelet": wavelet}
    depth: dict[str, Any] = {"scale_depth": 2, "depth": "signal"} if wavelet == "haar" else {}
    source = make(case, torch.float64)
    large = wavescale.resize(source, scale_width=2, **signal, **depth)
    back = {**depth, "scale_depth": 0.5} if depth else {}
    small = wavescale.resize(large, scale_width=0.5, **signal, **back)
    state = adam(source).state_dict()
    there = wavescale.resize_optimizer_state(
        state, source, large, wavescale.plan_resize(source, scale_width=2, **signal, **depth)
    )
    again = wavescale.resize_optimizer_state(
        there, large, small, wavescale.plan_resize(large, scale_width=0.5, **signal, **back)
    )
    found, expected = moments(small, again), moments(source, state)
    for name in expected:
        torch.testing.assert_close(found[name]["exp_avg"], expected[name]["exp_avg"], rtol=1e-5, atol=1e-9, msg=name)
        assert (found[name]["exp_avg_sq"] >= 0).all()


def test_orders_apply_to_moments_as_well() -> None:
    source = make(LLAMA, torch.float64)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    artifacts = Artifacts(orders={("intermediate", None): order})
    plan, target = wavescale.plan_resize(source, artifacts=artifacts), wavescale.resize(source, artifacts=artifacts)
    state = wavescale.resize_optimizer_state(adam(source).state_dict(), source, target, plan, artifacts=artifacts)
    gradients = backward(target)
    for name, moment in moments(target, state).items():
        torch.testing.assert_close(moment["exp_avg"], gradients[name], rtol=1e-4, atol=1e-9, msg=name)


def test_a_finished_tensor_has_no_moments() -> None:
    source = make(LLAMA)
    name = "model.norm.weight"
    artifacts = Artifacts(tensors={name: model_tensors(source)[name].clone()})
    plan = wavescale.plan_resize(source, artifacts=artifacts)
    with pytest.raises(OptionError, match=rf"{name}.*moments cannot be known"):
        wavescale.resize_optimizer_state(adam(source).state_dict(), source, source, plan, artifacts=artifacts)


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {"scale_width": 0.5, "calibrate": "none"},
        {"scale_width": 0.5, "scale_depth": 0.5, "calibrate": "none"},
        {"preset": "paper", "scale_width": 2, "scale_depth": 2},
        {"depth": "stack", "scale_depth": 2},
        {"preset": "bert2bert-fpi", "scale_width": 2, "num_hidden_layers": 5},
        {"preset": "bert2bert-aki", "scale_width": 2, "num_hidden_layers": 5},
        {"preset": "interleave", "scale_width": 2, "num_hidden_layers": 5},
        {"preset": "front-dct", "scale_width": 0.5, "num_hidden_layers": 1},
        {"preset": "front-dct-corrected", "scale_width": 2, "num_hidden_layers": 5},
        {"hidden_size": 32, "details": "antisymmetric", "num_hidden_layers": 5},
        {"scale_width": 2, "width": "pad", "num_hidden_layers": 5},
    ],
    ids=str,
)
def test_every_way_of_resizing_gives_finite_moments(case: Case, options: dict[str, Any]) -> None:
    source, target, found = grow(case, **options)
    copies = len(dict(target.named_parameters())) / len(dict(source.named_parameters()))
    assert len(found) >= copies * len(backward(source)) * 0.9
    for name, moment in found.items():
        assert moment["exp_avg"].isfinite().all(), name
        assert (moment["exp_avg_sq"] >= 0).all(), name
        assert moment["exp_avg_sq"].any(), name


def test_the_state_keeps_hyperparameters_and_is_left_as_it_is() -> None:
    source = make(GPT2)
    optimizer = adam(source)
    state = optimizer.state_dict()
    target, plan = wavescale.resize(source, hidden_size=32), wavescale.plan_resize(source, hidden_size=32)
    before = {number: entry["exp_avg"].clone() for number, entry in state["state"].items()}
    found = wavescale.resize_optimizer_state(state, source, target, plan)
    for old, new in zip(state["param_groups"], found["param_groups"], strict=True):
        assert {k: v for k, v in old.items() if k != "params"} == {k: v for k, v in new.items() if k != "params"}
        assert len(old["params"]) == len(new["params"])
    assert [n for g in found["param_groups"] for n in g["params"]] == list(range(len(list(target.parameters()))))
    for number, entry in state["state"].items():
        assert torch.equal(entry["exp_avg"], before[number])
        assert entry["step"] == 7


def test_a_parameter_without_gradient_has_no_moments_afterwards() -> None:
    source = make(Case("vit", "ViTForMaskedImageModeling"))
    state = adam(source).state_dict()
    names = [name for name, _ in source.named_parameters()]
    one_group = adam(source, split=False).state_dict()
    del one_group["state"][names.index("vit.embeddings.mask_token")]
    target, plan = wavescale.resize(source, hidden_size=32), wavescale.plan_resize(source, hidden_size=32)
    found = moments(target, wavescale.resize_optimizer_state(one_group, source, target, plan), split=False)
    assert set(names) - set(found) == {"vit.embeddings.mask_token"}
    assert len(state["state"]) == len(names)


def test_amsgrad_and_named_parameters_are_carried_over() -> None:
    source = make(GPT2)
    optimizer = torch.optim.AdamW(source.named_parameters(), amsgrad=True)
    backward(source)
    optimizer.step()
    target, plan = wavescale.resize(source, hidden_size=32), wavescale.plan_resize(source, hidden_size=32)
    state = wavescale.resize_optimizer_state(optimizer.state_dict(), source, target, plan)
    after = torch.optim.AdamW(target.named_parameters(), amsgrad=True)
    after.load_state_dict(state)
    backward(target)
    after.step()
    for entry in state["state"].values():
        torch.testing.assert_close(entry["max_exp_avg_sq"], entry["exp_avg_sq"])
    assert state["param_groups"][0]["param_names"] == [name for name, _ in target.named_parameters()]


# On disk.


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint with the optimizer's state beside it."""
    model = make(GPT2)
    model.save_pretrained(tmp_path / "source")
    torch.save(adam(model).state_dict(), tmp_path / "source" / "optimizer.pt")
    return tmp_path


@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_the_file_holds_what_memory_gives(case: Case, tmp_path: Path) -> None:
    source = make(case)
    source.save_pretrained(tmp_path / "source")
    torch.save(adam(source).state_dict(), tmp_path / "anything.pt")
    options: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 3}
    plan = wavescale.resize_checkpoint(
        tmp_path / "source", tmp_path / "out", optimizer_state=tmp_path / "anything.pt", **options
    )
    found = torch.load(tmp_path / "out" / "optimizer.pt", weights_only=True)
    target = getattr(transformers, case.class_name).from_pretrained(tmp_path / "out")
    expected = wavescale.resize_optimizer_state(adam(source).state_dict(), source, target, plan)
    assert found["param_groups"] == expected["param_groups"]
    assert found["state"].keys() == expected["state"].keys()
    for number, entry in expected["state"].items():
        for key, value in entry.items():
            torch.testing.assert_close(found["state"][number][key], value, rtol=0, atol=0)
    assert not list((tmp_path / "out").glob("tmp*"))
    assert {path.name for path in tmp_path.iterdir()} == {"source", "anything.pt", "out"}


@pytest.mark.parametrize("options", [{"order": "similarity"}, {"width": "merge"}, {"width": "norm"}], ids=str)
def test_what_was_found_in_the_weights_applies_to_moments_on_disk(options: dict[str, Any], saved: Path) -> None:
    wavescale.resize_checkpoint(
        saved / "source", saved / "out", scale_width="1/2", optimizer_state=saved / "source" / "optimizer.pt", **options
    )
    state = torch.load(saved / "out" / "optimizer.pt", weights_only=True)["state"]
    assert len(state) == len(list(make(GPT2).parameters()))
    for moment in state.values():
        assert moment["exp_avg"].isfinite().all()
        assert (moment["exp_avg_sq"] >= 0).all()
    source = make(GPT2)
    plan = wavescale.plan_resize(source, scale_width="1/2", **options)
    with pytest.raises(OptionError, match=r"analysis of the weights.*resize_checkpoint"):
        wavescale.resize_optimizer_state(adam(source).state_dict(), source, source, plan)


def test_half_moments_stay_half(saved: Path) -> None:
    path = saved / "source" / "optimizer.pt"
    state = torch.load(path, weights_only=True)
    for entry in state["state"].values():
        entry |= {key: entry[key].bfloat16() for key in ("exp_avg", "exp_avg_sq")}
    torch.save(state, path)
    wavescale.resize_checkpoint(saved / "source", saved / "out", hidden_size=32, optimizer_state=path)
    found = torch.load(saved / "out" / "optimizer.pt", weights_only=True)
    assert {entry["exp_avg"].dtype for entry in found["state"].values()} == {torch.bfloat16}


def test_a_checkpoint_without_the_option_has_no_optimizer_state(saved: Path) -> None:
    (saved / "source" / "trainer_state.json").write_text("{}")
    wavescale.resize_checkpoint(saved / "source", saved / "out", hidden_size=32)
    assert not {"optimizer.pt", "trainer_state.json"} & {path.name for path in (saved / "out").iterdir()}


def _sgd(model: PreTrainedModel) -> Any:
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    backward(model)
    optimizer.step()
    return optimizer.state_dict()


def _adafactor(model: PreTrainedModel) -> Any:
    optimizer = torch.optim.Adafactor(model.parameters())
    backward(model)
    optimizer.step()  # type: ignore[no-untyped-call]
    return optimizer.state_dict()


def _eight_bit(model: PreTrainedModel) -> Any:
    state = adam(model).state_dict()
    for entry in state["state"].values():
        for name, key in (("state1", "exp_avg"), ("state2", "exp_avg_sq")):
            entry[name] = entry.pop(key).to(torch.uint8)
        entry["qmap1"] = torch.zeros(256)
    return state


def _with(model: PreTrainedModel, change: Callable[[dict[str, Any]], object]) -> Any:
    state = adam(model).state_dict()
    change(state)
    return state


# States that cannot be resized, and words that the message must have.
BAD: dict[str, tuple[Callable[[PreTrainedModel], Any], list[str]]] = {
    "SGD with momentum": (_sgd, ["momentum_buffer", "AdamW"]),
    "Adafactor": (_adafactor, ["AdamW"]),
    "8 bit": (_eight_bit, ["state1", "AdamW"]),
    "moments as bytes": (
        lambda m: _with(m, lambda s: s["state"][0].update(exp_avg=s["state"][0]["exp_avg"].to(torch.uint8))),
        ["exp_avg", "uint8", "float32"],
    ),
    "no step yet": (lambda m: torch.optim.AdamW(m.parameters()).state_dict(), ["no step"]),
    "weights": (lambda m: m.state_dict(), ["param_groups", "optimizer.state_dict()"]),
    "a list": (lambda _: [1, 2], ["param_groups"]),
    "another width": (
        lambda _: adam(make(GPT2, n_embd=32)).state_dict(),
        ["transformer.wte.weight", "[31, 32]", "[31, 16]", "exp_avg"],
    ),
    "more layers": (lambda _: adam(make(GPT2, n_layer=3)).state_dict(), ["GPT2LMHeadModel", "group 0"]),
    "another family": (lambda _: adam(make(LLAMA)).state_dict(), ["GPT2LMHeadModel"]),
    "three groups": (lambda m: _with(m, lambda s: s["param_groups"].append({"params": []})), ["3 groups"]),
    "NaN": (lambda m: _with(m, lambda s: s["state"][0]["exp_avg"].fill_(torch.nan)), ["NaN"]),
}  # fmt: skip


def assert_refused(saved: Path, words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    source, file = str(saved / "source"), str(saved / "source" / "optimizer.pt")
    before = {path.name: path.read_bytes() for path in (saved / "source").iterdir()}
    code = run(["resize", source, str(saved / "out"), "--hidden-size", "32", "-q", "--optimizer-state", file])
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1, err
    for word in words:
        assert word in err
    assert [path.name for path in saved.iterdir()] == ["source"]
    assert {path.name: path.read_bytes() for path in (saved / "source").iterdir()} == before


@pytest.mark.parametrize("name", BAD)
def test_a_state_that_cannot_be_resized_is_refused(name: str, saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    state, words = BAD[name]
    torch.save(state(make(GPT2)), saved / "source" / "optimizer.pt")
    assert_refused(saved, words, capfd)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(share: float, saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = saved / "source" / "optimizer.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert_refused(saved, ["optimizer.pt", "cut short"], capfd)


def test_a_file_with_code_is_refused_and_not_run(saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.save({"state": {0: Path("code")}, "param_groups": []}, saved / "source" / "optimizer.pt")
    assert_refused(saved, ["optimizer.pt", "state_dict()"], capfd)


def test_a_file_that_is_not_there_is_refused(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        wavescale.resize_checkpoint(saved / "source", saved / "out", hidden_size=32, optimizer_state=saved / "none.pt")
    assert not (saved / "out").exists()


def test_an_output_that_holds_the_state_is_not_replaced(saved: Path) -> None:
    make(GPT2).save_pretrained(saved / "run")
    file = saved / "run" / "optimizer.pt"
    (saved / "source" / "optimizer.pt").rename(file)
    with pytest.raises(OutputError, match=r"holds optimizer\.pt"):
        wavescale.resize_checkpoint(
            saved / "source", saved / "run", hidden_size=32, optimizer_state=file, overwrite=True
        )
    assert file.is_file()


def test_a_trainer_state_that_is_no_json_is_refused(saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (saved / "source" / "trainer_state.json").write_text("[1, 2]")
    assert_refused(saved, ["trainer_state.json", "expected an object"], capfd)


def test_a_best_checkpoint_of_the_old_size_is_forgotten(saved: Path) -> None:
    text = '{"global_step": 4, "best_metric": 1.5, "best_model_checkpoint": "run/checkpoint-2"}'
    (saved / "source" / "trainer_state.json").write_text(text)
    file = saved / "source" / "optimizer.pt"
    wavescale.resize_checkpoint(saved / "source", saved / "out", hidden_size=32, optimizer_state=file)
    found = json.loads((saved / "out" / "trainer_state.json").read_text())
    assert found == {"global_step": 4, "best_metric": None, "best_model_checkpoint": None}


def test_frozen_parameters_of_models_in_memory_have_no_moments() -> None:
    source = make(GPT2)
    target, plan = wavescale.resize(source, hidden_size=32), wavescale.plan_resize(source, hidden_size=32)
    for model in (source, target):
        model.transformer.wte.weight.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in source.parameters() if p.requires_grad])
    backward(source)
    optimizer.step()
    state = wavescale.resize_optimizer_state(optimizer.state_dict(), source, target, plan)
    after = torch.optim.AdamW([p for p in target.parameters() if p.requires_grad])
    after.load_state_dict(state)
    assert len(state["state"]) == len(list(target.parameters())) - 1
    assert all(after.state[p]["exp_avg"].shape == p.shape for p in target.parameters() if p.requires_grad)


# Together with transformers' Trainer.


class Words(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = torch.randint(3, 31, (12,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": ids, "labels": ids}


def trainer(model: PreTrainedModel, folder: Path, steps: int) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=steps, save_steps=4, logging_steps=1, per_device_train_batch_size=4,
        learning_rate=1e-3, weight_decay=0.1, warmup_steps=2, report_to=[], use_cpu=True, disable_tqdm=True,
        dataloader_pin_memory=False,
    )  # fmt: skip
    return Trainer(model=model, args=arguments, train_dataset=Words())


@pytest.mark.parametrize(
    "sizes", [["--scale-width", "2", "--details", "zero"], ["--layers", "3", "--hidden-size", "40"]]
)
@pytest.mark.parametrize("case", [GPT2, LLAMA], ids=str)
def test_a_trainer_goes_on_with_the_resized_checkpoint(case: Case, sizes: list[str], tmp_path: Path) -> None:
    trainer(make(case).train(), tmp_path / "small", steps=8).train()
    source, out = tmp_path / "small" / "checkpoint-4", tmp_path / "large"
    if "40" in sizes:
        sizes = [*sizes, "--heads", "4" if case == GPT2 else "10"]
    file = str(source / "optimizer.pt")
    assert run(["resize", str(source), str(out), "-q", *sizes, "--optimizer-state", file]) == 0
    assert {"optimizer.pt", "scheduler.pt", "trainer_state.json"} <= {path.name for path in out.iterdir()}
    assert not list(out.glob("rng_state*"))
    assert "--optimizer-state optimizer.pt" in (out / "README.md").read_text()
    assert str(tmp_path) not in (out / "trainer_state.json").read_text()

    model = getattr(transformers, case.class_name).from_pretrained(out)
    larger = trainer(model.train(), tmp_path / "grown", steps=8)
    seen: dict[str, Any] = {}

    class Look(transformers.TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            optimizer = kwargs["optimizer"]
            seen["step"] = state.global_step
            seen["rates"] = [group["lr"] for group in optimizer.param_groups]
            seen["shapes"] = [
                entry[key].shape == parameter.shape
                for parameter, entry in optimizer.state.items()
                for key in ("exp_avg", "exp_avg_sq")
            ]
            seen["momentum"] = [bool(entry["exp_avg"].any()) for entry in optimizer.state.values()]

    larger.add_callback(Look())
    larger.train(resume_from_checkpoint=str(out))
    assert seen["step"] == 4
    assert all(seen["shapes"])
    assert len(seen["momentum"]) == len(list(model.parameters()))
    assert all(seen["momentum"]) == ("--layers" not in sizes)
    before = torch.load(file, weights_only=True)["param_groups"]
    assert seen["rates"] == [group["lr"] for group in before]
    assert all(rate > 0 for rate in seen["rates"])
    assert larger.state.global_step == 8
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    steps = {float(entry["step"]) for entry in larger.optimizer.state_dict()["state"].values()}
    assert steps == {8.0}


def test_shrinking_with_moments_says_that_it_is_not_calibrated(tmp_path: Path) -> None:
    trainer(make(GPT2).train(), tmp_path / "small", steps=4).train()
    source = tmp_path / "small" / "checkpoint-4"
    plan = wavescale.resize_checkpoint(source, tmp_path / "out", num_hidden_layers=1, optimizer_state=source)
    assert any("not calibrated, because what is fitted anew has no moments" in remark for remark in plan.remarks)
    assert (tmp_path / "out" / "optimizer.pt").is_file()  # the checkpoint's folder stands for the file in it
    with pytest.raises(OptionError, match="calibrate 'random' does not go with optimizer_state"):
        wavescale.resize_checkpoint(
            source, tmp_path / "other", num_hidden_layers=1, optimizer_state=source, calibrate="random"
        )


@pytest.mark.parametrize("layers", [(0, 1, 0, 1), (1, 0, 0), (0, 0)], ids=str)
def test_layers_that_are_named_take_the_moments_of_those_they_copy(layers: tuple[int, ...]) -> None:
    source = make(GPT2)
    plan = wavescale.plan_resize(source, layer_map=layers)
    target = wavescale.resize(source, layer_map=layers)
    optimizer = adam(source, split=False)
    state = wavescale.resize_optimizer_state(optimizer.state_dict(), source, target, plan)
    before = {name: optimizer.state[p] for name, p in source.named_parameters()}
    for number, (name, _) in enumerate(target.named_parameters()):
        if ".h." not in name:
            continue
        head, layer, tail = re.split(r"(?<=\.h)\.(\d+)\.", name)
        origin = before[f"{head}.{layers[int(layer)]}.{tail}"]
        share = 1 / layers.count(layers[int(layer)])
        found = state["state"][number]
        torch.testing.assert_close(found["exp_avg"], share * origin["exp_avg"], msg=name)
        torch.testing.assert_close(found["exp_avg_sq"], share**2 * origin["exp_avg_sq"], msg=name)
