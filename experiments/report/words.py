"""The page of savings in Markdown, and what the README shows of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from report.ablation import wavelet_table
from report.described import rates_table, trained_table
from report.maps import TOKENS
from report.rows import Row
from report.tables import main_table, markdown, row_table, tuning_table

HEAD = """# Savings

Made by `make report` from the results in `experiments/results`; do not edit. The runs are those of
`experiments/runs/{scale}`, which say what each method is.
"""
SAVING = """A model is trained from scratch, and models of the same size that start from a smaller or larger one are
trained beside it on the same data in the same order. **r is the share of scratch's training FLOPs that a start saves
on the way to the quality that scratch ends with**: r = (φ_scratch − φ)/φ_scratch, the saving ratio of BoT
([arXiv 2603.07506](https://arxiv.org/abs/2603.07506)). φ counts what making the start took, by calibration or by
training a mapping, and does not count the training of the source, which is there already; a column of its own counts
it. FLOPs are counted by the rule in `experiments/flops.py`. Between two measurements the quality is taken to be linear.

Means are over seeds, with the range in brackets where they differ. Seconds are the steps at one pace, the median of
all runs of the row whose steps do the same work, without measuring, and what making the start took. A run that used up
the budget and never came to the quality says so, with the quality that it ended with. The paper's figures are of other
sizes, data and budgets, so they are there to compare orders of magnitude and ranks.

Leads of a few points are within what seeds differ by. That holds for DeiT above all: a run ends at the first mark that
has the accuracy of scratch's end, and accuracy on some thousand images swings by a point or two from mark to mark
while the rate is high. The start of `wavescale` was chosen among variants on these rows, some of them trained to the
end; the other methods are as their authors describe them. Baselines are the methods of all authors but BoT's, which is
`bot-paper` here, as we read its paper. `distillation` trains from scratch with the source as its teacher, whose passes
are counted.
"""
RATES = """Every method chooses its own learning rate and warm-up, scratch as well. Probes, runs of a share of the
budget whose schedule is as short, climb the rates from the middle one as long as the next is better, at the first
warm-up, and then try the other warm-ups, where there are more, at the best rate; other seeds take over what the first
one chose. From its highest value the rate falls as a cosine over the whole budget. What probes take is counted for no
method.
"""
TUNING = """Models of the rows above are resized and trained on another task at once, with no pre-training in between.
The quality after a third of the budget, and at its end:
"""
WAVELETS = """The paper's way with other wavelets, all with one seed and at the rate that probes chose for the paper's
way. The quality at the start → after the budget; **bold** is the best end of a row, and what is no further from it than
the ends of Haar are from each other over its seeds. The paper's transform joins the last layer to the first, and
filters that are long for three layers or six carry layers over: db4 and coif3 have the first layer of the source last
when growing and its fifth first when shrinking, sym4 has the last one first when growing. `ordered` is the same wavelet
with the two ends apart, so that layers stay in their order, and with whole heads.
"""
MAPS = f"""Made by `python -m report maps` from models that runs have kept: `start` is before any training, `trained` is
where the run ended. For text, attention over the first {TOKENS} tokens of a held-out window, the mean over heads: a
line is a token, a column what it attends to, and the root is shown so that weak attention is seen as well. For images,
rollout of attention from the class token to the patches, and Grad-CAM for the right class. A layer that exact growth
has inserted attends but adds nothing yet: rollout, which sees attention alone, counts it all the same.
"""
INTERACTIVE = """`savings.html`, made by the same command, shows the same curves with their exact values; it needs no
network.
"""

# What the README shows of the table of savings, and the lines that it lies between there.
SHOWN = (
    "bot-paper",
    "wavescale",
    "BoT in the paper",
    "lead of wavescale over the best baseline",
    "lead of wavescale over bot-paper",
)
BEGIN, END = "<!-- made by `make report` -->\n", "<!-- end -->\n"


def write_page(rows: Sequence[Row], docs: Path, scale: str) -> Path:
    """Write `savings.md`; it shows what figures there are beside it."""
    text = "\n".join(_lines(rows, docs, scale))
    path = docs / "savings.md"
    path.write_text(text, encoding="utf-8")
    return path


def fill_readme(rows: Sequence[Row], readme: Path) -> Path:
    """Bring the README's part of the table of savings up to date.

    Raises
    ------
    ValueError
        The lines that it lies between are missing.
    """
    before, begun, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (begun and ended):
        raise ValueError(f"{readme}: no lines {BEGIN.strip()!r} and {END.strip()!r} for the table to lie between")
    head, *lines = main_table([row for row in rows if row.kind == "savings"])
    table = markdown([head, *(line for line in lines if line[0] in SHOWN)])
    readme.write_text(f"{before}{BEGIN}{table}\n{END}{after}", encoding="utf-8")
    return readme


def _lines(rows: Sequence[Row], docs: Path, scale: str) -> Iterator[str]:
    savings, wavelets, tuning = (
        [row for row in rows if row.kind == kind] for kind in ("savings", "wavelets", "tuning")
    )
    yield HEAD.format(scale=scale)
    yield SAVING
    yield from _picture("savings.png", "Quality against FLOPs, row by row", docs)
    yield markdown(main_table(savings)) + "\n"
    yield INTERACTIVE
    yield "## What was trained\n"
    yield markdown(trained_table([*savings, *tuning, *wavelets])) + "\n"
    yield RATES
    yield markdown(rates_table([*savings, *tuning, *wavelets])) + "\n"
    for row in savings:
        yield f"## {row.name}\n"
        yield from _picture(f"savings-{row.name}.svg", f"{row.name}: quality against FLOPs and against steps", docs)
        yield markdown(row_table(row)) + "\n"
    if tuning:
        yield "## Fine-tuning at once\n"
        yield TUNING
        yield markdown(tuning_table(tuning)) + "\n"
    if any(row.trained[name] for row in wavelets for name in row.methods):
        yield "## Wavelets\n"
        yield WAVELETS
        yield from _picture("savings-wavelets.svg", "The quality of each wavelet in each row", docs)
        yield markdown(wavelet_table(wavelets)) + "\n"
    if any((docs / _maps(row)).is_file() for row in savings):
        yield "## Where the models look\n"
        yield MAPS
        for row in savings:
            yield from _picture(_maps(row), f"{row.name}: where source and resized models look", docs)


def _maps(row: Row) -> str:
    return f"maps-{row.name}.png"


def _picture(name: str, told: str, docs: Path) -> Iterator[str]:
    if (docs / name).is_file():
        yield f"![{told}]({name})\n"
