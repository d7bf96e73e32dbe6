"""The files that go with the weights: tokenizer, processor, generation settings, modules of sentence-transformers."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path

from wavescale.checkpoint.json_files import read_modules

_SUFFIXES = {".json", ".txt", ".model", ".jinja", ".tiktoken", ".bpe", ".vocab"}
_PLAIN_NAMES = ("LICENSE", "NOTICE")
# Of a module of sentence-transformers; those of the folder itself are the checkpoint's.
_MODULE_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# Written anew, or of no use to another model: they state sizes, results or the progress of the source, or belong to
# adapters and exports that are not carried over.
_LEFT_OUT = (
    "config.json", "wavescale.json", "README.md", "params.json", "*.index.json", "adapter_*", "quant*_config.json",
    "*_quant_config.json", "openvino_*", "trainer_state.json", "training_args.json", "*_results.json", "*_results.txt",
    "*metrics*.json", "requirements.txt", "ort_config.json", "genai_config.json", "mlc-chat-config.json",
    "training_config.json", "model_args.json",
)  # fmt: skip


def companions(folder: Path) -> Iterator[Path]:
    """The files to carry over: never code, exports, results or the state of a training run.

    By their suffix these are files of tokenizers and processors, which may have any name; what is left out has names
    that are known. Of a module of sentence-transformers its weights belong to it as well.

    Raises
    ------
    CheckpointError
        modules.json is no list of modules in the folder.
    """
    homes = {folder / module["path"] for module in read_modules(folder / "modules.json")} - {folder}
    places = chain(folder.glob("*"), folder.glob("additional_chat_templates/*"), *(home.rglob("*") for home in homes))
    for path in sorted(set(places)):
        parts = path.relative_to(folder).parts
        own = path.parent == folder
        wanted = path.suffix in _SUFFIXES or _plain(path) or (not own and path.name in _MODULE_WEIGHTS)
        left_out = own and any(fnmatchcase(path.name, pattern) for pattern in _LEFT_OUT)
        if path.is_file() and wanted and not left_out and not any(part.startswith(".") for part in parts):
            yield path


def _plain(path: Path) -> bool:
    return path.name.startswith(_PLAIN_NAMES) and path.suffix in ("", ".md", ".txt")


def left_behind(folder: Path) -> tuple[str, ...]:
    """What a user should know of files that are not carried over: adapters, which fit the source alone."""
    found = sorted({*folder.glob("adapter_config.json"), *folder.glob("*/adapter_config.json")})
    names = ", ".join(path.relative_to(folder).as_posix() for path in found)
    return (f"left out: the adapter of {names}, which fits the source alone",) if found else ()
