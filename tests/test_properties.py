"""What a plan calls kept is kept: models, sizes, flags, options and dtypes drawn at random, written and run as written.

The bound is that of rounding itself: ten times what the source loses in the same dtype, as it is or with its own
channels and units in another order, which leaves its function alone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from hypothesis import HealthCheck, event, given, note, reject, settings
from hypothesis import strategies as st

import wavescale
from tiny import CASES, Case, make, outputs
from wavescale.architectures import FAMILIES
from wavescale.artifacts import Artifacts

if TYPE_CHECKING:
    import transformers
    from transformers import PreTrainedModel

ALLOWED = 10
# Flags that change what a model computes, besides those that cases have.
FLAGS: dict[str, dict[str, tuple[Any, ...]]] = {
    "bert": {"hidden_act": ("gelu", "relu"), "type_vocab_size": (1, 3)},
    "roberta": {"hidden_act": ("gelu", "silu"), "type_vocab_size": (1, 3)},
    "gpt2": {
        "scale_attn_weights": (True, False),
        "scale_attn_by_inverse_layer_idx": (True, False),
        "reorder_and_upcast_attn": (True, False),
        "activation_function": ("gelu_new", "relu"),
    },
    "vit": {"qkv_bias": (True, False), "layer_norm_eps": (1e-12, 1e-3)},
    "deit": {"qkv_bias": (True, False), "layer_norm_eps": (1e-12, 1e-3)},
    "llama": {"attention_bias": (True, False), "mlp_bias": (True, False), "rms_norm_eps": (1e-6, 1e-2)},
    "mistral": {"sliding_window": (None, 4), "hidden_act": ("silu", "gelu")},
    "qwen2": {"use_sliding_window": (True, False), "sliding_window": (4,), "max_window_layers": (1,)},
    "qwen3": {"attention_bias": (True, False), "use_sliding_window": (True, False), "sliding_window": (4,)},
}
SETTINGS: dict[str, tuple[Any, ...]] = {
    "width": (None, None, None, "replicate", "tile", "pad", "fpi", "aki", "signal"),
    "depth": (None, None, None, None, "insert", "signal", "stack"),
    "gain": (None, None, "role"),
    "order": (None, None, None, "similarity"),
    "details": (None, None, "zero"),
    "preset": (None, None, None, "hypercloning", "llama-pro", "bert2bert-fpi"),
    "dtype": (None, "float32", "bfloat16", "float16"),
}


@st.composite
def sources(draw: st.DrawFn) -> PreTrainedModel:
    """A model of any family and class, with sizes and flags of its own."""
    case: Case = draw(st.sampled_from(CASES))
    family = FAMILIES[case.family]
    heads, head_dim = draw(st.sampled_from([1, 2, 3, 4, 4, 6])), draw(st.sampled_from([4, 6, 8]))
    sizes = {
        "hidden_size": heads * head_dim,
        "num_hidden_layers": draw(st.sampled_from([1, 2, 3, 4, 12])),
        "num_attention_heads": heads,
        "intermediate_size": draw(st.integers(3, 30)),
    }
    if "num_key_value_heads" in family.fields:
        sizes["num_key_value_heads"] = draw(st.sampled_from([n for n in range(1, heads + 1) if heads % n == 0]))
    config: dict[str, Any] = {family.fields[name]: size for name, size in sizes.items()}
    if "num_key_value_heads" in family.fields:
        config["head_dim"] = head_dim
    config |= {name: draw(st.sampled_from(values)) for name, values in FLAGS[case.family].items()}
    dtype = getattr(torch, draw(st.sampled_from(["float32", "float32", "bfloat16", "float16"])))
    note(f"{case} {config} {dtype}")
    plain = Case(
        case.family, case.class_name, tuple((name, value) for name, value in case.settings if name not in config)
    )
    return make(plain, dtype, draw(st.integers(0, 9)), **config)


@st.composite
def growths(draw: st.DrawFn, config: transformers.PreTrainedConfig) -> dict[str, Any]:
    """Sizes, as factors or one by one, and options."""
    family = FAMILIES[config.model_type]
    heads, layers = config.num_attention_heads, config.num_hidden_layers
    # What the heads or layers have room for.
    widths = [None, 2, 2, 3, *(["3/2"] if heads % 2 == 0 else []), *(["5/4"] if heads % 4 == 0 else [])]
    found: dict[str, Any] = {
        "scale_width": draw(st.sampled_from(widths)),
        "num_hidden_layers": draw(st.sampled_from([layers, layers, layers + 1, 2 * layers])),
        "seed": draw(st.integers(0, 99)),
        **{name: draw(st.sampled_from(values)) for name, values in SETTINGS.items()},
    }
    if draw(st.booleans()):
        found["intermediate_size"] = draw(st.integers(30, 70))
    if found["details"] != "zero" and draw(st.booleans()):
        found["detail_size"] = draw(st.floats(0.05, 12))
    if found["preset"]:
        found |= dict.fromkeys(("width", "depth", "details", "gain"))
        found.pop("detail_size", None)
    if found["scale_width"] is None and family.stores_head_dim:
        found["num_attention_heads"] = heads * draw(st.sampled_from([1, 2, 3]))
        if "num_key_value_heads" in family.fields:
            found["num_key_value_heads"] = config.num_key_value_heads * draw(st.sampled_from([1, 2, 3]))
    return {name: value for name, value in found.items() if value is not None}


def loss_of(found: dict[str, torch.Tensor], exact: dict[str, torch.Tensor]) -> float:
    """The largest difference of any output, relative to how large that output is."""
    return max(float((found[name].double() - exact[name]).norm() / exact[name].norm()) for name in exact)


def in_another_order(source: Path, out: Path, model: PreTrainedModel, dtype: str) -> PreTrainedModel:
    """The same function with channels and units in another order, as written in a dtype."""
    plan = wavescale.plan_resize(source)
    generator = torch.Generator().manual_seed(5)
    orders: dict[tuple[str, int | None], torch.Tensor] = {
        ("intermediate", layer): torch.randperm(plan.source.intermediate_size, generator=generator)
        for layer in range(plan.source.num_hidden_layers)
    }
    if "last_hidden_state" not in outputs(model):
        orders[("hidden", None)] = torch.randperm(plan.source.hidden_size, generator=generator)
    wavescale.resize_checkpoint(source, out, dtype=dtype, artifacts=Artifacts(orders))
    return loaded(type(model), out, dtype)


def loaded(kind: type[PreTrainedModel], folder: Path, dtype: str) -> PreTrainedModel:
    found: PreTrainedModel = kind.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    return found


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large])
@given(data=st.data())
def test_what_a_plan_calls_kept_is_kept_as_written(data: st.DataObject) -> None:
    model = data.draw(sources())
    growth = data.draw(growths(model.config))
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "source"), Path(folder, "out")
        model.save_pretrained(source)
        try:
            plan = wavescale.resize_checkpoint(source, out, **growth)
        except wavescale.WavescaleError as error:
            event(f"refused: {type(error).__name__}")
            reject()
        if not plan.keeps_function:
            event("not kept")
            reject()
        event(f"kept, {plan.tensors[0].dtype}")
        found = wavescale.verify(source, out)
        note(str(found))
        assert found.kept, found.verdict
        if "last_hidden_state" in outputs(model) and plan.source.hidden_size != plan.target.hidden_size:
            return  # compared above, through the operator that made the channels
        kind, dtype = type(model), plan.tensors[0].dtype
        exact = outputs(model.double())
        rounded = loss_of(outputs(loaded(kind, source, dtype)), exact)
        ordered = loss_of(outputs(in_another_order(source, Path(folder, "ordered"), model, dtype)), exact)
        lost = loss_of(outputs(loaded(kind, out, dtype)), exact)
        note(f"lost {lost:.2e}, in this dtype {rounded:.2e}, in another order {ordered:.2e}")
        assert lost <= ALLOWED * max(rounded, ordered, torch.finfo(getattr(torch, dtype)).eps)
