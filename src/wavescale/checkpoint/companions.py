"""The files that go with the weights: tokenizer, processor, generation settings, pooling."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

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
    """The files to copy, at most one folder deep; never code, weights or training state."""
    for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        wanted = path.suffix in _SUFFIXES or path.name.startswith(_PLAIN_NAMES)
        index = path.name.endswith(".index.json")
        left_out = path.parent == folder and path.name in _LEFT_OUT
        if (
            path.is_file()
            and wanted
            and not (hidden or index or left_out or relative.parts[0].startswith("checkpoint-"))
        ):
            yield path


def check_companions(folder: Path, plan: Plan) -> None:
    """Refuse what would no longer fit: layers of sentence-transformers that read the old width.

    Raises
    ------
    CheckpointError
        Names the module and what to do.
    """
    if plan.source.hidden_size == plan.target.hidden_size or not (folder / "modules.json").is_file():
        return
    for module in json.loads((folder / "modules.json").read_text(encoding="utf-8")):
        if module.get("type", "").rsplit(".", 1)[-1] in ("Dense", "LayerNorm", "LSTM", "CNN"):
            raise CheckpointError(
                f"{folder / module['path']}: this sentence-transformers module reads vectors of "
                f"{plan.source.hidden_size} and has weights of its own, which wavescale does not resize. "
                "Remove it from modules.json and train a new one, or keep hidden_size."
            )


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
