from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import wavescale
from processes import torchrun
from tiny import CASES, Case, make, outputs
from wavescale.errors import OptionError, SizeError
from wavescale.memory import model_tensors

LLAMA = Case("llama", "LlamaForCausalLM")


def empty(model: Any, **sizes: Any) -> Any:
    plan = wavescale.plan_resize(model, **sizes)
    config = type(model.config)(**{name: value for name, value in plan.config.items() if name != "model_type"})
    with torch.device("meta"):
        return type(model)(config).eval()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_model_on_the_meta_device_becomes_the_resized_one(case: Case) -> None:
    model = make(case)
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 3}
    target = empty(model, **sizes)
    wavescale.resize_into(target, model)
    wanted = wavescale.resize(model, **sizes)
    found = model_tensors(target)
    assert found.keys() == model_tensors(wanted).keys()
    for name, value in model_tensors(wanted).items():
        torch.testing.assert_close(found[name], value, msg=name)
    theirs = outputs(wanted)
    for name, mine in outputs(target).items():
        torch.testing.assert_close(mine, theirs[name])


def test_a_checkpoint_fills_a_model_that_has_weights_and_another_dtype(tmp_path: Path) -> None:
    model = make(LLAMA)
    model.save_pretrained(tmp_path / "source")
    wanted = wavescale.resize(model, hidden_size=32)
    target = copy.deepcopy(wanted).bfloat16()
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.zero_()
    plan = wavescale.resize_into(target, tmp_path / "source")
    assert plan.keeps_function
    for name, value in model_tensors(wanted).items():
        assert torch.equal(model_tensors(target)[name], value.bfloat16()), name


def test_a_target_of_another_class_is_refused() -> None:
    model = make(LLAMA)
    config = wavescale.plan_resize(model, hidden_size=32).config
    target = transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**config))
    with pytest.raises(SizeError, match=r"lm_head.weight: has shape none in LlamaForSequenceClassification"):
        wavescale.resize_into(target, model)


def test_two_processes_resize_sharded_models(tmp_path: Path) -> None:
    make(LLAMA).save_pretrained(tmp_path / "source")
    done = torchrun(str(Path(__file__).with_name("sharded.py")), tmp_path / "source")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("agreed") == 2


def test_what_no_config_holds_is_taken_over_into_a_sharded_model() -> None:
    model = transformers.ViTModel(make(Case("vit", "ViTModel")).config, add_pooling_layer=False).eval()
    wanted, found = wavescale.resize(model, scale_width=2), wavescale.resize(model, scale_width=2, shard=lambda _: None)
    assert found.pooler is None
    for name, value in model_tensors(wanted).items():
        torch.testing.assert_close(model_tensors(found)[name], value, msg=name)


def test_types_that_a_model_mixes_stay_mixed() -> None:
    model = make(Case("bert", "BertModel")).bfloat16()
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.float()
    plan, found = wavescale.plan_resize(model, scale_width=2), model_tensors(wavescale.resize(model, scale_width=2))
    for tensor in plan.tensors:
        assert str(found[tensor.name].dtype) == f"torch.{tensor.dtype}", tensor.name


@pytest.mark.parametrize("device", ["gpu", "meta"])
def test_a_device_that_computes_nothing_is_refused(device: str) -> None:
    with pytest.raises(OptionError, match=rf"device '{device}' cannot be used here"):
        wavescale.resize(make(LLAMA), scale_width=2, device=device)


def test_a_class_that_no_config_names_is_taken_from_the_option(tmp_path: Path) -> None:
    model = make(Case("bert", "BertModel"))
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["architectures"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert wavescale.resize_into(empty(model, hidden_size=32), tmp_path, architecture="BertModel").keeps_function
