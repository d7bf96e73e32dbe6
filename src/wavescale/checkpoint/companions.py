"""The files that go with the weights: tokenizer, processor, generation settings, pooling."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from wavescale.checkpoint.json_files import read_json
from wavescale.checkpoint.reader import read_modules
from wavescale.checkpoint.writer import CheckpointWriter
from wavescale.errors import CheckpointError
from wavescale.plan import Plan

_SUFFIXES = {".json", ".txt", ".model", ".jinja", ".tiktoken", ".bpe", ".vocab"}
_PLAIN_NAMES = ("LICENSE", "NOTICE")
# Written anew, or of no use to another model.
_LEFT_OUT = {"config.json", "wavescale.json", "trainer_state.json", "all_results.json", "README.md"}

# sentence-transformers: files that state the width of the embedding, and the fields that do.
_WIDTH_FIELDS = {"Pooling": ("word_embedding_dimension", "embedding_dimension"), "WordEmbeddings": ("embed_dim",)}
# Modules that cannot be loaded without weights of their own, and the files that these are in.
_WEIGHTED, _WEIGHTS = ("Dense", "LayerNorm", "LSTM", "CNN"), ("model.safetensors", "pytorch_model.bin")


def companions(folder: Path) -> Iterator[Path]:
    """The files to copy, also of chat templates and sentence-transformers modules; never code or training state."""
    for path in sorted([*folder.glob("*"), *folder.glob("[0-9]*_*/*"), *folder.glob("additional_chat_templates/*")]):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        wanted = path.suffix in _SUFFIXES or _plain(path) or _module_weights(folder, path)
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


def _module_weights(folder: Path, path: Path) -> bool:
    """Weights of a sentence-transformers module; those of the folder itself are the checkpoint's."""
    return path.name in _WEIGHTS and path.parent != folder and (folder / "modules.json").is_file()


def check_companions(folder: Path, plan: Plan) -> None:
    """Refuse what would not fit or not load: layers of sentence-transformers that read the old width, or lack weights.

    Raises
    ------
    CheckpointError
        Names the module and what to do.
    """
    if not (folder / "modules.json").is_file():
        return
    for module in read_modules(folder / "modules.json"):
        home = folder / module["path"]
        if str(module.get("type", "")).rsplit(".", 1)[-1] not in _WEIGHTED:
            continue
        if plan.source.hidden_size != plan.target.hidden_size:
            raise CheckpointError(
                f"{home}: this sentence-transformers module reads vectors of "
                f"{plan.source.hidden_size} and has weights of its own, which wavescale does not resize. "
                "Remove it from modules.json and train a new one, or keep hidden_size."
            )
        if not any((home / name).is_file() for name in _WEIGHTS):
            raise CheckpointError(
                f"{home}: this sentence-transformers module has no weights, expected {' or '.join(_WEIGHTS)}. "
                "Download it again, or remove it from modules.json."
            )


def write_companions(folder: Path, plan: Plan, writer: CheckpointWriter) -> None:
    """Copy the files that go with the weights; those that state the width state the new one."""
    for path in companions(folder):
        name = str(path.relative_to(folder))
        fields = next((f for module, f in _WIDTH_FIELDS.items() if path.parent.name.endswith(f"_{module}")), ())
        if fields and path.name == "config.json":
            config = read_json(path, dict)
            stated = [field for field in fields if config.get(field) == plan.source.hidden_size]
            if stated:
                config |= dict.fromkeys(stated, plan.target.hidden_size)
                writer.write_text(name, json.dumps(config, indent=2) + "\n")
                continue
        writer.copy(path, name)
