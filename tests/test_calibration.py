from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import wavescale
from tiny import MAIN_CASES, Case, difference, make
from wavescale.architectures import FAMILIES
from wavescale.calibration import RefitUnits, choose_units, generated_tokens
from wavescale.errors import OptionError
from wavescale.memory import model_tensors


def batches(case: Case) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(5)
    if "patch_height" in FAMILIES[case.family].fixed:
        return [{"pixel_values": torch.randn((16, 3, 8, 8), generator=generator)} for _ in range(8)]
    return [{"input_ids": torch.randint(3, 31, (16, 12), generator=generator)} for _ in range(8)]


def test_what_reads_the_units_that_stay_makes_up_for_those_that_go() -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn((4000, 8), generator=generator, dtype=torch.float64)
    faint = 0.1 * base @ torch.randn((8, 6), generator=generator, dtype=torch.float64) / 8**0.5
    acts = torch.cat([faint, base], dim=1)
    weight = torch.randn((5, 14), generator=generator, dtype=torch.float64)
    found = choose_units(acts.T @ acts, weight, 8)
    assert found.keep.tolist() == list(range(6, 14))
    output = acts @ weight.T
    refitted = acts[:, found.keep] @ (weight @ found.read.double().T).T
    dropped = acts[:, found.keep] @ weight[:, found.keep].T
    assert (output - refitted).norm() < 0.02 * (output - dropped).norm()


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
def test_memory_and_disk_agree(case: Case, tmp_path: Path) -> None:
    model = make(case)
    model.save_pretrained(tmp_path / "source")
    found = wavescale.analyse(tmp_path / "source", [RefitUnits(18, batches(case))])
    wavescale.resize_checkpoint(tmp_path / "source", tmp_path / "out", intermediate_size=18, artifacts=found)
    expected = model_tensors(wavescale.resize(model, intermediate_size=18, artifacts=found))
    for name, value in model_tensors(type(model).from_pretrained(tmp_path / "out")).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
def test_refitting_is_better_than_the_low_pass_on_its_own_input(case: Case) -> None:
    model = make(case)
    found = wavescale.analyse(model, [RefitUnits(18, batches(case))])
    chosen = wavescale.resize(model, intermediate_size=18, artifacts=found)
    assert difference(model, chosen) < difference(model, wavescale.resize(model, intermediate_size=18))


def test_chosen_units_go_with_other_sizes() -> None:
    case = Case("llama", "LlamaForCausalLM")
    model = make(case)
    found = wavescale.analyse(model, [RefitUnits(18, batches(case))])
    narrow = wavescale.resize(model, intermediate_size=18, artifacts=found)
    both = wavescale.resize(model, intermediate_size=18, hidden_size=32, num_hidden_layers=3, artifacts=found)
    assert difference(narrow, both) < 1e-5
    plan = wavescale.plan_resize(model, intermediate_size=18, artifacts=found)
    assert not plan.keeps_function
    assert "refitted" in str(plan)


def test_units_that_do_not_fit_the_sizes_are_refused() -> None:
    model = make(Case("llama", "LlamaForCausalLM"))
    found = wavescale.analyse(model, [RefitUnits(18, batches(Case("llama", "LlamaForCausalLM")))])
    with pytest.raises(OptionError, match="keeps 18 units"):
        wavescale.plan_resize(model, intermediate_size=12, artifacts=found)
    units = {("hidden", layer): found.units["intermediate", layer] for layer in (0, 1)}
    with pytest.raises(OptionError, match="'intermediate', in layers 0 to 1"):
        wavescale.plan_resize(model, intermediate_size=18, artifacts=wavescale.Artifacts(units=units))
    with pytest.raises(OptionError, match="run on nothing"):
        wavescale.analyse(model, [RefitUnits(18, [])])
    with pytest.raises(OptionError, match="between 1 and the source's 24"):
        wavescale.analyse(model, [RefitUnits(25, [])])


def test_a_language_model_writes_its_own_text() -> None:
    model = make(Case("gpt2", "GPT2LMHeadModel"))
    first, again = (generated_tokens(model, tokens=64, length=16, seed=3) for _ in range(2))
    assert first.shape == (4, 16)
    assert torch.equal(first, again)
    assert not torch.equal(first, generated_tokens(model, tokens=64, length=16, seed=4))
    with pytest.raises(OptionError, match="does not generate"):
        generated_tokens(make(Case("bert", "BertModel")))
