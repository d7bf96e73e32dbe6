"""Write docs/speed.md and docs/speed.png from what `measure.py` has found.

python benchmarks/streaming/report.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
RESULTS, DOCS = HERE.parent / "results", HERE.parents[1] / "docs"
CASES: Mapping[str, Mapping[str, Any]] = json.loads((HERE / "cases.json").read_text(encoding="utf-8"))
# What resizing may take whatever the checkpoint: a gigabyte, and twice the largest tensor.
FIXED, TENSORS = 1e9, 2

Entry = Mapping[str, Any]


def entries(name: str) -> list[Entry]:
    """What was measured, or nothing."""
    path = RESULTS / f"{name}.json"
    found: list[Entry] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return found


def moved(entry: Entry) -> float:
    """Gigabytes read and written."""
    return float(entry["source_bytes"] + entry["target_bytes"]) / 1e9


def shares(entry: Entry, of: str) -> list[float]:
    """Our throughput divided by another's, round by round; `cp` moves twice the target's bytes."""
    mine, other = entry["seconds"]["wavescale"], entry["seconds"][of]
    bytes_of_other = 2 * entry["target_bytes"] / 1e9 if of == "cp" else moved(entry)
    return [moved(entry) / a / (bytes_of_other / b) for a, b in zip(mine, other, strict=True)]


def _spread(found: Sequence[float]) -> tuple[float, float, float]:
    return min(found), median(found), max(found)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows, the first of them the head, in Markdown."""
    head, *rest = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rest))


def speeds(found: Sequence[Entry]) -> str:
    """One line a case and size."""
    rows = [["case", "source → target", "wavescale", "`cp`", "of `cp`, median and range", "goal", "beside others"]]
    for entry in found:
        seconds = entry["seconds"]
        others = [
            f"{median(shares(entry, name)):.1f} × {name}" for name in ("mergekit", "straightforward") if name in seconds
        ]  # fmt: skip
        rows.append([
            entry["case"],
            f"{entry['source_bytes'] / 1e9:.2f} → {entry['target_bytes'] / 1e9:.2f} GB",
            f"{moved(entry) / median(seconds['wavescale']):.2f} GB/s",
            f"{2 * entry['target_bytes'] / 1e9 / median(seconds['cp']):.2f} GB/s",
            "**{1:.2f}** ({0:.2f} to {2:.2f})".format(*_spread(shares(entry, "cp"))),
            f"{CASES[entry['case']].get('goal', '-')}",
            ", ".join(others),
        ])  # fmt: skip
    return table(rows)


def memories(found: Sequence[Entry]) -> str:
    """One line a case, one column a size."""
    sizes = {entry["gigabytes"]: entry["source_bytes"] / 1e9 for entry in found}
    rows = [["case", *(f"source of {sizes[size]:.1f} GB" for size in sorted(sizes))]]
    for case in CASES:
        cells = []
        for size in sorted(sizes):
            mine = [e for e in found if (e["case"], e["gigabytes"]) == (case, size)]
            bound = FIXED + TENSORS * mine[0]["largest_tensor_bytes"] if mine else 0
            cells.append(f"{mine[0]['anonymous_bytes'] / 1e6:,.0f} of {bound / 1e6:,.0f} MB" if mine else "-")
        if any(cell != "-" for cell in cells):
            rows.append([case, *cells])
    return table(rows)


def growths(found: Sequence[Entry]) -> str:
    """One line a size: seconds, and how many more there are for each further GB than the size before has."""
    rows = [["case", "source → target", "seconds", "seconds a GB read or written", "seconds a further GB"]]
    for entry in found:
        smaller = [e for e in found if e["case"] == entry["case"] and moved(e) < moved(entry)]
        slope = "-"
        if smaller:
            before = max(smaller, key=moved)
            more = median(entry["seconds"]) - median(before["seconds"])
            slope = f"{more / (moved(entry) - moved(before)):.3f}"
        rows.append([
            entry["case"],
            f"{entry['source_bytes'] / 1e9:.2f} → {entry['target_bytes'] / 1e9:.2f} GB",
            f"{median(entry['seconds']):.2f}",
            f"{median(entry['seconds']) / moved(entry):.3f}",
            slope,
        ])  # fmt: skip
    return table(rows)


def drawn(memory: Sequence[Entry], growth: Sequence[Entry]) -> None:
    """Memory and time against the checkpoint's size."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for panel, found in zip(axes, (memory, growth), strict=True):
        for case in CASES:
            mine = sorted((e for e in found if e["case"] == case), key=moved)
            if mine:
                heights = [e["anonymous_bytes"] / 1e6 if panel is axes[0] else median(e["seconds"]) for e in mine]
                panel.plot([e["source_bytes"] / 1e9 for e in mine], heights, "o-", label=case)
        panel.legend(fontsize=7)
    axes[0].set(xlabel="source, GB", ylabel="private memory, MB", ylim=(0, None))
    axes[1].set(xlabel="source, GB", ylabel="seconds", ylim=(0, None))
    figure.savefig(DOCS / "speed.png", dpi=110, metadata={"Software": None})


def text() -> str:
    """The page."""
    speed, disk, memory, growth, ranks = map(entries, ("speed", "speed-disk", "memory", "growth", "ranks"))
    parts = ["# How fast, and in how much memory"]
    if speed:
        rounds, start = (min(len(e["seconds"]["cp"]) for e in speed), median(median(e["start_seconds"]) for e in speed))
        parts += [
            f"""\
Llama-shaped bfloat16 checkpoints with random weights, on a memory-backed file system, {speed[0]["threads"]} threads.
Throughput is bytes read and written a second: medians of {rounds} rounds, in each of which all arms of a case run in
turn. `cp` copies the target, so it reads and writes twice its bytes; zeros of inserted layers are written by neither
and not counted. Seconds are those of the call; Python, torch and transformers take {start:.1f} s more to start.
`make speed DISK=/some/disk` measures all of this, and its results are in `benchmarks/results`.""",
            speeds(speed),
        ]
    if disk:
        parts += [
            "## On a disk",
            "The same on an ext4 file system, which takes files of this size into memory and writes them to the\n"
            "disk afterwards. It does so in larger pages than a memory-backed one, so that `cp` is faster there and\n"
            "what is computed weighs more. Every arm waits until the disk is idle. Goals were set for the table\n"
            "above.",
            speeds(disk),
        ]
    if memory:
        parts += [
            "## Memory",
            "Private memory (anonymous pages, seen from outside the process) at its highest, and what it may be: a\n"
            "gigabyte and twice the largest tensor. The search for similar units (`--order similarity`) compares\n"
            "all with all and has no such bound.",
            memories(memory),
        ]
    if growth:
        rounds = min(len(entry["seconds"]) for entry in growth)
        parts += [
            "## Time and size",
            f"Sizes in turn on a memory-backed file system, medians of {rounds} rounds. Part of the time does not\n"
            "grow with the size, such as that of the plan; the rest is linear if all further GB take the same.",
            growths(growth),
        ]
    if memory or growth:
        parts.append("![Private memory and seconds against the size of the source](speed.png)")
    if ranks:
        one, two = (median(ranks[0]["seconds"][count]) for count in ("1", "2"))
        same = "the same to the byte" if ranks[0]["same"] else "**not** the same"
        parts += [
            "## Several processes",
            f"{ranks[0]['case']} of {ranks[0]['gigabytes']:g} GB, one thread a process: {one:.1f} s in one, "
            f"{two:.1f} s in two, {one / two:.2f} times as fast. The files are {same}.",
        ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write both files."""
    (DOCS / "speed.md").write_text(text(), encoding="utf-8")
    drawn(entries("memory"), entries("growth"))


if __name__ == "__main__":
    main()
