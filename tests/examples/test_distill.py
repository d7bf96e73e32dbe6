from __future__ import annotations

import gzip
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

import wavescale
from distill import main, windows

WORDS = {
    "a": ["the", "one", "every"],
    "b": ["old", "red", "small", "quick"],
    "c": ["dog", "horse", "child", "river"],
    "d": ["sees", "likes", "follows"],
    "e": ["a"],
    "f": ["house", "tree", "road", "boat"],
}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*SPECIAL, *(word for words in WORDS.values() for word in words)]
SIZES = {"vocab_size": len(VOCABULARY), "pad_token_id": 0}
BERT = {
    **SIZES, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 32, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.2,
}  # fmt: skip
GPT2 = {
    **SIZES, "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 32, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
    "attn_pdrop": 0.0, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip
CONFIGS = {"GPT2LMHeadModel": GPT2, "BertForMaskedLM": BERT, "BertModel": BERT}


def sentences(count: int) -> str:
    drawn = random.Random(0)
    return "\n".join(" ".join(drawn.choice(words) for words in WORDS.values()) for _ in range(count)) + "\n"


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: at for at, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    )  # fmt: skip


def teach(model: Any, ids: torch.Tensor) -> None:
    """A few seconds of training on (N, length) ids, so that the teacher knows what the student has lost."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    masked = "Masked" in type(model).__name__
    model.train()
    for _ in range(150):
        rows = ids[torch.randint(0, len(ids), (16,), generator=generator)]
        hidden = torch.rand(rows.shape, generator=generator) < 0.15
        given = torch.where(hidden, 4, rows) if masked else rows
        model(given, labels=torch.where(hidden, rows, -100) if masked else rows).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def shrunk(folder: Path, class_name: str, **sizes: Any) -> None:
    """Files text.txt, teacher and student in a folder."""
    (folder / "text.txt").write_text(sentences(400))
    torch.manual_seed(0)
    model_class = getattr(transformers, class_name)
    teacher = model_class(model_class.config_class(**CONFIGS[class_name]))
    if class_name != "BertModel":
        teach(teacher, torch.tensor(windows(tokenizer(), (folder / "text.txt").read_text(), 16, lines=False)))
    teacher.save_pretrained(folder / "teacher")
    tokenizer().save_pretrained(folder / "teacher")
    wavescale.resize_checkpoint(folder / "teacher", folder / "student", calibrate="none", **sizes)


def command(folder: Path, **options: object) -> list[str]:
    given = {
        "teacher": folder / "teacher", "student": folder / "student", "train_file": folder / "text.txt",
        "output": folder / "healed", "steps": 80, "learning_rate": 5e-3, "sequence_length": 16, **options,
    }  # fmt: skip
    return [text for name, value in given.items() for text in (f"--{name.replace('_', '-')}", str(value))]


@pytest.mark.parametrize(
    ("class_name", "sizes", "share"),
    [
        ("GPT2LMHeadModel", {"hidden_size": 16, "num_hidden_layers": 2}, 0.5),
        ("BertForMaskedLM", {"hidden_size": 16, "num_hidden_layers": 2}, 0.5),
        ("BertModel", {"num_hidden_layers": 2}, 0.8),  # embeddings of the same width
        ("BertModel", {"hidden_size": 16, "num_hidden_layers": 2}, 0.3),  # cosines within a batch
    ],
)
def test_a_shrunk_model_heals(
    class_name: str, sizes: dict[str, int], share: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shrunk(tmp_path, class_name, **sizes)
    capsys.readouterr()
    assert main(command(tmp_path)) == 0
    printed, complaints = capsys.readouterr()
    assert complaints == ""
    teacher, before, after = (float(value) for value in re.findall(r"^(?:teacher|student)\s+(\S+)", printed, re.M))
    assert before - after > share * (before - teacher)  # most of what shrinking lost is back
    model = getattr(transformers, class_name).from_pretrained(tmp_path / "healed")
    plan = wavescale.plan_resize(tmp_path / "student")
    assert model.config.num_hidden_layers == plan.target.num_hidden_layers
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path / "healed")
    with torch.no_grad():
        assert torch.isfinite(model(**loaded("the old dog sees a house", return_tensors="pt"))[0]).all()
    assert not wavescale.verify(tmp_path / "teacher", tmp_path / "healed").kept


def test_a_gzipped_text_line_by_line_gives_the_same_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shrunk(tmp_path, "GPT2LMHeadModel", num_hidden_layers=2)
    (tmp_path / "text.gz").write_bytes(gzip.compress((tmp_path / "text.txt").read_bytes()))
    printed = []
    for output in ("one", "two"):
        capsys.readouterr()
        options = {"train_file": tmp_path / "text.gz", "output": tmp_path / output, "steps": 3}
        assert main([*command(tmp_path, **options), "--lines"]) == 0
        printed.append(capsys.readouterr().out.replace(output, ""))
    assert printed[0] == printed[1]
    assert "360 windows to train on, 40 to measure" in printed[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("distill")
    shrunk(found, "BertForMaskedLM", num_hidden_layers=2)
    (found / "empty.txt").write_text("")
    (found / "latin.txt").write_bytes(b"caf\xe9")
    (found / "broken.gz").write_bytes(b"no gzip")
    transformers.BertForMaskedLM(transformers.BertConfig(**{**BERT, "vocab_size": 40})).save_pretrained(found / "wider")
    transformers.BertModel(transformers.BertConfig(**BERT)).save_pretrained(found / "headless")
    transformers.BertForMaskedLM(transformers.BertConfig(**BERT)).save_pretrained(found / "speechless")
    shutil.copytree(found / "headless", found / "beheaded")
    shutil.copy(found / "speechless" / "config.json", found / "beheaded")
    image = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    transformers.ViTModel(transformers.ViTConfig(**image, image_size=8, patch_size=4)).save_pretrained(found / "image")
    return found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher": "nowhere"}, "--teacher .*nowhere.* cannot load"),
        ({"teacher": "headless"}, "--teacher .* names BertModel, expected BertForMaskedLM"),
        ({"teacher": "beheaded"}, "--teacher .* lacks .*cls.predictions"),
        ({"teacher": "wider"}, "has 40 tokens, the student 24"),
        ({"student": "nowhere"}, "--student .* no config.json"),
        ({"student": "image"}, "ViTModel is not healed"),
        ({"student": "speechless"}, "no tokenizer"),
        ({"train_file": "nowhere.txt"}, "--train-file .* cannot be read"),
        ({"train_file": "empty.txt"}, "makes 0 windows"),
        ({"train_file": "latin.txt"}, "cannot be read as text"),
        ({"train_file": "broken.gz"}, "cannot be read as text"),
        ({"output": "teacher"}, "exists already"),
        ({"output": "student/healed"}, "lies in the student's folder"),
        ({"output": "no/where"}, "no folder that it could be made in"),
        ({"steps": 0}, "--steps is 0"),
        ({"learning_rate": -1.0}, "--learning-rate is -1.0"),
        ({"temperature": "nan"}, "--temperature is nan"),
        ({"alpha": 1.5}, "--alpha is 1.5"),
        ({"sequence_length": 64}, "--sequence-length is 64, the models have 32"),
        ({"sequence_length": 1}, "--sequence-length is 1"),
        ({"batch_size": 1000}, "smaller --batch-size"),
    ],
    ids=str,
)
def test_bad_input_gets_one_line(
    options: dict[str, Any], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = ("teacher", "student", "train_file", "output")
    given = {name: folder / value if name in paths else value for name, value in options.items()}
    capsys.readouterr()
    assert main(command(folder, **given)) == 2
    printed, complaints = capsys.readouterr()
    assert printed == ""
    assert re.match(f"error: .*{message}", complaints)
    assert complaints.count("\n") == 1
    assert not (folder / "healed").exists()


def test_weights_of_modules_come_along(tmp_path: Path) -> None:
    shrunk(tmp_path, "GPT2LMHeadModel", num_hidden_layers=2)
    (tmp_path / "student" / "2_Dense").mkdir()
    (tmp_path / "student" / "2_Dense" / "model.safetensors").write_bytes(b"weights")
    assert main(command(tmp_path, steps=1)) == 0
    assert (tmp_path / "healed" / "2_Dense" / "model.safetensors").read_bytes() == b"weights"
