"""The model card of a resized checkpoint: where it comes from and how it was made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from wavescale.plan import Plan

Digest = Literal["source", "output"]
# What a source's card says that holds for a resized model as well.
_FRONT_MATTER = ("license", "license_name", "license_link", "base_model")
_DIGESTS: dict[Digest, str] = {
    "source": "Source digest (config and samples of the weights): ",
    "output": "Output digest: ",
}


def versions() -> dict[str, str]:
    """Versions of the libraries that decide what comes out."""
    found = {}
    for package in ("wavescale", "torch", "transformers", "safetensors", "PyWavelets", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def model_card(plan: Plan, source: str, command: str, digests: Mapping[Digest, str], source_card: str = "") -> str:
    """The README.md of the output.

    Parameters
    ----------
    plan
        What was done.
    source
        Hub id, or the source folder's name.
    command
        The exact command.
    digests
        Of the source and of the output without this file (`Checkpoint.fingerprint`).
    source_card
        The source's README.md, whose licence is carried over, and whose `base_model` where the source is a folder.
    """
    import yaml

    front = {"library_name": "transformers", "tags": ["wavescale"], **_carried_over(source_card)}
    if "/" in source:
        front["base_model"] = source
    sizes = [
        f"| {decision.name} | {decision.source:,} | {decision.target:,} | {decision.reason} |"
        for decision in plan.decisions
    ]
    state = (
        f"It computes what its source computes, up to rounding ({plan.tolerance})."
        if plan.keeps_function
        else "It does not compute what its source computes."
    )
    choices = plan.choices
    training = f"by a mapping trained for {choices.train_steps:,} steps" if choices.trains else "without training"
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False, allow_unicode=True).strip(),
        "---",
        "",
        f"# {plan.architecture}, resized from {source}",
        "",
        f"Made by wavescale from `{source}` {training}. {state}",
        "",
        "| size | source | this model | why |",
        "|---|---|---|---|",
        *sizes,
        f"| parameters | {plan.source_parameters:,} | {plan.parameters:,} | |",
        "",
        *[f"- {remark}" for remark in plan.remarks],
        *([""] if plan.remarks else []),
        "```",
        command,
        "```",
        "",
        *[f"{_DIGESTS[of]}`{digest}`  " for of, digest in digests.items()],
        "",
        "Versions: " + ", ".join(f"{name} {number}" for name, number in versions().items()) + ".",
        "The plan, tensor by tensor, is in `wavescale.json`.",
        "",
    ]
    return "\n".join(lines)


def _carried_over(source_card: str) -> dict[str, Any]:
    """What a source's front matter says of its licence and its own base; nothing where it is no YAML."""
    import yaml

    front = re.match(r"\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", source_card, re.MULTILINE | re.DOTALL)
    try:
        found = yaml.safe_load(front[1]) if front else None
    except Exception:  # not only its own: tags such as !!bool fail in the words of Python
        found = None
    stated = found if isinstance(found, dict) else {}
    values = {name: stated.get(name) for name in _FRONT_MATTER}
    return {name: value for name, value in values.items() if value and _is_text(value)}


def _is_text(value: object) -> bool:
    """Whether a value of the front matter is a text, or a list of texts."""
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def stated_digest(card: Path, of: Digest) -> str | None:
    """The digest of the source or of the output in a card that `model_card` made; None where there is none."""
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    found = re.search(rf"{re.escape(_DIGESTS[of])}`([\w:]+)`", text)
    return None if found is None else found[1]


def source_name(model: str, folder: Path) -> str:
    """How to name the source in a card: the hub id, or the folder's own name without its path."""
    return model if not Path(model).expanduser().exists() else folder.resolve().name
