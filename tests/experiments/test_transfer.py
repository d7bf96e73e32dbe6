from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from flops import forward_flops
from flops import main as cost
from reproduce import main as reproduce
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from train import Bench, final_model, finish
from transfer import outcomes
from transfer.answers import Question, Spans, exact, f1
from transfer.climbing import climbed
from transfer.images import Mixing, read_images
from transfer.measures import MEASURES
from transfer.order import Ordered
from transfer.runs import HERE, RUNS, Run, list_methods, list_rows, list_runs, load_run
from transfer.starts import APART, Start, make_start
from transfer.tasks import Data, for_task, fresh_model, load_task
from transfer.text import IGNORED
from transfer.training import last_checkpoint, train
from transformers import EvalPrediction

import wavescale

# Trainer and torch warn of what no test can change.
pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.filterwarnings("ignore::FutureWarning")]

# A text that never changes.
TEXT = HERE.parent / "LICENSE"
SCALES = sorted(path.name for path in RUNS.iterdir() if path.is_dir())
EVERY = [(scale, row, method) for scale in SCALES for row in list_rows(scale) for method in list_methods(scale, row)]


SENTENCES = "".join(f"{k}\t{3 - k % 7}\t{'good' if k % 7 < 3 else 'bad'} film {k}\n" for k in range(70))


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scikit-learn's digits as IDX files of 28 × 28 pixels; and rated sentences."""
    folder = tmp_path_factory.mktemp("digits")
    digits = load_digits()
    pixels = np.pad(np.kron(digits.images, np.ones((3, 3))) * 15, ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    for part, chosen in (("train", slice(0, 1500)), ("t10k", slice(1500, None))):
        found, labels = pixels[chosen], digits.target[chosen].astype(np.uint8)
        header = b"".join(number.to_bytes(4, "big") for number in (0x803, *found.shape))
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + found.tobytes()))
        header = b"".join(number.to_bytes(4, "big") for number in (0x801, len(labels)))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(header + labels.tobytes()))
    (folder / "sentiment").mkdir()
    (folder / "sentiment" / "movieReviewSnippets_GroundTruth.txt").write_text(SENTENCES, encoding="utf-8")
    (folder / "squad.json").write_text(json.dumps(SQUAD), encoding="utf-8")
    return folder


CONTEXT = "The whale was white. Ahab hunted it, and the sea closed over the ship at the end of the hunt."
SQUAD = {"data": [{"paragraphs": [{"context": CONTEXT, "qas": [
    {"question": "Who hunted it?", "answers": [{"text": "Ahab", "answer_start": CONTEXT.index("Ahab")},
                                               {"text": "hunted", "answer_start": CONTEXT.index("hunted")}]},
    {"question": "When?", "answers": []},
    {"question": "What closed?", "answers": [{"text": "the sea", "answer_start": CONTEXT.index("the sea")}]},
]}]}]}  # fmt: skip
# What stands for the datasets of the hub.
LOCAL: dict[str, dict[str, Any]] = {
    "sentences": {"table": load_run("cpu", "gpt-s2l-sentiment", "scratch").data["table"]},
    "answers": {"squad": {"train": "squad.json", "validation": "squad.json"}},
}


TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}


def write_runs(home: Path, task: str = "gpt", **changes: Any) -> Path:
    """A table of one row, small enough for a test, of a task as it ships."""
    row = json.loads((RUNS / "cpu" / f"{task}-s2l" / "row.json").read_text(encoding="utf-8"))
    data = {**row["data"], "measured": 8, "length": 16, "tokenizer": 300}
    small = {"data": data, "source": SMALL, "target": TINY, "steps": 12, "batch": 4, "marks": 6, "probe": 0.34,
             "rates": [0.001, 0.01], "warmups": [0.1]}  # fmt: skip
    files = {
        "defaults": {},
        "row/row": {**row, **small, "source_run": ["row", "source"], **changes},
        "row/scratch": {"source_run": None, "stop": "never"},
        "row/source": {"source_run": None, "stop": 0.5, "target": SMALL},
        "row/wavescale": {"options": {}},
        "row/ligo": {"options": {"preset": "ligo", "train_steps": 2}},
        "row/distillation": {"distillation": {"alpha": 0.5, "temperature": 2.0}},
    }
    for name, content in files.items():
        path = home / "cpu" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    return home


def bench_at(home: Path, images: Path | None = None, **changes: Any) -> Bench:
    task = changes.pop("task", "gpt")
    return Bench(images, (TEXT,), home / "work", home / "results", write_runs(home / "runs", task, **changes))


@pytest.mark.parametrize(("scale", "row", "method"), EVERY)
def test_every_run_takes_two_steps(scale: str, row: str, method: str, images: Path, tmp_path: Path) -> None:
    run = load_run(scale, row, method)
    assert set(run.source) == set(run.target)
    data = {**run.data, **LOCAL.get(run.task, {}), "measured": 2, "length": 16, "tokenizer": 300, "folder": "."}
    config = {**run.config, "patch_size": 7} if run.task == "images" else run.config
    short = replace(run, steps=2, batch=2, marks=1, rates=(), rate=1e-3, workers=0, data=data, config=config)
    task = load_task(short, Data(images, (TEXT,), tmp_path))
    # A model of the paper's scale is no matter of two steps on a processor.
    by = {"num_hidden_layers": 6, "num_attention_heads": 1} if scale == "paper" else {}
    source, target = (
        {name: size // by.get(name, 8 if by else 1) for name, size in sizes.items()}
        for sizes in (run.source, run.target)
    )
    if run.options is not None:
        plan = wavescale.plan_resize(fresh_model(short, task, source), **{**target, **run.options})
        assert plan.target.hidden_size == target["hidden_size"]
    model = fresh_model(short, task, target)
    teacher = None if run.distillation is None else fresh_model(short, task, source)
    before = {name: value.clone() for name, value in model.named_parameters()}
    curve = train(short, task, Start(model, 0), teacher, None, tmp_path / "run").curve
    assert [point["step"] for point in curve] == [0, 2]
    assert all(np.isfinite(point[run.quality]) for point in curve)
    assert any(not torch.equal(value, before[name]) for name, value in model.named_parameters())


def test_rows_are_mirrored() -> None:
    for task in ("gpt", "bert", "deit"):
        up, down = (load_run("cpu", f"{task}-{way}", "wavescale") for way in ("s2l", "l2s"))
        assert (up.source, up.target) == (down.target, down.source)
        assert up.source_run == (f"{task}-s2l", "source")
        assert down.source_run == (f"{task}-s2l", "scratch")


def test_nothing_but_its_own_line_tells_methods_apart() -> None:
    """Scratch may have longer probes: those of BERT have to see what comes after the frequencies of words."""
    for row in list_rows("cpu"):
        runs = [load_run("cpu", row, method) for method in list_methods("cpu", row) if method != "source"]
        shared = [replace(run, method="", options=None, distillation=None, source_run=None, seeds=(), stop="target",
                          calibration_steps=0, probe=0) for run in runs]  # fmt: skip
        assert all(run == shared[0] for run in shared)
        assert len({run.probe for run in runs if run.method != "scratch"}) == 1


def test_results_in_git_are_of_the_configs_beside_them() -> None:
    """All but how the rate was found, by a grid that may have grown since."""
    free = {"row", "method", "seed", "seeds", "rate", "rates", "warmup", "warmups", "probe", "workers", "device_batch"}
    decisive = [one for one in fields(Run) if one.name not in free]
    compared = [run for run in list_runs("cpu") if run.result().is_file()]
    assert compared
    for run in compared:
        recorded = outcomes.read(run.result())["run"]
        told = json.loads(json.dumps(asdict(run)))
        for one in decisive:
            # A setting that came later had its default before.
            found = recorded[one.name] if one.default is MISSING else recorded.get(one.name, one.default)
            assert found == told[one.name], (run.result(), one.name)


@pytest.mark.parametrize("scale", SCALES)
def test_no_run_sees_the_data_in_its_sources_order(scale: str) -> None:
    compared = 0
    for run in list_runs(scale):
        source = None if run.source_run is None else load_run(scale, *run.source_run)
        if source is not None and source.data == run.data:
            assert source.data_seed != run.data_seed
            compared += 1
    assert compared


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    home = write_runs(tmp_path)
    (home / "cpu" / "row" / "wavescale.json").write_text('{"option": {}}', encoding="utf-8")
    with pytest.raises(TypeError, match="option"):
        load_run("cpu", "row", "wavescale", runs=home)


def test_runs_of_one_seed_come_before_the_next(tmp_path: Path) -> None:
    home = write_runs(tmp_path)
    (home / "cpu" / "row" / "wavescale.json").write_text('{"options": {}, "seeds": [0, 1]}', encoding="utf-8")
    found = [(run.method, run.seed) for run in list_runs("cpu", order=["wavescale"], runs=home)]
    assert found == [
        ("wavescale", 0),
        ("scratch", 0),
        ("source", 0),
        ("distillation", 0),
        ("ligo", 0),
        ("wavescale", 1),
    ]
    assert [(run.method, run.seed) for run in list_runs("cpu", runs=home, seeds=[1])] == [("wavescale", 1)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Bench:
    """A row that is complete."""
    bench = bench_at(tmp_path_factory.mktemp("finished"), images)
    reproduce(train_file=list(bench.files), work=bench.work, results=bench.results, runs=bench.runs)
    return bench


def test_a_row_is_complete_and_has_its_savings(finished: Bench) -> None:
    found = {path.stem: outcomes.read(path) for path in (finished.results / "row").glob("*-seed0.json")}
    assert set(found) == {f"{method}-seed0" for method in ("scratch", "source", "wavescale", "ligo", "distillation")}
    scratch, mine = found["scratch-seed0"], found["wavescale-seed0"]
    assert [point["step"] for point in scratch["curve"]] == [0, 2, 4, 6, 8, 10, 12]
    source = found["source-seed0"]["curve"]
    halfway = outcomes.quality_at(scratch["curve"], "loss", 6)
    assert source[-1]["step"] == 12 or source[-1]["loss"] <= halfway
    # Growing keeps the function, so the start is as good as its source was.
    assert mine["curve"][0]["loss"] == pytest.approx(source[-1]["loss"], abs=1e-4)
    assert found["ligo-seed0"]["start_flops"] > scratch["flops_per_step"]  # two steps and the mapping itself
    assert mine["start_flops"] == 0
    assert mine["source_flops"] == source[-1]["step"] * found["source-seed0"]["flops_per_step"]
    assert found["distillation-seed0"]["flops_per_step"] > scratch["flops_per_step"]
    summary = json.loads((finished.results / "summary.json").read_text(encoding="utf-8"))
    assert {(entry["row"], entry["method"]) for entry in summary} == {
        ("row", name) for name in ("wavescale", "ligo", "distillation")
    }


def test_probes_choose_the_rate(finished: Bench) -> None:
    probes = outcomes.read(finished.results / "row" / "wavescale-probes.json")
    assert [probe["rate"] for probe in probes["probes"]] == [0.001, 0.01]
    assert {probe["step"] for probe in probes["probes"]} == {4}  # of 12
    assert probes["chosen"] == min(probes["probes"], key=lambda probe: probe["loss"])
    run = outcomes.read(finished.results / "row" / "wavescale-seed0.json")
    assert run["run"]["rate"] == probes["chosen"]["rate"]
    assert run["run"]["steps"] == 12
    assert not list((finished.work / "cpu" / "row" / "wavescale-seed0").glob("rate*"))


def test_a_second_time_nothing_is_done(finished: Bench) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.results.rglob("*-*.json")}
    reproduce(
        train_file=list(finished.files), work=Path("no such folder"), results=finished.results, runs=finished.runs
    )
    assert {path: path.stat().st_mtime_ns for path in finished.results.rglob("*-*.json")} == before
    assert not Path("no such folder").exists()


def test_a_model_that_is_gone_is_trained_again(finished: Bench, tmp_path: Path) -> None:
    moved = replace(finished, work=tmp_path)
    again = final_model(moved.run("cpu", "row", "source"), moved)
    first = final_model(finished.run("cpu", "row", "source"), finished)
    states = [load_file(home / "model.safetensors") for home in (first, again)]
    assert all(torch.allclose(states[0][name], states[1][name], atol=1e-6) for name in states[0])


def test_a_source_that_ends_elsewhere_than_its_result_is_refused(finished: Bench, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(finished.results, results)
    path = results / "row" / "source-seed0.json"
    told = outcomes.read(path)
    told["curve"][-1]["loss"] *= 0.9
    path.write_text(json.dumps(told), encoding="utf-8")
    moved = replace(finished, work=tmp_path / "work", results=results)
    with pytest.raises(ValueError, match="row source seed 0: its model was gone"):
        final_model(moved.run("cpu", "row", "source"), moved)
    assert not (moved.work / "cpu" / "row" / "source-seed0" / "model").exists()


def test_a_start_with_other_options_is_refused(finished: Bench) -> None:
    run = finished.run("cpu", "row", "wavescale")
    source = final_model(finished.run("cpu", "row", "source"), finished)
    home = finished.work / run.folder / "start"
    assert make_start(run, finished.task(run), source, home).flops == 0
    with pytest.raises(ValueError, match="holds a start of row wavescale with other options"):
        make_start(replace(run, options={"details": "zero"}), finished.task(run), source, home)


def test_probes_are_those_of_the_first_seed_whichever_is_run(tmp_path: Path, images: Path) -> None:
    bench = bench_at(tmp_path, images)
    (bench.runs / "cpu" / "row" / "scratch.json").write_text(
        '{"source_run": null, "stop": "never", "seeds": [0, 1]}', encoding="utf-8"
    )
    finish(bench.run("cpu", "row", "scratch", 1), bench)
    found = outcomes.read(bench.results / "row" / "scratch-probes.json")
    other = replace(bench, work=tmp_path / "other", results=tmp_path / "others")
    finish(other.run("cpu", "row", "scratch", 0), other)
    assert found["probes"] == outcomes.read(other.results / "row" / "scratch-probes.json")["probes"]


def test_a_rate_that_diverges_is_the_worst() -> None:
    quality = {1.0: 0.5, 2.0: -np.inf, 4.0: -np.inf}
    assert climbed([1.0, 2.0, 4.0], quality.__getitem__) == 1.0


def test_a_checkpoint_that_was_being_written_is_passed_over(tmp_path: Path) -> None:
    for step, state in ((8, '{"log_history": []}'), (16, '{"log_hist'), (24, None)):
        home = tmp_path / f"checkpoint-{step}"
        home.mkdir()
        if state is not None:
            (home / "trainer_state.json").write_text(state, encoding="utf-8")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-8"
    assert last_checkpoint(tmp_path / "none") is None


def test_a_batch_in_parts_trains_the_same(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"rates": [], "rate": 0.01, "warmup": 0.1}
    whole, parts = (
        finish(bench.run("cpu", "row", "scratch"), bench)
        for bench in (bench_at(tmp_path / "whole", **changes), bench_at(tmp_path / "parts", device_batch=2, **changes))
    )
    losses = [[point["loss"] for point in found["curve"]] for found in (whole, parts)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert [point["step"] for point in whole["curve"]] == [point["step"] for point in parts["curve"]]


class KilledError(Exception):
    """Stands for the end of a process."""


@pytest.mark.parametrize("task", ["gpt", "bert", "deit"])
def test_a_killed_run_resumes_to_the_same_curve(
    task: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"rates": [], "rate": 0.01, "warmup": 0.1, "task": task}
    whole = finish(
        bench_at(tmp_path / "a", images, **changes).run("cpu", "row", "scratch"),
        bench_at(tmp_path / "a", images, **changes),
    )
    bench = bench_at(tmp_path / "b", images, **changes)
    drawn, get = [0], Ordered.__getitem__

    def fail_at_last(self: Ordered, place: int) -> dict[str, Any]:
        drawn[0] += 1
        if drawn[0] == 44:  # of 48: behind the checkpoint of step 8
            raise KilledError
        return get(self, place)

    with monkeypatch.context() as patch:
        patch.setattr(Ordered, "__getitem__", fail_at_last)
        with pytest.raises(KilledError):
            finish(bench.run("cpu", "row", "scratch"), bench)
    assert not list(bench.results.rglob("*.json"))
    drawn[0] = 0
    resumed = finish(bench.run("cpu", "row", "scratch"), bench)
    quality = "accuracy" if task == "deit" else "loss"
    assert [point["step"] for point in resumed["curve"]] == [point["step"] for point in whole["curve"]]
    assert [point[quality] for point in resumed["curve"]] == [point[quality] for point in whole["curve"]]


def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"rates": [], "rate": 0.01, "warmup": 0.1}
    alone = bench_at(tmp_path / "alone", **changes)
    whole = finish(alone.run("cpu", "row", "wavescale"), alone)
    pair = bench_at(tmp_path / "pair", **changes)
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(HERE / "accelerate" / "cpu2.yaml"),
        "--main_process_port", "0", str(HERE / "train.py"), "row", "wavescale", "--train-file", str(TEXT),
        "--work", str(pair.work), "--results", str(pair.results), "--runs", str(pair.runs),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    shared = outcomes.read(pair.results / "row" / "wavescale-seed0.json")
    assert shared["processes"] == 2
    losses = [[point["loss"] for point in found["curve"]] for found in (whole, shared)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


@pytest.mark.parametrize("name", ["ddp", "fsdp", "deepspeed", "cpu2"])
def test_accelerate_reads_its_configs(name: str) -> None:
    config = load_config_from_file(str(HERE / "accelerate" / f"{name}.yaml"))
    kinds = {"ddp": "MULTI_GPU", "fsdp": "FSDP", "deepspeed": "DEEPSPEED", "cpu2": "MULTI_GPU"}
    assert str(config.distributed_type).rpartition(".")[2] == kinds[name]
    assert config.num_processes == (2 if name == "cpu2" else 8)


@pytest.mark.parametrize("task", ["gpt", "bert", "deit"])
def test_flops_are_those_that_torch_counts(task: str, images: Path, tmp_path: Path) -> None:
    bench = bench_at(tmp_path, images, task=task)
    run = bench.run("cpu", "row", "scratch")
    data = bench.task(run)
    model = fresh_model(run, data, {**TINY, "num_hidden_layers": 3}).eval()
    model.set_attn_implementation("eager")
    batch = data.collate([data.validation[place] for place in range(2)])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**{name: value for name, value in batch.items() if name != "labels"})
    # What is counted besides: the classifier reads one token of an image only.
    assert 2 * forward_flops(model, data.length) == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_folders_of_images_are_read(tmp_path: Path) -> None:
    from PIL import Image

    for part, name, shade in (("train", "a", 0), ("train", "b", 255), ("test", "b", 255)):
        (tmp_path / part / name).mkdir(parents=True)
        Image.new("RGB", (10, 12), (shade,) * 3).save(tmp_path / part / name / "x.png")
        (tmp_path / part / name / ".DS_Store").touch()
    found = read_images({"size": 8, "channels": 1}, tmp_path, train=True)
    assert read_images({"size": 8, "channels": 1}, tmp_path, train=False).labels.tolist() == [1]
    assert found.labels.tolist() == [0, 1]
    assert [pixels.shape for pixels in found.pixels] == [(8, 8, 1)] * 2
    assert [int(pixels.mean()) for pixels in found.pixels] == [0, 255]
    with pytest.raises(ValueError, match="neither IDX files nor folders"):
        read_images({"size": 8, "channels": 1}, tmp_path / "train", train=True)
    (tmp_path / "test" / "c").mkdir()
    with pytest.raises(ValueError, match="c: is no class below train; found a, b"):
        read_images({"size": 8, "channels": 1}, tmp_path, train=False)


@pytest.mark.parametrize(
    ("task", "name"), [("bert", "BertForSequenceClassification"), ("gpt", "GPT2ForSequenceClassification")]
)
def test_a_language_model_becomes_a_classifier(task: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "rated.txt").write_text(SENTENCES, encoding="utf-8")
    bench = replace(bench_at(tmp_path, task=task, rates=[], rate=0.01, warmup=0.1), root=tmp_path)
    row = bench.runs / "cpu" / "row" / "row.json"
    table = {"train": "rated.txt", "format": "csv", "text": ["text"], "label": "rating", "threshold": 0,
             "reader": {"delimiter": "\t", "column_names": ["id", "rating", "text"]}}  # fmt: skip
    tuned = json.loads(row.read_text(encoding="utf-8")) | {
        "task": "sentences",
        "quality": "accuracy",
        "steps": 200,
        "batch": 8,
    }
    tuned |= {"data": {**tuned["data"], "table": table}, "stop": "never", "source": TINY, "target": SMALL,
              "source_run": ["row", "scratch"], "decoder": task == "gpt"}  # fmt: skip
    home = row.parent.parent / "tuned"
    home.mkdir()
    (home / "row.json").write_text(json.dumps(tuned), encoding="utf-8")
    (home / "wavescale.json").write_text('{"options": {}}', encoding="utf-8")
    found = finish(bench.run("cpu", "tuned", "wavescale"), bench)
    assert found["curve"][-1]["accuracy"] > 0.9  # "good" and "bad" tell
    model = final_model(bench.run("cpu", "tuned", "wavescale"), bench)
    assert json.loads((model / "config.json").read_text(encoding="utf-8"))["architectures"] == [name]


def test_spans_are_found_in_files_of_squads_format(images: Path, tmp_path: Path) -> None:
    bench = bench_at(tmp_path, images, task="bert")
    run = replace(bench.run("cpu", "row", "scratch"), task="answers", quality="span_f1")
    for length in (96, 40):
        task = bench.task(replace(run, data={**run.data, **LOCAL["answers"], "length": length}))
        assert isinstance(task.validation, Spans)
        # The question without an answer is left out.
        assert [asked.answers for asked in task.validation.questions] == [("Ahab", "hunted"), ("the sea",)]
        example = next(one for one in map(task.validation.__getitem__, range(2)) if one["start_positions"])
        assert task.tokenizer is not None
        answer = example["input_ids"][example["start_positions"] : example["end_positions"] + 1]
        assert "Ahab" in task.tokenizer.decode(answer)
        assert len(example["input_ids"]) == length
    model = fresh_model(run, task, SMALL)
    short = replace(run, steps=60, batch=8, marks=1, rate=1e-2)
    curve = train(short, task, Start(model, 0), None, None, tmp_path / "run").curve
    assert curve[0]["span_f1"] < 1
    assert curve[-1]["span_f1"] == 1  # on what it was trained on


def test_windows_of_a_text_do_not_depend_on_its_answer(images: Path, tmp_path: Path) -> None:
    bench = bench_at(tmp_path, images, task="bert")
    tokenizer = bench.task(bench.run("cpu", "row", "scratch")).tokenizer
    assert tokenizer is not None
    text = " ".join(f"word{k}" for k in range(60))
    asked = [Question("Which?", text, (word,), text.index(word)) for word in ("word3 ", "word40 ", "word59")]
    spans = Spans.of(asked, tokenizer, 96)
    of = [[place for place in range(len(spans)) if spans.windows[place, 0] == k] for k in range(3)]
    parts = [[spans[place]["input_ids"] for place in places] for places in of]
    assert len(parts[0]) > 2
    assert all(np.array_equal(parts[0], parts[k]) for k in (1, 2))
    ids, _ = spans.texts[text]
    assert len(ids) <= spans.windows[:, 1].max() + 96 - spans._before(0) - 1  # the last window holds the end
    for k, question in enumerate(asked):
        held = [spans[place] for place in of[k] if spans[place]["start_positions"]]
        assert held
        for example in held:
            found = tokenizer.decode(example["input_ids"][example["start_positions"] : example["end_positions"] + 1])
            assert question.answers[0].strip() in found


def test_answers_are_read_from_the_best_window(images: Path, tmp_path: Path) -> None:
    bench = bench_at(tmp_path, images, task="bert")
    tokenizer = bench.task(bench.run("cpu", "row", "scratch")).tokenizer
    assert tokenizer is not None
    text = " ".join(f"word{k}" for k in range(60))
    spans = Spans.of([Question("Which?", text, ("word40", "none"), text.index("word40"))], tokenizer, 96)
    starts, ends = np.zeros((2, len(spans), 96))
    told = next(place for place in range(len(spans)) if spans[place]["start_positions"])
    first, last = spans[told]["start_positions"], spans[told]["end_positions"]
    starts[told, first], ends[told, last] = 5.0, 5.0
    starts[told, 0], ends[told, 1] = 50.0, 50.0  # [CLS] and the question are no answer
    starts[told, last + 1], ends[told, first - 1] = 6.0, 6.0  # nor does one end before it begins
    assert spans.measured(EvalPrediction((starts, ends), ())) == {"span_f1": 1.0, "exact": 1.0}
    assert spans.measured(EvalPrediction((-starts, -ends), ()))["exact"] == 0.0


def test_words_of_answers_are_compared_without_articles_and_punctuation() -> None:
    assert exact("The  white whale!", ["Ahab", "white whale"]) == 1.0
    assert f1("a white whale", ["the whale", "Ahab"]) == pytest.approx(2 / 3)
    assert f1("sea", ["the ship"]) == 0.0


@pytest.mark.parametrize(("name", "expected"), [("accuracy", 0.75), ("f1", 2 / 3), ("matthews", 1 / 3**0.5)])
def test_measures_of_classes(name: str, expected: float) -> None:
    logits = np.array([[0.0, 1], [1, 0], [1, 0], [1, 0]])
    assert MEASURES[name](EvalPrediction(logits, np.array([1, 1, 0, 0]))) == {name: pytest.approx(expected)}


def test_numbers_are_ranked() -> None:
    logits, labels = np.array([[0.1], [5.0], [2.0]]), np.array([1.0, 3.0, 2.0])
    assert MEASURES["spearman"](EvalPrediction(logits, labels)) == {"spearman": pytest.approx(1.0)}


def test_digits_are_brought_to_size() -> None:
    found = {train: read_images({"digits": True}, None, train) for train in (True, False)}
    assert len(found[True].labels) + len(found[False].labels) == 1797
    assert len(found[True].labels) == 360
    assert found[True].pixels[0].shape == (28, 28, 1)
    assert np.array_equal(found[True].pixels[0][2:26:3, 2:26:3, 0], load_digits().images[0] * 15)


def test_a_fresh_head_is_drawn_by_the_seed(tmp_path: Path, images: Path) -> None:
    bench = bench_at(tmp_path, images, task="deit")
    run = replace(bench.run("cpu", "row", "scratch"), fresh_head=True, seed=3)
    task = bench.task(run)
    kept = fresh_model(run, task, SMALL)
    kept.save_pretrained(tmp_path / "kept")
    first, again, other = (
        for_task(replace(run, seed=seed), task, tmp_path / "kept").classifier.weight for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    plain = for_task(replace(run, fresh_head=False), task, tmp_path / "kept")
    assert torch.equal(plain.classifier.weight, kept.classifier.weight)


def test_the_cost_of_the_papers_scale_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    cost()
    told = capsys.readouterr().out
    assert all(row in told for row in list_rows("paper"))


@pytest.mark.parametrize(("share", "count"), [(0.15, 2), (0.5, 7)])
def test_masks_hide_what_is_to_be_predicted(share: float, count: int, images: Path, tmp_path: Path) -> None:
    bench = bench_at(tmp_path, images, task="bert")
    run = bench.run("cpu", "row", "scratch")
    task = bench.task(replace(run, data={**run.data, "masked": share}))
    assert task.tokenizer is not None
    examples = [task.train[place] for place in range(48)]
    hidden = np.stack([example["labels"] != IGNORED for example in examples])
    assert hidden[:, 1:-1].sum(1).tolist() == [count] * 48  # of 14
    assert not hidden[:, [0, -1]].any()
    seen = np.concatenate([example["input_ids"][example["labels"] != IGNORED] for example in examples])
    assert 0.6 < (seen == task.tokenizer.mask_token_id).mean() < 0.95
    rest = [np.where(row, IGNORED, example["input_ids"]) for row, example in zip(hidden, examples, strict=True)]
    assert all(task.tokenizer.mask_token_id not in row for row in rest)


def test_what_is_drawn_depends_on_seed_and_place_alone(images: Path, tmp_path: Path) -> None:
    bench = bench_at(tmp_path, images, task="deit")
    run = bench.run("cpu", "row", "scratch")
    first, again = bench.task(run).train[7], bench.task(run).train[7]
    other = bench.task(replace(run, seed=1)).train[7]
    assert np.array_equal(first["pixel_values"], again["pixel_values"])
    assert not np.array_equal(first["pixel_values"], other["pixel_values"])


def test_mixed_labels_follow_the_pixels() -> None:
    examples = [
        {"pixel_values": np.full((1, 2, 2), float(k), np.float32), "labels": k, "mixing": 0.3 + 0.2 * k}
        for k in range(3)
    ]
    batch = Mixing(3, 0.4)(examples)
    share = batch["labels"].amax(1)
    assert torch.allclose(batch["labels"].sum(1), torch.ones(3))
    expected = share * torch.tensor([0.0, 1, 2]) + (1 - share) * torch.tensor([2.0, 0, 1])
    assert torch.allclose(batch["pixel_values"][:, 0, 0, 0], expected)


@pytest.mark.parametrize("task", ["gpt", "bert", "deit"])
def test_a_start_is_calibrated_on_the_runs_own_data(task: str, images: Path, tmp_path: Path) -> None:
    bench = bench_at(tmp_path, images, task=task, rates=[], rate=1e-3, source=TINY, target=SMALL, calibration_steps=2)
    run = bench.run("cpu", "row", "wavescale")
    data, key = bench.task(run), "pixel_values" if task == "deit" else "input_ids"
    source = fresh_model(run, data, TINY)
    source.save_pretrained(tmp_path / "source")
    start = make_start(run, data, tmp_path / "source", tmp_path / "start")
    # The first eight examples of an order of their own, four a step.
    drawn = replace(data.train, seed=run.data_seed + APART)
    batches = [{key: data.collate([drawn[k] for k in range(at, at + 4)])[key]} for at in (0, 4)]
    if task == "deit":  # no mixing
        batches = [{key: torch.stack([torch.from_numpy(drawn[k][key]) for k in range(at, at + 4)])} for at in (0, 4)]
    options: dict[str, Any] = {**SMALL, "calibrate": batches}
    with sdpa_kernel(SDPBackend.MATH):  # rounding decides much where so little is fitted
        expected = wavescale.resize(source, **options)
    for name, value in expected.state_dict().items():
        assert torch.allclose(start.model.state_dict()[name], value, atol=1e-6), name
    assert start.flops > 2 * 4 * forward_flops(source, data.length)


def test_distillation_is_its_formula(tmp_path: Path) -> None:
    bench = bench_at(tmp_path, rates=[], rate=1e-3)
    run = bench.run("cpu", "row", "distillation")
    task = bench.task(run)
    student, teacher = fresh_model(run, task, TINY).eval(), fresh_model(replace(run, seed=5), task, SMALL).eval()
    from transfer.training import Clock, TransferTrainer
    from transformers import TrainingArguments

    trainer = TransferTrainer(
        Clock(), 0.0, teacher, run.distillation, model=student, args=TrainingArguments(str(tmp_path), use_cpu=True)
    )
    batch = task.collate([task.validation[place] for place in range(2)])
    found = trainer.compute_loss(student.train(), dict(batch))
    with torch.no_grad():
        mine, wanted = (m.eval()(batch["input_ids"]).logits[:, :-1].double() for m in (student, teacher))
    p = torch.softmax(wanted / 2, -1)
    kl = (p * (torch.log(p) - torch.log_softmax(mine / 2, -1))).sum(-1).mean()
    ce = -torch.log_softmax(mine, -1).gather(-1, batch["labels"][:, 1:, None]).mean()
    assert float(found) == pytest.approx(float(0.5 * ce + 0.5 * 4 * kl), rel=1e-5)


def result(run: Run, losses: list[float], home: Path, **changes: Any) -> None:
    curve = [{"step": 2 * k, "loss": loss, "seconds": 3.0 * k} for k, loss in enumerate(losses)]
    outcomes.write(
        run.result(home),
        {"run": {"steps": 2 * (len(losses) - 1)}, "curve": curve, "flops_per_step": 10, "start_flops": 0,
         "source_flops": 0, **changes},
    )  # fmt: skip


def test_savings_by_hand(tmp_path: Path) -> None:
    bench = bench_at(tmp_path)
    scratch, mine = (bench.run("cpu", "row", method) for method in ("scratch", "wavescale"))
    assert outcomes.saving(mine, bench.results) is None
    result(scratch, [6.0, 5.0, 4.0], bench.results)
    result(mine, [5.0, 3.0], bench.results, start_flops=5, source_flops=10)
    # It passes 4.0 halfway to step 2: 10 FLOPs and 5 for the start, of 40.
    assert outcomes.saving(mine, bench.results) == pytest.approx(1 - 15 / 40)
    assert outcomes.saving(mine, bench.results, measure="total flops") == pytest.approx(1 - 25 / 40)
    assert outcomes.saving(mine, bench.results, measure="seconds") == pytest.approx(1 - 1.5 / 6)
    # At half of scratch's budget the target is 5.0, where it starts.
    assert outcomes.saving(mine, bench.results, share=0.5) == pytest.approx(1 - 5 / 20)
    result(mine, [5.0, 4.5], bench.results)
    assert outcomes.saving(mine, bench.results) == -np.inf


def test_a_run_that_is_none_is_refused_with_those_that_are(finished: Bench) -> None:
    with pytest.raises(
        ValueError, match=r"nosuch: no method of .*; use one of scratch, source, distillation, ligo, wav"
    ):
        finished.run("cpu", "row", "nosuch")
    with pytest.raises(ValueError, match=r"elsewhere: no row of .*; use one of row"):
        finished.run("cpu", "elsewhere", "scratch")
    called = ["train.py", "row", "nosuch", "--runs", str(finished.runs)]
    done = subprocess.run(
        [sys.executable, str(HERE / called[0]), *called[1:]], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.startswith("error: nosuch: no method of")) == (1, True)


def test_one_process_that_sees_several_gpus_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    bench = bench_at(tmp_path, task="gpt")
    with pytest.raises(ValueError, match=r"one process sees 2 GPUs.*accelerate launch"):
        finish(bench.run("cpu", "row", "scratch"), bench)
