from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers
from safetensors import safe_open

from tiny import CASES, Case, make
from wavescale.architectures import FAMILIES
from wavescale.architectures.schema import RESIZABLE, Role
from wavescale.axes import parse_axes
from wavescale.checkpoint import read_json
from wavescale.matching import expected_tensors, match_tensors
from wavescale.spec import RowMatcher, read_spec


def saved(case: Case, folder: Path) -> tuple[dict[str, Any], dict[str, tuple[tuple[int, ...], str]]]:
    make(case).save_pretrained(folder)
    with safe_open(folder / "model.safetensors", framework="numpy") as handle:
        shapes = {name: (tuple(handle.get_slice(name).get_shape()), "float32") for name in handle.keys()}  # noqa: SIM118
    return read_json(folder / "config.json", dict), shapes


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_table_lists_exactly_what_transformers_saves(case: Case, tmp_path: Path) -> None:
    config, shapes = saved(case, tmp_path)
    assert expected_tensors(read_spec(config)) == shapes


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_tensor_on_disk_fits_exactly_one_row(case: Case, tmp_path: Path) -> None:
    config, shapes = saved(case, tmp_path)
    spec = read_spec(config)
    matcher = RowMatcher(spec)
    for name in shapes:
        own = [group for group in spec.head_class.groups for row in spec.family.groups[group]
               if matcher._compile(row.name).fullmatch(name)]  # fmt: skip
        assert len(own) == 1, (name, own)
    assert {stored.name for stored in match_tensors(spec, shapes).values()} == set(shapes)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_defaults_and_fields_are_those_of_the_config_class(family: Any) -> None:
    config = getattr(transformers, family.config_class)
    plain = config()
    for field, default in family.defaults.items():
        if field in ("head_dim", "pooler_output_size", "num_key_value_heads") and default is None:
            continue  # the class fills these in from the others
        assert getattr(plain, field) == default, field
    for field in family.fields.values():
        assert field in plain.to_dict()
    assert plain.model_type == family.name


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_every_class_of_transformers_with_weights_is_there(family: Any) -> None:
    module = __import__(f"transformers.models.{family.name}.modeling_{family.name}", fromlist=["_"])
    classes = {
        name
        for name, found in vars(module).items()
        if isinstance(found, type)
        and issubclass(found, transformers.PreTrainedModel)
        and found.__module__ == module.__name__
        and not name.endswith("PreTrainedModel")
    }
    assert set(family.classes) == classes


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_rows_are_sound(family: Any) -> None:
    norms = {row.norm for rows in family.groups.values() for row in rows if row.norm}
    for rows in family.groups.values():
        for row in rows:
            assert parse_axes(row.axes).names <= set(RESIZABLE) | set(family.fixed), row.name
            assert not row.reads or row.reads in norms, row.name
            assert (row.role in (Role.NORM_WEIGHT, Role.NORM_BIAS)) == bool(row.norm), row.name
            assert "{layer}" in row.name or not row.writes, row.name
    assert family.tied_norm in norms
    for head in family.classes.values():
        names = {row.name for group in head.groups for row in family.groups[group]}
        assert set(head.ties) <= names
        assert set(head.ties.values()) <= names


def test_older_spellings_and_buffers_are_understood() -> None:
    spec = read_spec({"model_type": "bert", "architectures": ["BertForMaskedLM"]})
    matcher = RowMatcher(spec)
    found = matcher.find("bert.encoder.layer.11.output.LayerNorm.gamma", (768,), "float32")
    assert found is not None
    assert (found.layer, found.row.norm) == (11, "output")
    assert found.name_at(3) == "bert.encoder.layer.3.output.LayerNorm.weight"
    assert matcher.ignored("bert.embeddings.position_ids")


def test_names_without_the_class_prefix_are_understood() -> None:
    matcher = RowMatcher(read_spec({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}))
    found = matcher.find("h.3.mlp.c_fc.weight", (768, 3072), "float32")
    assert found is not None
    assert (found.layer, found.name_at(10)) == (3, "h.10.mlp.c_fc.weight")
    assert matcher.ignored("h.3.attn.bias")
    assert not matcher.ignored("h.3.attn.c_attn.bias")
