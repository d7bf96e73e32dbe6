"""Measure how fast and in how much memory checkpoints are resized, beside a copy and beside other ways.

    python benchmarks/streaming/measure.py all --work /dev/shm/streaming --disk /some/disk    # or part by part:
    python benchmarks/streaming/measure.py speed --work /dev/shm/streaming            # sources of 0.5 and 2 GB
    python benchmarks/streaming/measure.py speed --work /some/disk --gigabytes 0.5 --name speed-disk
    python benchmarks/streaming/measure.py memory --work /some/disk                   # sources of 0.5, 2 and 8 GB
    python benchmarks/streaming/measure.py growth --work /dev/shm/streaming           # the same size after size
    python benchmarks/streaming/measure.py ranks --work /dev/shm/streaming            # one process and two
    python benchmarks/streaming/report.py                                             # docs/speed.md and .png

Every arm of a comparison runs once in each round, in turn, so that a machine that drifts slows all of them
alike, and begins by deleting what the one before has written (`timing.py`). `cp` copies the target, which reads and
writes twice its bytes; throughput is bytes read and written over seconds for both. Bytes are those that files take:
neither resizing nor `cp` writes the zeros of inserted layers. Sources and targets are in files of 400 MB. Seconds are
without the start of Python, torch and transformers, which is given beside.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from synthetic import SHAPES, SHARD_BYTES, make_checkpoint
from timing import cleared
from watched import CLOSE, SELDOM, Watched, watched

HERE = Path(__file__).parent
CASES: Mapping[str, Mapping[str, Any]] = json.loads((HERE / "cases.json").read_text(encoding="utf-8"))
RESULTS = HERE.parent / "results"
_COMPUTE_BOUND = "width x 2, db4"

app = typer.Typer(help=__doc__, pretty_exceptions_enable=False, rich_markup_mode=None)
console = Console()
Work = Annotated[Path, typer.Option(help="Where sources and targets are kept while it runs.")]
Rounds = Annotated[int, typer.Option(help="Of each comparison.")]
Sizes = Annotated[list[float] | None, typer.Option(help="Of the source.")]
Only = Annotated[list[str] | None, typer.Option("--case", help="Cases; all by default.")]


def weights(folder: Path) -> int:
    """Bytes that a checkpoint's weights take, without the zeros that nobody has written."""
    return sum(min(file.stat().st_size, 512 * file.stat().st_blocks) for file in folder.glob("*.safetensors"))


def resized(source: Path, out: Path, options: Mapping[str, Any], ranks: int = 0, interval: float = SELDOM) -> Watched:
    """One resize in a process of its own, or in several with one thread each."""
    options = {"max_shard_size": SHARD_BYTES, **options}
    python = [sys.executable]
    env = dict(os.environ)
    if ranks:
        env["OMP_NUM_THREADS"] = "1"
    if ranks > 1:
        python += ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    return watched([*python, str(HERE / "timed_resize.py"), str(source), str(out), json.dumps(options)], env, interval)


def compared(case: Mapping[str, Any], source: Path, work: Path, gigabytes: float, rounds: int) -> dict[str, Any]:
    """All arms of a case in turn: seconds of each round, and the memory that the resize took."""
    target = work / "target"
    layers = SHAPES[gigabytes].num_hidden_layers
    arms: dict[str, Callable[[Path], float]] = {}
    memory: dict[str, list[int]] = defaultdict(list)
    starts: list[float] = []

    def ours(out: Path) -> float:
        found = resized(source, out, case["options"])
        memory["wavescale"].append(found.anonymous)
        starts.append(found.seconds - found.printed["seconds"])
        return float(found.printed["seconds"])

    def other(name: str, script: str, *arguments: str, of: Path = source) -> Callable[[Path], float]:
        def run(out: Path) -> float:
            found = watched([sys.executable, str(HERE / script), str(of), str(out), *arguments])
            memory[name].append(found.anonymous)
            return float(found.printed["seconds"])

        return run

    arms["wavescale"] = ours
    arms["cp"] = other("cp", "timed_copy.py", of=target)
    if case.get("mergekit") and find_spec("mergekit") is None:
        console.print("mergekit is not installed and left out; stacked_by_mergekit.py says how.")
    elif case.get("mergekit"):
        arms["mergekit"] = other("mergekit", "stacked_by_mergekit.py", str(layers))
    if case.get("straightforward") and gigabytes == min(SHAPES):
        arms["straightforward"] = other("straightforward", "straightforward.py")
    cleared(target)  # of a run that was stopped
    cleared(work / "out")
    resized(source, target, case["options"])
    shutil.copytree(target, work / "out")  # for the first arm to delete
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, run in arms.items():
            seconds[name].append(run(work / "out"))
    found = {
        "source_bytes": weights(source),
        "target_bytes": weights(target),
        "seconds": seconds,
        "start_seconds": starts,
        "anonymous_bytes": memory,
    }
    shutil.rmtree(target)
    shutil.rmtree(work / "out")
    return found


def _kept(name: str, entries: Sequence[Mapping[str, Any]]) -> None:
    """Put entries into a result in place of those of the same case and size, each with what it was measured with."""
    sys.path.insert(0, str(HERE.parents[1] / "experiments"))
    from provenance import commit

    from wavescale.card import versions

    path = RESULTS / f"{name}.json"
    old = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    fresh = {(entry["case"], entry["gigabytes"]) for entry in entries}
    by = {"commit": commit(), "versions": versions(), "threads": torch.get_num_threads()}
    kept = [entry for entry in old if (entry["case"], entry["gigabytes"]) not in fresh]
    kept += [{**entry, **by} for entry in entries]
    kept.sort(key=lambda entry: (entry["gigabytes"], list(CASES).index(entry["case"])))
    path.parent.mkdir(exist_ok=True)
    path.write_text("[\n " + ",\n ".join(map(json.dumps, kept)) + "\n]\n", encoding="utf-8")


@app.command()
def speed(
    work: Work, gigabytes: Sizes = None, rounds: Rounds = 5, case: Only = None, name: str = "speed"
) -> None:  # fmt: skip
    """Compare with a copy, with mergekit and with the straightforward way."""
    for size in gigabytes or (0.5, 2.0):
        source = work / f"source-{size:g}"
        make_checkpoint(source, SHAPES[size])
        for label in case or [label for label in CASES if "goal" in CASES[label]]:
            found = compared(CASES[label], source, work, size, rounds)
            rate = {arm: sorted(all_)[len(all_) // 2] for arm, all_ in found["seconds"].items()}
            console.print(label, f"{size:g} GB", {arm: round(median, 2) for arm, median in rate.items()})
            _kept(name, [{"case": label, "gigabytes": size, **found}])


@app.command()
def memory(work: Work, gigabytes: Sizes = None, case: Only = None) -> None:
    """Watch the memory of one resize of each case and size."""
    for size in gigabytes or SHAPES:
        source = work / f"source-{size:g}"
        make_checkpoint(source, SHAPES[size])
        for label in case or CASES:
            found = resized(source, work / "out", CASES[label]["options"], interval=CLOSE)
            entry = {
                "case": label,
                "gigabytes": size,
                "source_bytes": weights(source),
                "target_bytes": weights(work / "out"),
                "seconds": found.printed["seconds"],
                "anonymous_bytes": found.anonymous,
                "largest_tensor_bytes": _largest(work / "out"),
            }
            shutil.rmtree(work / "out")
            console.print(label, f"{size:g} GB", f"{found.anonymous / 1e6:.0f} MB", f"{entry['seconds']:.1f} s")
            _kept("memory", [entry])


def _largest(folder: Path) -> int:
    from wavescale.checkpoint import open_checkpoint

    tensors = open_checkpoint(folder).tensors.values()
    return max(torch.Size(shape).numel() * getattr(torch, dtype).itemsize for shape, dtype in tensors)


@app.command()
def growth(work: Work, gigabytes: Sizes = None, rounds: Rounds = 3, case: str = "everything / 2") -> None:
    """Time one case at all sizes in turn, on one file system that has room for all sources."""
    sizes = gigabytes or list(SHAPES)
    for size in sizes:
        make_checkpoint(work / f"source-{size:g}", SHAPES[size])
    seconds: dict[float, list[float]] = defaultdict(list)
    written: dict[float, int] = {}
    for turn in range(-1, rounds):  # the first round makes what the second deletes
        for size in sizes:
            out = work / f"out-{size:g}"
            found = resized(work / f"source-{size:g}", out, CASES[case]["options"])
            if turn >= 0:
                seconds[size].append(found.printed["seconds"])
            written[size] = weights(out)
    for size in sizes:
        shutil.rmtree(work / f"out-{size:g}")
        entry = {"source_bytes": weights(work / f"source-{size:g}"), "target_bytes": written[size]}
        console.print(case, f"{size:g} GB", f"{sorted(seconds[size])[rounds // 2]:.2f} s")
        _kept("growth", [{"case": case, "gigabytes": size, **entry, "seconds": seconds[size]}])


@app.command()
def ranks(work: Work, rounds: Rounds = 5, gigabytes: float = 0.5) -> None:
    """One process and two, each with one thread, on a case that computes more than it copies."""
    source = work / f"source-{gigabytes:g}"
    make_checkpoint(source, SHAPES[gigabytes])
    seconds: dict[str, list[float]] = {"1": [], "2": []}
    digests: set[str] = set()
    resized(source, work / "out", CASES[_COMPUTE_BOUND]["options"])  # for the first arm to delete
    for _ in range(rounds):
        for count, found in seconds.items():
            found.append(resized(source, work / "out", CASES[_COMPUTE_BOUND]["options"], int(count)).printed["seconds"])
            digests.add(_digest(work / "out"))
    shutil.rmtree(work / "out")
    console.print({count: sorted(found)[rounds // 2] for count, found in seconds.items()}, f"same: {len(digests) == 1}")
    entry = {"case": _COMPUTE_BOUND, "gigabytes": gigabytes, "seconds": seconds, "same": len(digests) == 1}
    _kept("ranks", [entry])


@app.command(name="all")
def everything(
    work: Work, disk: Annotated[Path, typer.Option(help="A folder with 45 GB of room.")]
) -> None:  # fmt: skip
    """All of these, in about 40 minutes; the file system in memory takes 15 GB."""
    speed(work)
    ranks(work)
    growth(work)
    speed(disk, gigabytes=[0.5], name="speed-disk")
    memory(disk)


def _digest(folder: Path) -> str:
    """Of all bytes of a checkpoint's weights."""
    found = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            found.update(hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()


if __name__ == "__main__":
    app()
