"""The files that go with the weights: tokenizer, processor, generation settings, pooling."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wavescale.checkpoint.reader import read_config
from wavescale.checkpoint.writer import CheckpointWriter
from wavescale.errors import CheckpointError
from wavescale.plan import Plan

_SUFFIXES = {".json", ".txt", ".model", ".jinja", ".tiktoken", ".bpe", ".vocab"}
_PLAIN_NAMES = ("LICENSE", "NOTICE")
# Written anew, or of no use to another model.
_LEFT_OUT = {"config.json", "wavescale.json", "trainer_state.json", "all_results.json", "README.md"}

# sentence-transformers: files that state the width of the embedding, and the field that does.
_WIDTH_FIELDS = {"Pooling": "word_embedding_dimension", "WordEmbeddings": "embed_dim"}


def companions(folder: Path) -> Iterator[Path]:
    """The files to copy, also of chat templates and sentence-transformers modules; never code or training state."""
    for path in sorted([*folder.glob("*"), *folder.glob("[0-9]*_*/*"), *folder.glob("additional_chat_templates/*")]):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        wanted = path.suffix in _SUFFIXES or _plain(path) or module_weights(path)
        index = path.name.endswith(".index.json")
        left_out = path.parent == folder and path.name in _LEFT_OUT
        if (
            path.is_file()
            and wanted
            and not (hidden or index or left_out or relative.parts[0].startswith("checkpoint-"))
        ):
            yield path


def _plain(path: Path) -> bool:
    return path.name.startswith(_PLAIN_NAMES) and path.suffix in ("", ".md", ".txt")


def module_weights(path: Path) -> bool:
    """Weights of a sentence-transformers module, which cannot be loaded without them."""
    names = ("model.safetensors", "pytorch_model.bin")
    return path.name in names and (path.parent.parent / "modules.json").is_file()


def check_companions(folder: Path, plan: Plan) -> None:
    """Refuse what would no longer fit: layers of sentence-transformers that read the old width.

    Raises
    ------
    CheckpointError
        Names the module and what to do.
    """
    if plan.source.hidden_size == plan.target.hidden_size or not (folder / "modules.json").is_file():
        return
    for module in read_modules(folder / "modules.json"):
        if module.get("type", "").rsplit(".", 1)[-1] in ("Dense", "LayerNorm", "LSTM", "CNN"):
            raise CheckpointError(
                f"{folder / module['path']}: this sentence-transformers module reads vectors of "
                f"{plan.source.hidden_size} and has weights of its own, which wavescale does not resize. "
                "Remove it from modules.json and train a new one, or keep hidden_size."
            )


def read_modules(path: Path) -> list[dict[str, Any]]:
    """modules.json.

    Raises
    ------
    CheckpointError
        It is no list of modules.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}.") from error
    if not isinstance(found, list) or not all(isinstance(module, dict) and "path" in module for module in found):
        raise CheckpointError(f"{path}: is no list of modules with a path each.")
    return found


def write_companions(folder: Path, plan: Plan, writer: CheckpointWriter) -> None:
    """Copy the files that go with the weights; those that state the width state the new one."""
    for path in companions(folder):
        name = str(path.relative_to(folder))
        field = next((f for module, f in _WIDTH_FIELDS.items() if path.parent.name.endswith(f"_{module}")), None)
        if field is not None and path.name == "config.json":
            config = read_config(path)
            if config.get(field) == plan.source.hidden_size:
                config[field] = plan.target.hidden_size
                writer.write_text(name, json.dumps(config, indent=2) + "\n")
                continue
        writer.copy(path, name)
