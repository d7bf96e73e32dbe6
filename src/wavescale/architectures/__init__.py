"""The families that wavescale knows. To add one: its file, and its line here (CONTRIBUTING.md)."""

from __future__ import annotations

from wavescale.architectures.bert import BERT
from wavescale.architectures.deit import DEIT
from wavescale.architectures.gpt2 import GPT2
from wavescale.architectures.llama import LLAMA
from wavescale.architectures.mistral import MISTRAL
from wavescale.architectures.qwen2 import QWEN2
from wavescale.architectures.qwen3 import QWEN3
from wavescale.architectures.roberta import ROBERTA
from wavescale.architectures.schema import Family
from wavescale.architectures.vit import VIT

FAMILIES: dict[str, Family] = {
    "bert": BERT,
    "roberta": ROBERTA,
    "gpt2": GPT2,
    "vit": VIT,
    "deit": DEIT,
    "llama": LLAMA,
    "mistral": MISTRAL,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
}
