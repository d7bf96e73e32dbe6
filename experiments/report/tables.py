"""Tables of cells, as Markdown and as HTML."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from statistics import fmean

from transfer import outcomes
from transfer.runs import SCRATCH, Run

from report.paper import REPORTED
from report.rows import Row, Trained
from report.savings import OURS, PAIR, ahead, baselines, lead, saving_of, spread

# The first line is the head.
Table = Sequence[Sequence[str]]
NOT_YET = "not run yet"


def markdown(table: Table) -> str:
    """A table of Markdown.

    Examples
    --------
    >>> print(markdown([["method", "r"], ["wavescale", "50%"]]))
    | method | r |
    |---|---|
    | wavescale | 50% |
    """
    head, *lines = (f"| {' | '.join(line)} |" for line in table)
    return "\n".join([head, f"|{'---|' * len(table[0])}", *lines])


def as_html(table: Table) -> str:
    """The same for a page.

    Examples
    --------
    >>> as_html([["r"], ["< 5%"]])
    '<table><thead><tr><th>r</th></tr></thead><tbody><tr><td>&lt; 5%</td></tr></tbody></table>'
    """

    def line(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

    body = "".join(line(cells, "td") for cells in table[1:])
    return f"<table><thead>{line(table[0], 'th')}</thead><tbody>{body}</tbody></table>"


def main_table(rows: Sequence[Row]) -> Table:
    """The saving ratio of every method in every row, the paper's figures and the leads below.

    A lead is a dash where a run is missing or did not come to the quality.
    """
    methods = sorted({name for row in rows for name in row.methods} - {SCRATCH}, key=_ours_first)
    lines = [["method", *(row.name for row in rows)]]
    for method in methods:
        lines.append([method, *(saving_of(row, method).told() if method in row.runs else "" for row in rows)])
    lines.append(["BoT in the paper", *(_reported(row) for row in rows)])
    for method in (name for name in methods if name.startswith(OURS)):
        leads = (_lead(row, method) if method in row.runs else "" for row in rows)
        lines.append([f"lead of {method} over the best baseline", *leads])
    if set(PAIR) <= set(methods):
        lines.append(["lead of {} over {}".format(*PAIR), *(_points(ahead(row, *PAIR)) for row in rows)])
    lines.append(["lead of BoT in the paper", *(_reported_lead(row) for row in rows)])
    return lines


def _ours_first(method: str) -> tuple[bool, str]:
    return not method.startswith(OURS), method


def _points(leads: Mapping[int, float]) -> str:
    return f"{100 * fmean(leads.values()):+.1f} points" if leads else "-"


def _reported(row: Row) -> str:
    return f"{REPORTED[row.name].saving:.1f}%" if row.name in REPORTED else ""


def _reported_lead(row: Row) -> str:
    points = REPORTED[row.name].lead if row.name in REPORTED else None
    return "" if points is None else f"{points:+.1f} points"


def _lead(row: Row, method: str) -> str:
    found = lead(row, method)
    if found is None:
        return "-"
    points, best = found
    others = baselines(row)
    run = sum(bool(row.trained[name]) for name in others)
    missing = "" if run == len(others) else f" ({run} of {len(others)} baselines run)"
    return f"{100 * points:+.1f} points over {best}{missing}"


def row_table(row: Row) -> Table:
    """One line a method: r at shares of the budget, with the source's training, in seconds; end and chosen rate."""
    quality = row.first.quality
    head = [
        "method", "seeds", "r", "r at 75%", "r at 50%", "r with the source's training", "r in seconds",
        f"last {quality}", "at step", "rate", "warm-up",
    ]  # fmt: skip
    lines = [head]
    for method in sorted(row.methods, key=lambda name: (name != SCRATCH, *_ours_first(name))):
        trained = row.trained[method]
        if not trained:
            lines.append([method, "0", NOT_YET, *[""] * (len(head) - 3)])
            continue
        savings = [""] * 5
        if row.runs[method].stop == "target":
            found = (
                saving_of(row, method),
                saving_of(row, method, share=0.75),
                saving_of(row, method, share=0.5),
                saving_of(row, method, measure="total flops"),
                saving_of(row, method, measure="seconds"),
            )
            savings = [one.told() for one in found]
        ends = [one.qualities[-1] for one in trained]
        steps = spread([one.steps[-1] for one in trained], "{:,.0f}")
        lines.append(
            [method, str(len(trained)), *savings, spread(ends, "{:.4f}"), steps, *chosen(trained, row)],
        )
    return lines


def chosen(trained: Sequence[Trained], row: Row) -> tuple[str, str]:
    """The rate and the warm-up that probes chose, or that were given."""
    run: Run = trained[0].run
    path = run.probes(row.results)
    found = outcomes.read(path)["chosen"] if path.is_file() else trained[0].result["run"]
    return f"{found['rate']:g}", f"{found['warmup']:.0%}"


def tuning_table(rows: Sequence[Row]) -> Table:
    """The quality after a third of fine-tuning and after all of it, method by method."""
    methods = sorted({name for row in rows for name in row.methods}, key=lambda n: (n != SCRATCH, *_ours_first(n)))
    lines = [
        ["method", *(f"{row.name}, {row.first.quality} {when}" for row in rows for when in ("early", "at the end"))]
    ]
    for method in methods:
        cells = []
        for row in rows:
            trained = row.trained.get(method, ())
            missing = NOT_YET if method in row.runs else ""
            for share in (1 / 3, 1.0):
                found = [one.quality_at(share) for one in trained]
                cells.append(spread(found, "{:.4f}") if found else missing)
        lines.append([method, *cells])
    return lines
