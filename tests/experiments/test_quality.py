from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from quality.benches import Bench
from quality.measure import measure_row
from quality.measures import causal_loss, image_loss, masked_loss, pair_similarities, similarity
from quality.report import main as report
from quality.results import write_row
from quality.rows import CONFIG as CONFIG_FILE
from quality.rows import HERE, TEXT, Config, Method, Model, Row, list_rows, load_config, row_options
from quality.training import SCRATCH, TrainingRow, list_training, start

import wavescale
from tiny import Case, inputs_for, make

CONFIG = load_config()


def test_every_method_is_measured_somewhere() -> None:
    found = {row.method for row in list_rows(CONFIG)}
    assert found == set(CONFIG.methods)


@pytest.mark.parametrize("name", CONFIG.models)
def test_sizes_are_valid_and_change_one_axis(name: str) -> None:
    model = CONFIG.models[name]
    for axis, factors in model.axes.items():
        for factor, sizes in factors.items():
            plan = wavescale.plan_resize(dict(model.config), architecture=model.class_name, **sizes)
            moved = {d.name for d in plan.decisions if d.source != d.target}
            assert moved == set(sizes) - {d.name for d in plan.decisions if d.source == d.target}
            assert all((d.target > d.source) == (float(factor) > 1) for d in plan.decisions if d.name in moved), (
                axis,
                factor,
            )


@pytest.mark.parametrize("name", CONFIG.models)
def test_every_row_has_a_plan(name: str) -> None:
    model = CONFIG.models[name]
    rows = list(list_rows(CONFIG, models=[name]))
    assert len(rows) > 50
    for row in rows:
        options = row_options(CONFIG, row, Path("text.txt"))
        wavescale.plan_resize(dict(model.config), architecture=model.class_name, **options)


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    raw = json.loads(CONFIG_FILE.read_text(encoding="utf-8"))
    raw["methods"]["default"]["axis"] = ["depth"]
    (tmp_path / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(TypeError, match="axis"):
        load_config(tmp_path / "config.json")


def tiny_config(**methods: Method) -> Config:
    model = Model(
        "Tiny", "tiny", "causal", "GPT2LMHeadModel", {}, {}, None, {"loss": 3.0, "error": 0.1},
        {"ffn": {"0.5": {"intermediate_size": 12}, "2": {"intermediate_size": 48}},
         "depth": {"0.5": {"num_hidden_layers": 1}}},
    )  # fmt: skip
    training = replace(CONFIG.training, models=["tiny"], rows=[("0.5", "ffn")], methods=[SCRATCH, *methods])
    return Config(["0.5", "2"], methods, {"tiny": model}, training)


def tiny_bench() -> Bench:
    ids = torch.randint(0, 31, (4, 12), generator=torch.Generator().manual_seed(3))
    return Bench(make(Case("gpt2", "GPT2LMHeadModel")), partial(causal_loss, ids=ids, parts=2))


def test_filters_choose_rows() -> None:
    config = tiny_config(
        a=Method({}, direction="shrink"), b=Method({}, axes=["depth"]), c=Method({}, factors=["2"]),
        d=Method({"calibrate": TEXT}), e=Method({}, models=["other"]),
    )  # fmt: skip
    found = [(row.factor, row.axis, row.method) for row in list_rows(config)]
    assert found == [("0.5", "ffn", "a"), ("0.5", "depth", "a"), ("0.5", "depth", "b"), ("2", "ffn", "c")]
    assert [row.method for row in list_rows(config, methods=["b"])] == ["b"]
    assert {row.method for row in list_training(config)} == {SCRATCH, "a"}


def test_a_calibration_text_takes_its_place() -> None:
    config = tiny_config(a=Method({"calibrate": TEXT, "gain": "role"}))
    options = row_options(config, Row("tiny", "0.5", "ffn", "a"), Path("other.txt"))
    assert options == {"intermediate_size": 12, "calibrate": Path("other.txt"), "gain": "role"}


def test_a_row_is_measured_and_reported(tmp_path: Path) -> None:
    config, bench = tiny_config(default=Method({}), paper=Method({"preset": "paper"})), tiny_bench()
    for row in list_rows(config):
        write_row(row.path(tmp_path), measure_row(row, config, bench))
    found = json.loads((tmp_path / "tiny" / "2-ffn-default.json").read_text(encoding="utf-8"))
    expected = bench.measure(bench.source)
    assert found["loss"] == pytest.approx(expected.values["loss"], abs=1e-5)  # growing keeps the function
    assert found["parts"] == pytest.approx(expected.parts, abs=1e-5)
    assert found["commit"]
    assert found["versions"]["torch"]
    halved = json.loads((tmp_path / "tiny" / "0.5-ffn-paper.json").read_text(encoding="utf-8"))
    assert abs(halved["loss"] - found["loss"]) > 0.01
    report(["--results", str(tmp_path), "--docs", str(tmp_path / "docs")], config)
    text = (tmp_path / "docs" / "quality.md").read_text(encoding="utf-8")
    assert f"{halved['loss']:.3f}" in text
    assert (tmp_path / "docs" / "quality.png").stat().st_size > 1000


def test_scratch_has_the_target_sizes_and_nothing_of_the_source() -> None:
    config, bench = tiny_config(default=Method({})), tiny_bench()
    fresh, resized = (start(TrainingRow("tiny", "0.5", "ffn", name, 1), config, bench) for name in (SCRATCH, "default"))
    assert {name: p.shape for name, p in fresh.named_parameters()} == {
        name: p.shape for name, p in resized.named_parameters()
    }
    assert not torch.equal(fresh.transformer.wte.weight, bench.source.transformer.wte.weight)


def test_masked_tokens_only_count() -> None:
    model = make(Case("bert", "BertForMaskedLM"))
    ids = inputs_for(model)["input_ids"]
    chosen = torch.zeros_like(ids, dtype=torch.bool)
    chosen[:, 2] = True
    arguments: dict[str, Any] = {"attention": torch.ones_like(ids), "chosen": chosen, "mask_id": 2, "parts": 2}
    found = masked_loss(model, ids, **arguments)
    assert found.count == 4
    assert found.values["accuracy"] == sum(found.parts) / 2
    hidden = ids.clone()
    hidden[:, 2] = 2
    with torch.no_grad():
        logits = model(hidden).logits[:, 2]
    assert found.values["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, ids[:, 2])), rel=1e-5)
    assert found.values["accuracy"] == float((logits.argmax(-1) == ids[:, 2]).float().mean())


def test_a_model_is_similar_to_itself_only() -> None:
    model = make(Case("bert", "BertModel"))
    ids = torch.randint(3, 31, (12, 9), generator=torch.Generator().manual_seed(1))
    batches = [{"input_ids": part, "attention_mask": torch.ones_like(part)} for part in ids.chunk(3)]
    pairs = torch.arange(12).view(-1, 2)
    expected = pair_similarities(model, batches, pairs)
    assert similarity(model, batches, pairs, expected, parts=2).values["correlation"] == pytest.approx(1.0)
    other = make(Case("bert", "BertModel"), seed=5)
    assert similarity(other, batches, pairs, expected, parts=2).values["correlation"] < 0.95


def test_images_are_classified() -> None:
    model = make(Case("vit", "ViTForImageClassification"))
    images = inputs_for(model)["pixel_values"]
    with torch.no_grad():
        labels = model(images).logits.argmax(-1)
    assert image_loss(model, images, labels, parts=3).values["accuracy"] == 1.0
    assert image_loss(model, images, (labels + 1) % 5, parts=3).values["accuracy"] == 0.0


def test_reactions_to_calibrate_on_are_others() -> None:
    measured, others = (
        (HERE / "reactions" / f"{part}.txt").read_text(encoding="utf-8").splitlines()
        for part in ("measured", "calibration")
    )
    assert len(measured) == len(others) == 256
    products = [{line.split(">>")[1] for line in lines} for lines in (measured, others)]
    assert not products[0] & products[1]
    for reaction in measured + others:
        precursors = reaction.split(">>")[0].split(".")
        assert precursors == sorted(precursors)
