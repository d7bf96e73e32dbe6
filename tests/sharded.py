"""What two processes do together in `test_in_memory.py`: FOLDER holds a small Llama."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, PreTrainedModel

import wavescale
from wavescale.errors import CheckpointError, OptionError
from wavescale.memory import model_tensors

SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 3}


def main() -> None:
    torch.distributed.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    folder = Path(sys.argv[1])
    source = AutoModelForCausalLM.from_pretrained(folder).eval()
    wanted = wavescale.resize(source, **SIZES)
    ids = torch.arange(3, 11)[None]
    with torch.no_grad():
        expected = wanted(ids).logits

    def shard(model: PreTrainedModel) -> None:
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)

    def check(found: PreTrainedModel, sharded: bool) -> None:
        mine: dict[str, Any] = dict(model_tensors(found))
        for name, value in model_tensors(wanted).items():
            if sharded:
                assert isinstance(mine[name], DTensor)
                assert mine[name].to_local().numel() < value.numel(), name
            whole = mine[name].full_tensor() if sharded else mine[name]
            torch.testing.assert_close(whole, value, rtol=1e-6, atol=1e-7, msg=name)
        with torch.no_grad():
            torch.testing.assert_close(found.eval()(ids).logits, expected, rtol=1e-5, atol=1e-6)

    # A checkpoint into an empty sharded model.
    plan = wavescale.plan_resize(folder, **SIZES)
    with torch.device("meta"):
        target = AutoModelForCausalLM.from_config(type(source.config)(**plan.config))
    shard(target)
    wavescale.resize_into(target, folder)
    check(target, sharded=True)

    # What is found by running the source is found once, and the same for both.
    fitted = wavescale.resize(source, intermediate_size=20)
    with torch.device("meta"):
        target = AutoModelForCausalLM.from_config(fitted.config)
    shard(target)
    assert wavescale.resize_into(target, folder).choices.calibrate == "generated"
    for name, value in model_tensors(fitted).items():
        found: Any = model_tensors(target)[name]
        torch.testing.assert_close(found.full_tensor(), value, rtol=1e-4, atol=1e-5, msg=name)

    # What only one of them reads is an error of both.
    broken = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        broken.model.norm.weight[-1] = float("nan")
    shard(broken)
    with pytest.raises(CheckpointError, match=r"1 of .* NaN"):
        wavescale.resize(broken, shard=shard, **SIZES)

    # A sharded model into another, and into a whole one on every process.
    shard(source)
    check(wavescale.resize(source, shard=shard, **SIZES), sharded=True)
    check(wavescale.resize(source, **SIZES), sharded=False)
    half = wavescale.resize(source, shard=shard, dtype="bfloat16", **SIZES)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    assert half.generation_config.to_dict() == source.generation_config.to_dict()
    with pytest.raises(OptionError, match="is sharded"):
        wavescale.resize(source, shard=shard, hidden_size=8)

    # Tied embeddings beside layers that alone are sharded.
    config = type(source.config).from_dict({**source.config.to_dict(), "tie_word_embeddings": True})
    tied = AutoModelForCausalLM.from_config(config)

    def shard_layers(model: PreTrainedModel) -> None:
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh)

    found = wavescale.resize(tied, shard=shard_layers, **SIZES)
    assert found.lm_head.weight is found.model.embed_tokens.weight
    assert torch.equal(found.lm_head.weight, wavescale.resize(tied, **SIZES).lm_head.weight)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    print("agreed", flush=True)
    os._exit(0)  # threads of gloo may outlive their group and abort an interpreter that ends


if __name__ == "__main__":
    main()
