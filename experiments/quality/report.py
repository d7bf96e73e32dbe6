"""Tables and a figure made of the results alone.

PYTHONPATH=experiments python -m quality.report --docs docs
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quality.results import read_rows
from quality.rows import RESULTS, Config, Model, load_config
from quality.training import SCRATCH

# What counts for each measure, and in words what was done.
COUNTS = {"causal": "loss", "similarity": "correlation", "masked": "accuracy", "images": "accuracy"}
MEASURES = {
    "causal": "Loss per next token, in nats.",
    "similarity": "Spearman correlation of the similarities of sentence pairs with the source's.",
    "masked": "Share of masked tokens that are predicted right, and in brackets the loss per masked token in nats.",
    "images": "Accuracy on test images, and in brackets the loss in nats.",
}
HEAD = """# Quality of resized models

Made by `python -m quality.report` from `experiments/quality/results`; the rows are those of
`experiments/quality/config.json`, which says what every method is. No row was trained, except in the
tables that say so.

A factor applies to the axis in its row: `ffn` are feed-forward units, `residual` is the hidden size (heads
follow it in families whose head_dim is hidden size over heads), `depth` are layers, `all` is everything at
once. Sizes are the valid ones nearest to the factor. **Bold** are the best of a row and all that differ
from it by less than two standard errors, taken over the parts of the window that all methods share.
"""
TRAINED = """Loss at the start → after {steps} steps of AdamW, the same data order for all, the best of the learning
rates {rates} for each.
"""


def main(argv: Sequence[str] | None = None, config: Config | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    arguments = parser.parse_args(argv)
    config = load_config() if config is None else config
    found = {name: read_rows(arguments.results / name) for name in config.models}
    trained = {name: read_rows(arguments.results / name / "training") for name in config.models}
    arguments.docs.mkdir(parents=True, exist_ok=True)
    text = "\n".join(write_report(config, found, trained))
    (arguments.docs / "quality.md").write_text(text, encoding="utf-8")
    draw(config, found, arguments.docs / "quality.png")


def write_report(
    config: Config, found: Mapping[str, list[dict[str, Any]]], trained: Mapping[str, list[dict[str, Any]]]
) -> Iterator[str]:
    """The lines of the page."""
    yield HEAD
    told = (f"`{name}` {_options(method.options)}" for name, method in config.methods.items())
    yield f"The options of each column: {', '.join(told)}.\n"
    yield "![The same figures: one row of panels a model, one column an axis](quality.png)\n"
    for name, model in config.models.items():
        if found[name]:
            count = COUNTS[model.measure]
            yield f"## {model.title}\n"
            floor = f"{model.floor[count]:.3f} ± {model.floor['error']:.3f}" if model.floor else "not pinned"
            yield f"{MEASURES[model.measure]} Source: {floor} (standard error), {found[name][0]['count']:,} counted.\n"
            yield from table(config, model, found[name])
        if trained[name]:
            recipe = config.training
            yield f"### Trained: {model.title}\n"
            yield TRAINED.format(steps=recipe.steps, rates=", ".join(f"{rate:g}" for rate in recipe.rates))
            yield from training_table(config, trained[name])


def table(config: Config, model: Model, rows: list[dict[str, Any]]) -> Iterator[str]:
    """One line a factor and axis, one column a method."""
    cells = {(row["factor"], row["axis"], row["method"]): row for row in rows}
    methods = [name for name in config.methods if any(row["method"] == name for row in rows)]
    yield from _header(["factor", "axis", *methods])
    for factor in sorted(config.factors, key=float):
        for axis in model.axes:
            line = {name: cells[factor, axis, name] for name in methods if (factor, axis, name) in cells}
            bold = winners(line, COUNTS[model.measure])
            shown = [_cell(line[name], model.measure, name in bold) if name in line else "" for name in methods]
            if line:
                yield f"| {factor} | {axis} | {' | '.join(shown)} |"
    yield ""


def winners(rows: Mapping[str, Mapping[str, Any]], count: str) -> set[str]:
    """The best row, and those whose parts differ from its parts by less than two standard errors."""
    if not rows:
        return set()
    sign = -1.0 if count == "loss" else 1.0
    best = max(rows, key=lambda name: sign * rows[name][count] if np.isfinite(rows[name][count]) else -np.inf)
    found = {best}
    for name, row in rows.items():
        apart = np.subtract(row["parts"], rows[best]["parts"])
        if abs(apart.mean()) <= 2 * apart.std(ddof=1) / len(apart) ** 0.5:
            found.add(name)
    return found


def training_table(config: Config, rows: list[dict[str, Any]]) -> Iterator[str]:
    """One line a factor, axis and seed, one column a method."""
    cells = {(row["factor"], row["axis"], row["seed"], row["method"]): row for row in rows}
    methods = [name for name in (SCRATCH, *config.methods) if any(row["method"] == name for row in rows)]
    yield from _header(["factor", "axis", "seed", *methods])
    for factor, axis, seed in dict.fromkeys((row["factor"], row["axis"], row["seed"]) for row in rows):
        line = {name: cells[factor, axis, seed, name] for name in methods if (factor, axis, seed, name) in cells}
        ends = {name: list(row["loss"][row["best"]].values()) for name, row in line.items()}
        least = min(curve[-1] for curve in ends.values())
        shown = []
        for name in methods:
            curve = ends.get(name)
            words = "" if curve is None else f"{curve[0]:.3f} → {curve[-1]:.3f}"
            shown.append(f"**{words}**" if curve is not None and curve[-1] == least else words)
        yield f"| {factor} | {axis} | {seed} | {' | '.join(shown)} |"
    yield ""


def draw(config: Config, found: Mapping[str, list[dict[str, Any]]], path: Path) -> None:
    """One row of panels a model, one column an axis; the factor to the right."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [name for name in config.models if found[name]]
    axes = list(dict.fromkeys(axis for name in shown for axis in config.models[name].axes))
    colours = {name: plt.colormaps["tab20"](at % 20) for at, name in enumerate(config.methods)}
    # Beside each other, where methods agree.
    beside = {name: 1.008 ** (at - len(config.methods) / 2) for at, name in enumerate(config.methods)}
    figure, panels = plt.subplots(
        max(1, len(shown)), max(1, len(axes)), squeeze=False, sharex=True, sharey="row",
        figsize=(2.6 * max(1, len(axes)), 2.1 * max(1, len(shown)) + 0.6), layout="constrained",
    )  # fmt: skip
    handles: dict[str, Any] = {}
    for line, name in zip(panels, shown, strict=True):
        model = config.models[name]
        count = COUNTS[model.measure]
        for panel, axis in zip(line, axes, strict=True):
            if axis not in model.axes:
                panel.axis("off")
                continue
            if count in model.floor:
                panel.axhline(model.floor[count], color="0.6", linestyle=":", linewidth=1)
            for method, colour in colours.items():
                rows = [row for row in found[name] if row["axis"] == axis and row["method"] == method]
                for direction in ("shrink", "grow"):
                    part = sorted(
                        (float(row["factor"]) * beside[method], row[count])
                        for row in rows
                        if (float(row["factor"]) > 1) == (direction == "grow")
                    )
                    if part:
                        (handles[method],) = panel.plot(
                            *zip(*part, strict=True), "o-", color=colour, markersize=3, linewidth=1, label=method
                        )
            panel.set_xscale("log", base=2)
            panel.set_xticks([float(factor) for factor in config.factors], list(config.factors), fontsize=6)
            panel.minorticks_off()
            panel.set_title(f"{name}: {axis}", fontsize=8)
            panel.tick_params(axis="y", labelsize=6)
        line[0].set_ylabel(count, fontsize=8)
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6, fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _cell(row: Mapping[str, Any], measure: str, bold: bool) -> str:
    words = f"{row[COUNTS[measure]]:.3f}"
    if COUNTS[measure] == "accuracy":
        words += f" ({row['loss']:.2f})"
    return f"**{words}**" if bold else words


def _options(options: Mapping[str, Any]) -> str:
    """Options as on the command line; `@text` is the model's own text."""
    named = (f"--{name.replace('_', '-')} {str(value).replace('@text', 'TEXT')}" for name, value in options.items())
    return f"`{' '.join(named)}`" if options else "(no options)"


def _header(names: Sequence[str]) -> Iterator[str]:
    yield f"| {' | '.join(names)} |"
    yield f"|{'---|' * len(names)}"


if __name__ == "__main__":
    main()
