"""From what the user typed to a local folder: a folder, a config file, or a hub id."""

from __future__ import annotations

import os
import re
from pathlib import Path

from wavescale.checkpoint.json_files import read_modules
from wavescale.errors import CheckpointError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")

# What a checkpoint is made of; code is never fetched.
_CONFIG_FILES = ("config.json", "adapter_config.json")
_ALL_FILES = (
    "*.json",
    # Not every file of weights: beside them some keep the same once more, for other programs or in half types.
    "model*.safetensors",
    "*-of-*.safetensors",
    "*.txt",
    "*.model",
    "*.jinja",
    "*.tiktoken",
    "LICENSE*",
    "NOTICE*",
    "README.md",
)

_MERGE = "Merge it into its base (merge_and_unload of peft), save that with save_pretrained, and name its folder."


def locate(model: str | os.PathLike[str], weights: bool = True) -> Path:
    """Find a model on disk, fetching it from the hub if it is an id.

    Parameters
    ----------
    model
        A folder, a config.json, or a hub id such as `HuggingFaceTB/SmolLM2-135M`.
    weights
        Whether the weights are needed; without, only config files are fetched.

    Returns
    -------
    A folder, or the path of a config file.

    Raises
    ------
    CheckpointError
        There is no such folder, or the hub cannot give it; or `model` is neither a path nor an id.
    """
    if not isinstance(model, str | os.PathLike):
        raise CheckpointError(
            f"{type(model).__name__} is no folder and no hub id. For a model in memory there are wavescale.resize and "
            "plan_resize; or save it with save_pretrained and name the folder."
        )
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            if (path / "adapter_config.json").is_file():
                raise CheckpointError(f"{path}: holds an adapter alone. {_MERGE}")
            raise CheckpointError(f"{path}: no config.json in this folder. Name the folder that save_pretrained wrote.")
        return path
    if path.is_file():
        if path.suffix != ".json":
            raise CheckpointError(f"{path}: expected a folder with config.json and weights, or a config.json.")
        return path
    text = os.fspath(model)
    if not _HUB_ID.fullmatch(text):
        raise CheckpointError(f"{text}: no such folder. Name a local folder or a hub id (owner/name).")
    return _fetch(text, weights)


def _fetch(model: str, weights: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        folder = Path(snapshot_download(model, allow_patterns=list(_ALL_FILES if weights else _CONFIG_FILES)))
        more = [f"{module['path']}/*" for module in read_modules(folder / "modules.json") if module["path"]]
        if not any(folder.glob("*.safetensors")):
            more.append("pytorch_model*.bin")
        if weights and more:
            folder = Path(snapshot_download(model, allow_patterns=[*_ALL_FILES, *more]))
    except HFValidationError as error:
        raise CheckpointError(f"{model}: no such local folder, and no name that the hub could have: {error}") from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise CheckpointError(
            f"{model}: no such local folder, and the hub cannot be reached to look for a model of that name. "
            "Check the path, or go online (HF_HUB_OFFLINE=0) and try again."
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise CheckpointError(
            f"{model}: no such local folder, and the hub answers: {str(error).splitlines()[0]}"
        ) from error
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise CheckpointError(f"{model}: holds an adapter alone. {_MERGE}")
        raise CheckpointError(f"{model}: the hub has no config.json for it; wavescale needs one.")
    return folder
