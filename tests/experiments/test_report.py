from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from report.__main__ import DOCS, README, app, make
from report.ablation import best, ends
from report.curves import band
from report.looking import activation_map, attention, rollout
from report.looks import colours
from report.rows import Row, read_rows
from report.savings import ahead, lead, saving_of
from report.words import BEGIN, END
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait
from transfer import outcomes
from transfer.runs import HERE, RESULTS, RUNS, Run, load_run
from transfer.tasks import Data, fresh_model, load_task
from transformers import DeiTConfig, DeiTForImageClassification
from typer.testing import CliRunner

import wavescale
from tiny import Case, inputs_for
from tiny import make as tiny

SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
COMMON = {"config": {}, "source": SIZES, "target": SIZES, "steps": 40, "batch": 4, "rates": [0.001, 0.01],
          "warmups": [0.1], "source_run": ["gpt-s2l", "source"]}  # fmt: skip
TEXT = {"files": ["a.txt"], "length": 16, "measured": 8}
TABLE = {"files": ["a.txt"], "length": 16, "table": {"train": "rated.txt"}}
CONFIGS: dict[str, Any] = {
    "defaults": {},
    "gpt-s2l/row": {**COMMON, "task": "causal", "data": TEXT},
    "gpt-s2l/scratch": {"source_run": None, "stop": "never", "seeds": [0, 1]},
    "gpt-s2l/source": {"source_run": None, "stop": 0.5},
    "gpt-s2l/wavescale": {"options": {}, "seeds": [0, 1]},
    "gpt-s2l/bot-paper": {"options": {"preset": "paper"}, "seeds": [0, 1, 2]},
    "gpt-s2l/stack": {"options": {"depth": "stack"}},
    "gpt-s2l/hypercloning": {"options": {"preset": "hypercloning"}},
    "gpt-s2l/interleave": {"options": {"depth": "interleave"}, "seeds": [0, 1]},
    "gpt-s2l/mango": {"options": {"preset": "mango"}},
    "gpt-s2l/ligo": {"options": {"preset": "ligo"}},
    "gpt-l2s/row": {**COMMON, "task": "causal", "data": TEXT, "source_run": ["gpt-s2l", "scratch"]},
    "gpt-l2s/scratch": {"source_run": None, "stop": "never"},
    "gpt-l2s/wavescale": {"options": {}},
    "gpt-s2l-wavelets/row": {**COMMON, "task": "causal", "data": TEXT, "stop": "never", "rates": [], "rate": 0.01},
    "gpt-s2l-wavelets/haar": {"options": {"wavelet": "haar"}, "seeds": [0, 1]},
    "gpt-s2l-wavelets/db2": {"options": {"wavelet": "db2"}},
    "gpt-s2l-wavelets/sym4": {"options": {"wavelet": "sym4"}},
    "gpt-s2l-wavelets/coif1": {"options": {"wavelet": "coif1"}},
    "bert-s2l-rated/row": {**COMMON, "task": "sentences", "data": TABLE, "stop": "never", "quality": "accuracy"},
    "bert-s2l-rated/scratch": {"source_run": None, "seeds": [0, 1]},
    "bert-s2l-rated/wavescale": {"options": {}},
    "bert-s2l-rated/stack": {"options": {"depth": "stack"}},
}


def write_result(run: Run, qualities: Sequence[float], home: Path, **changes: Any) -> None:
    """A result with a mark every ten steps, of ten FLOPs each, and three seconds a mark."""
    curve = [{"step": 10 * k, run.quality: quality, "seconds": 3.0 * k} for k, quality in enumerate(qualities)]
    spent = {"flops_per_step": 10, "start_flops": 0, "source_flops": 0}
    outcomes.write(
        run.result(home),
        {"run": {"steps": 40, "rate": 0.01, "warmup": 0.1}, "curve": curve, **spent, **changes},
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs, results and what the report makes of them. Scratch's seeds end at 4.0 and 4.2."""
    home = tmp_path_factory.mktemp("report")
    for name, content in CONFIGS.items():
        path = home / "runs" / "cpu" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    for row, method, seed, qualities, changes in [
        ("gpt-s2l", "scratch", 0, [8.0, 6.0, 5.0, 4.5, 4.0], {}),
        ("gpt-s2l", "scratch", 1, [8.2, 6.2, 5.2, 4.7, 4.2], {}),
        ("gpt-s2l", "source", 0, [8.0, 6.0, 5.0], {}),
        ("gpt-s2l", "wavescale", 0, [5.0, 4.0], {"source_flops": 100}),
        ("gpt-s2l", "wavescale", 1, [5.2, 4.7, 4.2], {"source_flops": 100}),
        ("gpt-s2l", "bot-paper", 0, [6.0, 5.0, 4.5, 4.0], {}),
        ("gpt-s2l", "bot-paper", 1, [6.0, 5.0, 4.6, 4.5, 4.321], {}),
        ("gpt-s2l", "bot-paper", 2, [6.0, 5.0], {}),  # scratch has no such seed
        ("gpt-s2l", "stack", 0, [6.0, 5.5, 5.0, 4.5, 4.4321], {}),
        ("gpt-s2l", "hypercloning", 0, [5.0, 4.5, 4.0], {"start_flops": 20}),
        ("gpt-s2l", "interleave", 0, [6.0, 5.0, 4.0], {}),
        ("gpt-s2l", "interleave", 1, [6.2, 5.2, 4.7, 4.2], {}),
        ("gpt-s2l", "mango", 0, [6.0, 5.5, math.nan], {}),
        ("gpt-s2l-wavelets", "haar", 0, [6.0, 4.5], {}),
        ("gpt-s2l-wavelets", "haar", 1, [6.2, 4.7], {}),
        ("gpt-s2l-wavelets", "db2", 0, [5.5, 4.8], {}),
        ("gpt-s2l-wavelets", "sym4", 0, [5.5, 4.6], {}),
        ("bert-s2l-rated", "scratch", 0, [0.5, 0.58, 0.58, 0.58, 0.6125], {}),
        ("bert-s2l-rated", "scratch", 1, [0.5, 0.6, 0.6, 0.6, 0.6375], {}),
        ("bert-s2l-rated", "wavescale", 0, [0.5, 0.65, 0.8, 0.8, 0.75], {}),
    ]:
        run = load_run("cpu", row, method, seed, home / "runs")
        write_result(run, qualities, home / "results", **changes)
    probes = load_run("cpu", "gpt-s2l", "wavescale", runs=home / "runs").probes(home / "results")
    outcomes.write(probes, {"chosen": {"rate": 0.001, "warmup": 0.1}, "probes": []})
    make("cpu", home / "docs", home / "results", home / "runs")
    return home


@pytest.fixture(scope="module")
def rows(home: Path) -> dict[str, Row]:
    return {row.name: row for row in read_rows("cpu", home / "results", home / "runs")}


def line(text: str, *begins: str) -> list[str]:
    """The cells of the line of a page's table that begins with some cells."""
    (found,) = (part for part in text.splitlines() if part.startswith(f"| {' | '.join(begins)} |"))
    return found.strip("| ").split(" | ")


def section(home: Path, title: str) -> str:
    """The part of the page below a heading."""
    _, _, rest = (home / "docs" / "savings.md").read_text(encoding="utf-8").partition(f"## {title}\n")
    return rest.partition("\n## ")[0]


def test_rows_are_told_apart(rows: dict[str, Row]) -> None:
    assert {name: row.kind for name, row in rows.items()} == {
        "gpt-s2l": "savings", "gpt-l2s": "savings", "gpt-s2l-wavelets": "wavelets", "bert-s2l-rated": "tuning",
    }  # fmt: skip
    assert "source" not in rows["gpt-s2l"].methods
    assert rows["gpt-s2l"].methods[0] == "scratch"
    assert rows["gpt-s2l"].target == pytest.approx(4.1)
    assert rows["gpt-l2s"].target is None


def test_savings_over_seeds_by_hand(rows: dict[str, Row]) -> None:
    row = rows["gpt-s2l"]
    mine = saving_of(row, "wavescale")
    assert mine.values == {0: pytest.approx(0.75), 1: pytest.approx(0.5)}
    assert mine.told() == "62.5% (50.0 to 75.0)"
    assert saving_of(row, "wavescale", measure="total flops").told() == "37.5% (25.0 to 50.0)"
    assert saving_of(row, "wavescale", share=0.5).told() == "100.0%"
    assert saving_of(row, "hypercloning").values == {0: pytest.approx(1 - 220 / 400)}


def test_a_target_that_was_not_reached_has_no_number(rows: dict[str, Row]) -> None:
    row = rows["gpt-s2l"]
    assert saving_of(row, "stack").told() == "not reached: 4.432"
    assert saving_of(row, "stack").mean is None
    # It did come to what scratch had at three quarters.
    assert saving_of(row, "stack", share=0.75).values == {0: pytest.approx(0.0)}
    partly = saving_of(row, "bot-paper")
    assert partly.told() == "not reached by 1 of 2: 4.321; else 25.0%"
    assert (partly.mean, partly.waiting) == (None, 1)
    assert saving_of(row, "ligo").told() == "not run yet"
    assert saving_of(row, "mango").told() == "not reached: nan"


def test_the_lead_is_over_shared_seeds(rows: dict[str, Row]) -> None:
    found = lead(rows["gpt-s2l"], "wavescale")
    assert found is not None
    # HyperCloning's only seed is better than interleave's mean of two.
    assert found[0] == pytest.approx((0.75 - 0.5 + 0.5 - 0.25) / 2)
    assert found[1] == "interleave"
    assert lead(rows["gpt-s2l"], "bot-paper") is None
    assert lead(rows["gpt-l2s"], "wavescale") is None
    assert ahead(rows["gpt-s2l"], "wavescale", "interleave") == pytest.approx({0: 0.25, 1: 0.25})
    assert ahead(rows["gpt-s2l"], "wavescale", "stack") == {}  # which did not reach it


def test_the_page_tells_what_was_found_and_what_is_missing(home: Path) -> None:
    text = (home / "docs" / "savings.md").read_text(encoding="utf-8")
    assert "do not edit" in text
    summary = text.partition("## ")[0]
    assert line(summary, "method") == ["method", "gpt-l2s", "gpt-s2l"]
    assert line(summary, "wavescale") == ["wavescale", "not run yet", "62.5% (50.0 to 75.0)"]
    assert line(summary, "BoT in the paper") == ["BoT in the paper", "31.0%", "58.3%"]
    best = "+25.0 points over interleave (4 of 5 baselines run)"
    assert line(summary, "lead of wavescale over the best baseline")[1:] == ["-", best]
    assert (
        line(section(home, "What was trained"), "gpt-s2l", "1 layers × 8")[5] == "40 steps of 4 sequences of 16 tokens"
    )
    row = section(home, "gpt-s2l")
    assert line(row, "wavescale")[-4:] == ["4.1000 (4.0000 to 4.2000)", "15 (10 to 20)", "0.001", "10%"]
    assert line(row, "stack")[2] == "not reached: 4.432"
    assert line(row, "ligo")[1:3] == ["0", "not run yet"]


def test_fine_tuning_has_a_table_of_its_own(home: Path) -> None:
    text = section(home, "Fine-tuning at once")
    assert line(text, "scratch") == ["scratch", "0.5900 (0.5800 to 0.6000)", "0.6250 (0.6125 to 0.6375)"]
    assert line(text, "wavescale") == ["wavescale", "0.7000", "0.7500"]
    assert line(text, "stack") == ["stack", "not run yet", "not run yet"]


def test_wavelets_are_compared(home: Path, rows: dict[str, Row]) -> None:
    row = rows["gpt-s2l-wavelets"]
    assert ends(row)["haar"] == (6.0, 4.5)  # of the seed that all have
    assert best(row) == {"haar", "sym4"}
    text = section(home, "Wavelets")
    assert line(text, "haar") == ["haar", "6.000 → **4.500**"]
    assert line(text, "db2") == ["db2", "5.500 → 4.800"]
    assert line(text, "sym4") == ["sym4", "5.500 → **4.600**"]
    assert line(text, "coif1") == ["coif1", "not run yet"]
    assert line(text, "seeds differ by") == ["seeds differ by", "0.200"]
    assert line(text, "best in the paper") == ["best in the paper", "db2"]


def test_no_two_methods_of_a_figure_look_alike() -> None:
    rows = read_rows()
    colour = colours(rows)
    for row in rows:
        assert len({colour[method] for method in row.methods}) == len(row.methods)


def test_a_band_goes_as_far_as_all_seeds(rows: dict[str, Row]) -> None:
    places, qualities = band(rows["gpt-s2l"].trained["wavescale"], "FLOPs")
    assert places.tolist() == [0, 100]
    assert qualities.tolist() == [[5.0, 4.0], [5.2, 4.7]]
    places, _ = band(rows["gpt-s2l"].trained["hypercloning"], "FLOPs")
    assert places.tolist() == [20, 120, 220]


def test_figures_are_there_small_and_the_same_again(home: Path, tmp_path: Path) -> None:
    made = {path.name for path in (home / "docs").iterdir()}
    assert {"savings.md", "savings.html", "savings.png", "savings-gpt-s2l.svg", "savings-wavelets.svg"} <= made
    assert "savings-gpt-l2s.svg" not in made
    text = (home / "docs" / "savings.md").read_text(encoding="utf-8")
    make("cpu", tmp_path, home / "results", home / "runs")
    for name in made:
        assert (tmp_path / name).read_bytes() == (home / "docs" / name).read_bytes()
        if name.endswith((".svg", ".png")):
            assert 5_000 < (tmp_path / name).stat().st_size < 200_000
            assert f"({name})" in text


def test_what_the_docs_say_comes_from_the_results_in_git(tmp_path: Path) -> None:
    # Results, docs and README are in git together; `make report` brings the docs up to date.
    for path in (*DOCS.glob("maps-*.png"), README):
        shutil.copy(path, tmp_path)
    make("cpu", tmp_path, RESULTS, RUNS, tmp_path / README.name)
    for path in (DOCS / "savings.md", README):
        assert path.read_text(encoding="utf-8") == (tmp_path / path.name).read_text(encoding="utf-8")


def test_the_readme_shows_part_of_the_table_of_savings(home: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}old\n{END}after\n", encoding="utf-8")
    make("cpu", tmp_path / "docs", home / "results", home / "runs", readme)
    text = readme.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}| method |")
    assert text.endswith(f"|\n{END}after\n")
    page = (tmp_path / "docs" / "savings.md").read_text(encoding="utf-8").splitlines()
    shown = [part for part in text.splitlines() if part.startswith("|")]
    assert len(shown) == 7
    assert set(shown) <= set(page)
    readme.write_text("no place for it\n", encoding="utf-8")
    with pytest.raises(ValueError, match="for the table to lie between"):
        make("cpu", tmp_path / "docs", home / "results", home / "runs", readme)
    assert readme.read_text(encoding="utf-8") == "no place for it\n"


def test_without_results_nothing_is_drawn(home: Path, tmp_path: Path) -> None:
    make("cpu", tmp_path / "docs", tmp_path, home / "runs")
    text = (tmp_path / "docs" / "savings.md").read_text(encoding="utf-8")
    assert "## Wavelets" not in text
    assert line(text.partition("## ")[0], "wavescale") == ["wavescale", "not run yet", "not run yet"]
    assert not {path.suffix for path in (tmp_path / "docs").iterdir()} & {".svg", ".png"}


def small_deit() -> DeiTForImageClassification:
    torch.manual_seed(2)
    config = DeiTConfig(**SIZES | {"num_hidden_layers": 3}, image_size=6, patch_size=2, num_channels=1, num_labels=3)
    return DeiTForImageClassification(config).double().eval()


def small_image() -> torch.Tensor:
    return torch.randn(1, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def test_attention_is_of_every_layer_and_sums_to_one() -> None:
    model = tiny(Case("gpt2", "GPT2LMHeadModel"))
    ids = inputs_for(model)["input_ids"][:1]
    found = attention(model, {"input_ids": ids})
    assert found.shape == (model.config.num_hidden_layers, ids.shape[1], ids.shape[1])
    assert torch.allclose(found.sum(-1), torch.ones(found.shape[:2], dtype=found.dtype))
    assert not found.triu(1).any()
    whole, one = rollout(found[:2]), torch.eye(ids.shape[1], dtype=found.dtype)
    assert torch.allclose(whole, (found[1] + one) / 2 @ (found[0] + one) / 2)


def test_an_activation_map_is_that_of_small_changes() -> None:
    model, pixels, states = small_deit(), small_image(), []

    def logit(channel: int | None, step: float) -> float:
        """Of class 1, after a channel of all patches has been changed where the last layer reads them."""

        def change(_: Any, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            moved = arguments[0].clone()
            states.append(arguments[0])
            if channel is not None:
                moved[:, 2:, channel] += step
            return (moved, *arguments[1:])

        handle = model.deit.layers[-1].register_forward_pre_hook(change)
        with torch.no_grad():
            found = float(model(pixels).logits[0, 1])
        handle.remove()
        return found

    weights = [(logit(channel, 1e-5) - logit(channel, -1e-5)) / 2e-5 / 9 for channel in range(8)]
    expected = (states[0][0, 2:] @ torch.tensor(weights, dtype=torch.float64)).relu().view(3, 3)
    assert expected.any()
    assert torch.allclose(activation_map(model, {"pixel_values": pixels}, 1), expected, rtol=1e-4, atol=1e-9)


def test_an_inserted_layer_is_looked_through() -> None:
    model, pixels = small_deit(), small_image()
    before = activation_map(model, {"pixel_values": pixels}, 1)
    grown = wavescale.resize(model, num_hidden_layers=6)
    assert torch.allclose(activation_map(grown, {"pixel_values": pixels}, 1), before, atol=1e-9)


def test_maps_are_drawn_of_the_models_that_are_there(tmp_path: Path) -> None:
    text = {**COMMON, "data": TEXT | {"tokenizer": 300}}
    digits = {**COMMON, "data": {"digits": True, "measured": 20}, "config": {"patch_size": 14}, "quality": "accuracy"}
    configs: dict[str, Any] = {
        "defaults": {},
        "gpt-s2l/row": {**text, "task": "causal"},
        "bert-s2l/row": {**text, "task": "masked"},
        "deit-s2l/row": {**digits, "task": "images", "source_run": ["deit-s2l", "source"]},
    }
    for row in ("gpt-s2l", "deit-s2l", "bert-s2l"):
        for method in ("scratch", "source", "wavescale"):
            configs[f"{row}/{method}"] = (
                {"options": {}, "seeds": [0, 1]} if method == "wavescale" else {"options": None}
            )
    for name, content in configs.items():
        path = tmp_path / "runs" / "cpu" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    work, file = tmp_path / "work", HERE.parent / "LICENSE"
    for row in ("gpt-s2l", "deit-s2l"):
        for method, part, seed in (("source", "model", 0), ("scratch", "start", 0), ("wavescale", "start", 1)):
            run = load_run("cpu", row, method, seed, runs=tmp_path / "runs")
            model = fresh_model(run, load_task(run, Data(None, (file,), work)), SIZES | {"num_hidden_layers": 2})
            model.save_pretrained(work / run.folder / part)
    arguments = ["maps", "--work", str(work), "--docs", str(tmp_path / "docs"), "--runs", str(tmp_path / "runs")]
    done = CliRunner().invoke(app, [*arguments, "--train-file", str(file)], catch_exceptions=False)
    assert done.exit_code == 0
    made = {path.name: path.stat().st_size for path in (tmp_path / "docs").iterdir()}
    assert set(made) == {"maps-gpt-s2l.png", "maps-deit-s2l.png"}
    assert all(2_000 < size < 300_000 for size in made.values())
    assert "maps-deit-s2l.png" in done.output
    make("cpu", tmp_path / "docs", tmp_path / "results", tmp_path / "runs")
    assert "(maps-deit-s2l.png)" in section(tmp_path, "Where the models look")


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def browser(home: Path) -> Iterator[webdriver.Chrome]:
    """Chromium with the page open and its curves drawn; every request and message of it is kept."""
    options = webdriver.ChromeOptions()
    assert CHROMIUM is not None
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-background-networking", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        opened.get((home / "docs" / "savings.html").as_uri())
        WebDriverWait(opened, 60).until(
            lambda shown: shown.find_elements(By.CSS_SELECTOR, "#plot .scatterlayer .trace")
        )
        yield opened
    finally:
        opened.quit()


def plotted(browser: webdriver.Chrome) -> dict[tuple[str, int], tuple[list[float], list[float]]]:
    """What plotly has drawn, by method and place among its seeds: x and y."""
    found = browser.execute_script("return document.getElementById('plot').data.map(({name, x, y}) => [name, x, y])")
    places: dict[str, int] = {}
    curves = {}
    for name, x, y in found:
        curves[name, places.setdefault(name, 0)] = (x, y)
        places[name] += 1
    return curves


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_the_page_opens_in_a_browser_without_any_network(browser: webdriver.Chrome) -> None:
    def choose(row: str) -> None:
        Select(browser.find_element(By.ID, "row")).select_by_visible_text(row)

    choose("gpt-s2l")
    curves = plotted(browser)
    assert {name for name, _ in curves} == {
        "scratch",
        "wavescale",
        "bot-paper",
        "stack",
        "hypercloning",
        "interleave",
        "mango",
    }
    assert curves["wavescale", 1] == ([0, 100, 200], [5.2, 4.7, 4.2])
    assert curves["hypercloning", 0][0] == [20, 120, 220]
    shapes = browser.execute_script("return document.getElementById('plot').layout.shapes")
    assert shapes[0]["y0"] == pytest.approx(4.1)
    assert "62.5% (50.0 to 75.0)" in browser.find_element(By.ID, "told").text
    for axis, expected in (("steps", [0, 10, 20]), ("seconds", [0, 3, 6]), ("FLOPs", [0, 100, 200])):
        browser.find_element(By.CSS_SELECTOR, f"#axis input[value={axis}]").click()
        assert plotted(browser)["wavescale", 1] == (expected, [5.2, 4.7, 4.2])
    # A click on a method in the legend hides it.
    toggle = browser.find_element(By.CSS_SELECTOR, ".legend .traces .legendtoggle")
    webdriver.ActionChains(browser).click(toggle).perform()
    hidden = "return document.getElementById('plot').data.filter(one => one.visible === 'legendonly').length"
    WebDriverWait(browser, 10).until(lambda shown: shown.execute_script(hidden) == 2)  # both seeds of scratch
    choose("gpt-l2s")
    assert not plotted(browser)
    WebDriverWait(browser, 10).until(lambda shown: "not run yet" in shown.find_element(By.ID, "plot").text)
    choose("bert-s2l-rated")
    assert plotted(browser)["wavescale", 0] == ([0, 100, 200, 300, 400], [0.5, 0.65, 0.8, 0.8, 0.75])
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert asked == {browser.current_url}
