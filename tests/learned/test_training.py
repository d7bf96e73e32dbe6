"""Mappings through the whole engine: plans, options, files, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

import wavescale
from tiny import CASES, MAIN_CASES, Case, inputs_for, make
from wavescale.analysis import Subject
from wavescale.cli import run
from wavescale.errors import OptionError
from wavescale.findings import mapping_of
from wavescale.learned import train
from wavescale.memory import model_tensors
from wavescale.plan import Plan
from words import text, words_tokenizer

GPT2, BERT = Case("gpt2", "GPT2LMHeadModel"), Case("bert", "BertForMaskedLM")
TWICE: dict[str, Any] = {"scale_width": 2, "scale_depth": 2}


def batches(count: int = 3) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(5)
    ids = [torch.randint(3, 31, (2, 9), generator=generator) for _ in range(count)]
    return [{"input_ids": some, "labels": some} for some in ids]


@pytest.mark.parametrize("preset", ["ligo", "mango"])
def test_batches_are_taken_in_order_one_a_step(preset: str) -> None:
    model = make(GPT2)
    plan = wavescale.plan_resize(model, preset=preset, **TWICE)
    seen: list[torch.Tensor] = []
    target = wavescale.resize(model, preset="random", **TWICE)
    target.register_forward_pre_hook(lambda _, __, given: seen.append(given["input_ids"]), with_kwargs=True)
    given = batches()
    losses = train(mapping_of(plan, Subject.in_memory(model)), target, given, steps=5, rate=1e-3)
    assert len(losses) == len(seen) == 5
    for step, ids in enumerate(seen):
        assert torch.equal(ids, given[step % 3]["input_ids"])


@pytest.mark.parametrize("preset", ["ligo", "mango", "random"])
def test_the_same_seed_gives_the_same_bytes(preset: str) -> None:
    model = make(GPT2)
    given: dict[str, Any] = {} if preset == "random" else {"train_file": batches(), "train_steps": 4}
    state = torch.get_rng_state()
    first, again, other = (
        model_tensors(wavescale.resize(model, preset=preset, seed=seed, **given, **TWICE)) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_random_is_the_librarys_own_initialisation(case: Case) -> None:
    model = make(case)
    made = wavescale.resize(model, preset="random", scale_width=2, num_hidden_layers=1, seed=3)
    torch.manual_seed(3)
    expected = getattr(transformers, case.class_name)(made.config)
    found = model_tensors(made)
    assert found.keys() == model_tensors(expected).keys()
    for name, value in model_tensors(expected).items():
        assert torch.equal(found[name], value), name


def test_random_reads_no_weight(tmp_path: Path) -> None:
    model = make(GPT2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    model.save_pretrained(tmp_path / "source")
    plan = wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "out", preset="random", hidden_size=8)
    assert plan.remarks == ("nothing of the source is kept: every tensor is initialised anew, as the library does it",)
    assert not plan.keeps_function
    assert transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "out").lm_head.weight.isfinite().all()


@pytest.mark.parametrize(("preset", "case"), [("ligo", GPT2), ("mango", GPT2), ("ligo", BERT), ("mango", BERT)])
def test_command_line_to_checkpoint(preset: str, case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "source", tmp_path / "out"
    make(case).save_pretrained(folder)
    words_tokenizer(masks=case == BERT).save_pretrained(folder)
    path = text(tmp_path / "some text.txt", 1, 2000)
    options = ["--preset", preset, "--scale-width", "2", "--layers", "3", "--train-steps", "7", "--train-rate", "0.01"]
    capfd.readouterr()
    assert run(["resize", str(folder), str(out), *options, "--train-file", str(path)]) == 0
    printed, errors = capfd.readouterr()
    assert errors == ""
    assert "trained on the task loss for 7 steps of one batch at a rate of 0.01" in printed
    plan = Plan.from_json((out / "wavescale.json").read_text())
    assert (plan.choices.mapping, plan.choices.train_steps, plan.choices.train_rate) == (preset, 7, 0.01)
    assert plan == wavescale.plan_resize(
        folder, preset=preset, scale_width=2, num_hidden_layers=3, train_steps=7, train_rate=0.01
    )
    card = (out / "README.md").read_text()
    assert "by a mapping trained for 7 steps" in card
    assert "--train-file 'some text.txt'" in card
    assert str(tmp_path) not in card
    assert run(["verify", str(folder), str(out)]) == 0
    assert "function not kept" in capfd.readouterr().out
    # In memory it is the same.
    small = getattr(transformers, case.class_name).from_pretrained(folder)
    large = wavescale.resize(
        small, preset=preset, scale_width=2, num_hidden_layers=3, train_steps=7, train_rate=0.01, train_file=path
    )
    stored = load_file(out / "model.safetensors")
    for name, value in model_tensors(large).items():
        assert torch.equal(value, stored[name]), name
    assert large.config.num_hidden_layers == 3
    assert large.get_output_embeddings().weight is large.get_input_embeddings().weight


@pytest.mark.parametrize("preset", ["ligo", "mango"])
def test_half_types_are_computed_in_float32(preset: str) -> None:
    model = make(GPT2)
    expected = wavescale.resize(model.to(torch.bfloat16), preset=preset, train_file=batches(), train_steps=2, **TWICE)
    found = wavescale.resize(model.float(), preset=preset, train_file=batches(), train_steps=2, **TWICE)
    assert expected.dtype is torch.bfloat16
    for name, value in model_tensors(found).items():
        assert torch.equal(model_tensors(expected)[name], value.bfloat16()), name


@pytest.mark.parametrize("preset", ["ligo", "mango"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "train_file .*is missing.*Give a text"),
        ({"train_file": []}, "no batch"),
        ({"train_file": "nope.txt"}, r"train_file \(--train-file\) nope.txt: no such file"),
        ({"train_file": [{"input_ids": torch.arange(8)[None]}]}, "GPT2LMHeadModel gives no loss on input_ids.*labels"),
        ({"train_file": batches(), "train_rate": 1e30}, "smaller rate"),
        ({"train_file": batches(), "width": "signal"}, "width 'signal' has no effect"),
        ({"train_file": batches(), "depth": "stack"}, "depth 'stack' has no effect"),
        ({"train_file": batches(), "layer_map": "0,1"}, "layer_map .* has no effect"),
        ({"train_file": batches(), "calibrate": "random"}, "calibrate 'random' has no effect"),
        ({"train_steps": -1}, "no number of steps"),
        ({"train_steps": True}, "no number of steps"),
        ({"train_rate": 0.0}, "no learning rate"),
    ],
)
def test_what_cannot_be_trained_is_refused(preset: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        wavescale.resize(make(GPT2), preset=preset, hidden_size=32, **options)


@pytest.mark.parametrize("preset", ["ligo", "mango"])
@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"num_hidden_layers": 1}, "only grows, but layers would go from 2 to 1"),
        ({"scale_width": 2, "intermediate_size": 8}, "intermediate would go from 24 to 8"),
        ({"num_attention_heads": 8}, "head_dim would go from 4 to 2. Give fewer heads"),
    ],
)
def test_trained_mappings_only_grow(preset: str, sizes: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        wavescale.plan_resize(make(GPT2), preset=preset, **sizes)


def test_what_trains_nothing_takes_nothing_to_train_on(tmp_path: Path) -> None:
    model = make(GPT2)
    choices: tuple[dict[str, Any], ...] = ({}, {"preset": "random"})
    for options in choices:
        with pytest.raises(OptionError, match=r"train_file .* has no effect"):
            wavescale.resize(model, hidden_size=32, train_file=batches(), **options)
        with pytest.raises(OptionError, match="train_steps 3 has no effect"):
            wavescale.plan_resize(model, hidden_size=32, train_steps=3, **options)
    model.save_pretrained(tmp_path / "source")
    with pytest.raises(OptionError, match=r"train_file .*is missing"):
        wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "out", preset="ligo", hidden_size=32)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("preset", ["ligo", "mango", "random"])
def test_moments_of_a_mapping_are_not_known(preset: str, tmp_path: Path) -> None:
    model = make(GPT2)
    model.save_pretrained(tmp_path / "source")
    optimizer = torch.optim.AdamW(model.parameters())
    model(**batches(1)[0]).loss.backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    given: dict[str, Any] = {} if preset == "random" else {"train_file": batches()}
    with pytest.raises(OptionError, match="its moments cannot be known"):
        wavescale.resize_checkpoint(
            tmp_path / "source", tmp_path / "out", preset=preset, hidden_size=32,
            optimizer_state=tmp_path / "optimizer.pt", **given,
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_class_grows(case: Case) -> None:
    model = make(case)
    for preset in ("ligo", "mango"):
        large = wavescale.resize(model, preset=preset, train_steps=0, scale_width=2, num_hidden_layers=3)
        with torch.no_grad():
            outputs = large(**inputs_for(large))
        assert all(value.isfinite().all() for value in outputs.values() if torch.is_tensor(value))


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
@pytest.mark.parametrize(("preset", "share"), [("ligo", 0.95), ("mango", 0.9)])
def test_training_lowers_the_loss(case: Case, preset: str, share: float) -> None:
    model = make(case)
    batch = dict(inputs_for(model))
    batch["labels"] = torch.arange(3) if "pixel_values" in batch else batch["input_ids"]
    losses = []
    for steps in (0, 30):
        given: dict[str, Any] = {} if steps == 0 else {"train_file": [batch], "train_rate": 0.02}
        large = wavescale.resize(model, preset=preset, scale_width=1.5, scale_depth=1.5, train_steps=steps, **given)
        with torch.no_grad():
            losses.append(float(large(**batch).loss))
    assert losses[1] < share * losses[0]


def test_a_mapping_is_trained_where_gradients_are_switched_off() -> None:
    with torch.no_grad():
        found = wavescale.resize(make(GPT2), preset="ligo", train_steps=2, train_file=batches(), **TWICE)
    assert all(value.isfinite().all() for value in model_tensors(found).values())
