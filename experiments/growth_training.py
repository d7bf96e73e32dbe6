"""How a grown model should be trained on: small GPT-2, 3 × 96 to 6 × 192, beside rivals and its source.

    python experiments/growth_training.py --text brown.txt.gz

The runs are in `growth_training.json`: defaults, and entries that change some of them; a list of values is
a grid. Every run writes one JSON into `results/growth_training/` when it is finished, and is skipped
from then on. Several processes may work at once. FLOPs are 6·N·tokens (forward and backward, Kaplan et
al. 2020, arXiv 2001.08361), N being the matrices of the layers and the head.
"""

from __future__ import annotations

import argparse
import fcntl
import itertools
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from provenance import commit
from small_gpt2 import BATCH, WINDOW, Corpus, config, read_corpus, validation_loss
from transformers import GPT2LMHeadModel

import wavescale
from wavescale.card import versions
from wavescale.optimizer import decayed_names

HERE = Path(__file__).parent
Run = dict[str, Any]


def expanded(entries: dict[str, Any]) -> Iterator[Run]:
    """Every run of the config: the defaults, changed by an entry, one for each point of its grid."""
    for name, changes in entries["runs"].items():
        grid = {key: value for key, value in changes.items() if isinstance(value, list)}
        for point in itertools.product(*grid.values()):
            values = dict(zip(grid, point, strict=True))
            label = "-".join([name, *(f"{key}{value}" for key, value in values.items())])
            yield {**entries["defaults"], **changes, **values, "name": label}


def optimizer_of(model: GPT2LMHeadModel, run: Run) -> torch.optim.AdamW:
    """AdamW in Trainer's groups, with weight decay and without; inserted layers may take a rate of their own."""
    decayed, rate = decayed_names(model), run["rate"] * run["source_peak"]
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        # Of layers that insertion made twice as many every second is new.
        inserted = ".h." in name and int(name.split(".")[2]) % 2 == 1
        key = (0.01 if name in decayed else 0.0, rate * (run["fresh"] if inserted else 1))
        groups.setdefault(key, []).append(parameter)
    ordered = sorted(groups.items(), key=lambda item: -item[0][0])
    return torch.optim.AdamW(
        [{"params": parameters, "weight_decay": decay, "lr": rate} for (decay, rate), parameters in ordered],
        lr=rate, betas=(0.9, run["beta2"]),
    )  # fmt: skip


def factor(run: Run, step: int) -> float:
    """What the peak is multiplied by at a step, counted from 0."""
    rise = min(1.0, (step + 1) / run["warmup"]) if run["warmup"] else 1.0
    after = max(0, step - run["warmup"]) / max(1, run["steps"] - run["warmup"])
    fall = {"cosine": 0.5 + 0.5 * math.cos(math.pi * after), "linear": 1 - after, "constant": 1.0}[run["decay"]]
    return rise * (run["floor"] + (1 - run["floor"]) * fall)


def fit(
    model: GPT2LMHeadModel, optimizer: torch.optim.AdamW, corpus: Corpus, run: Run, keep: Path, until: float
) -> dict[int, float]:
    """Train; the validation loss in nats at step 0 and every so many steps.

    Every 500 steps the run is kept in a file, from which a process that comes later goes on, and this one
    ends where its time is over.
    """
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(run, step))
    done, curve = 0, {}
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    if keep.is_file():
        kept = torch.load(keep, weights_only=True)
        done, curve = kept["done"], kept["curve"]
        for name, part in parts.items():
            part.load_state_dict(kept[name])
    else:
        curve[0] = validation_loss(model, corpus)
    model.train()
    for step, ids in zip(range(1, run["steps"] + 1), corpus.batches(run["seed"]), strict=False):
        if step <= done:
            continue
        model(ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % run["every"] == 0 or step == run["steps"]:
            curve[step] = validation_loss(model, corpus)
            model.train()
        if step % 500 == 0 and step < run["steps"]:
            states = {name: part.state_dict() for name, part in parts.items()}
            torch.save({**states, "done": step, "curve": curve}, keep.with_suffix(".part"))
            keep.with_suffix(".part").replace(keep)
            if time.monotonic() > until:
                raise SystemExit(0)
    keep.unlink(missing_ok=True)
    return curve


def trained_source(
    folder: Path, corpus: Corpus, recipe: Run, until: float
) -> tuple[GPT2LMHeadModel, dict[str, Any]] | None:
    """The source and AdamW's state at its end, kept in a folder; None while another process trains it."""
    with locked(folder.with_suffix(".lock")) as mine:
        if not (folder / "optimizer.pt").is_file():
            if not mine:
                return None
            torch.manual_seed(0)
            model = GPT2LMHeadModel(config(recipe["layers"], recipe["width"]))
            optimizer = optimizer_of(model, recipe)
            curve = fit(model, optimizer, corpus, recipe, folder.with_suffix(".pt"), until)
            print(f"source: {curve}", flush=True)
            model.save_pretrained(folder)
            (folder / "curve.json").write_text(json.dumps(curve) + "\n")
            torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    state = torch.load(folder / "optimizer.pt", weights_only=True)
    return GPT2LMHeadModel.from_pretrained(folder), state


def grown(source: GPT2LMHeadModel, state: dict[str, Any], run: Run) -> tuple[GPT2LMHeadModel, torch.optim.AdamW]:
    """The model that a run starts from, and its optimizer."""
    if run["options"] is None:
        model, moments = source, state
    else:
        sizes = {**run["sizes"], **run["options"]}
        model = wavescale.resize(source, **sizes)
        if run["amplitude"] != 1:
            plain = wavescale.resize(source, **{**sizes, "details": "zero"})
            with torch.no_grad():  # details are what both differ by
                for mine, bare in zip(model.parameters(), plain.parameters(), strict=True):
                    mine.copy_(bare + run["amplitude"] * (mine - bare))
        plan = wavescale.plan_resize(source, **sizes)
        moments = wavescale.resize_optimizer_state(state, source, model, plan) if run["moments"] else None
    optimizer = optimizer_of(model, run)
    if run["moments"]:
        settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        optimizer.load_state_dict(moments)
        for group, own in zip(optimizer.param_groups, settings, strict=True):
            group.pop("initial_lr", None)
            group.update(own)
    return model, optimizer


def flops_per_step(model: GPT2LMHeadModel) -> int:
    """6·N·tokens, N being the entries of the layers' matrices and of the head."""
    matrices = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and ".h." in name)
    return 6 * (matrices + model.lm_head.weight.numel()) * BATCH * WINDOW


class locked:  # noqa: N801 - used as a statement
    """A lock that a killed process lets go."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file, self.held = path.open("w"), False

    def __enter__(self) -> bool:
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.held = True
        except BlockingIOError:
            pass
        return self.held

    def __exit__(self, *_: object) -> None:
        self.file.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--only", default="", help="names of runs that start with this")
    parser.add_argument("--seconds", type=float, default=math.inf, help="start no run after this long")
    parser.add_argument("--work", type=Path, default=Path("runs/growth_training"))
    parser.add_argument("--results", type=Path, default=HERE / "results" / "growth_training")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    entries = json.loads((HERE / "growth_training.json").read_text())
    corpus = read_corpus(arguments.text)
    arguments.results.mkdir(parents=True, exist_ok=True)
    for run in expanded(entries):
        result = arguments.results / f"{run['name']}.json"
        if time.monotonic() - began > arguments.seconds:
            return
        if result.is_file() or not run["name"].startswith(arguments.only):
            continue
        with locked(arguments.work / f"{run['name']}.lock") as mine:
            if not mine or result.is_file():
                continue
            steps = run["source_steps"]
            layers, width = run["source_layers"], run["source_width"]
            recipe = {**entries["source"], "layers": layers, "width": width, "steps": steps, "every": steps // 20}
            home = arguments.work / f"source{layers}x{width}-{steps}"
            trained = trained_source(home, corpus, recipe, began + arguments.seconds)
            if trained is None:
                continue
            source, state = trained
            started, before = time.monotonic(), validation_loss(source, corpus)
            torch.manual_seed(run["seed"])
            model, optimizer = grown(source, state, run)
            keep = arguments.work / f"{run['name']}.pt"
            curve = fit(model, optimizer, corpus, run, keep, began + arguments.seconds)
            flops = flops_per_step(model)
            target = next((step for step, loss in curve.items() if loss <= before - 0.05), None)
            found = {
                "run": run,
                "source_loss": before,
                "curve": curve,
                "last": curve[run["steps"]],
                "rise": max(curve.values()) - curve[0],
                "flops_per_step": flops,
                "flops_to_target": None if target is None else target * flops,
                "seconds": round(time.monotonic() - started, 1),
                "commit": commit(),
                "versions": versions(),
            }
            unfinished = arguments.work / f"{run['name']}.tmp"
            unfinished.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            unfinished.replace(result)
            print(f"{run['name']}: {curve[0]:.3f} -> {found['last']:.4f}, rise {found['rise']:.4f}, "
                  f"target {target} {found['flops_to_target']}, {found['seconds']} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
