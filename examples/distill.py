"""Heal a shrunk model: train it on what the model that it was shrunk from makes of a text.

    python examples/distill.py --teacher MODEL --student OUT --train-file text.txt --output healed

The student is what `wavescale resize` wrote. Causal and masked language models learn from the text
and from the teacher's distribution over tokens (Hinton et al. 2015, arXiv 1503.02531); sentence
encoders without a head learn the teacher's mean-pooled embeddings, or, at another width, the cosines
between the sentences of a batch. A tenth of the text is kept apart and measured before and after.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
import transformers
from torch.nn import functional as F

from wavescale.errors import CheckpointError, OptionError, OutputError, WavescaleError
from wavescale.inputs import read_text

Batch: TypeAlias = dict[str, torch.Tensor]
Kind = Literal["causal", "masked", "encoder"]

MASKED_SHARE = 0.15
VALIDATION_SHARE, VALIDATION_MOST = 0.1, 200
UNITS = {"causal": "nats per token", "masked": "nats per masked token", "encoder": "squared distance"}


@dataclass(frozen=True)
class Options:
    """What the command line says; lengths in tokens, `alpha` is the share of the text's own loss."""

    teacher: str
    student: Path
    train_file: Path
    output: Path
    steps: int
    learning_rate: float
    batch_size: int
    sequence_length: int
    alpha: float
    temperature: float
    lines: bool
    seed: int

    def check(self) -> None:
        """Refuse numbers out of range and an output that exists.

        Raises
        ------
        OptionError, OutputError
        """
        for name in ("steps", "learning_rate", "batch_size", "temperature"):
            if not getattr(self, name) > 0:
                raise OptionError(f"--{name.replace('_', '-')} is {getattr(self, name)}, expected a number above 0.")
        if not 0 <= self.alpha <= 1:
            raise OptionError(f"--alpha is {self.alpha}, expected a share from 0 (teacher alone) to 1 (text alone).")
        if self.sequence_length < 4:
            raise OptionError(f"--sequence-length is {self.sequence_length}, expected at least 4 tokens.")
        if self.output.exists():
            raise OutputError(f"{self.output}: exists already. Choose another folder or delete it.")
        if self.student.resolve() in self.output.resolve().parents:
            raise OutputError(f"{self.output}: lies in the student's folder. Choose another.")
        if not self.output.resolve().parent.is_dir():
            raise OutputError(f"{self.output}: there is no folder that it could be made in. Make it first.")


def parse(arguments: Sequence[str] | None) -> Options:
    """The command line as options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--teacher", required=True, help="the model before shrinking: a folder or a hub id")
    parser.add_argument("--student", required=True, type=Path, help="the folder that wavescale resize wrote")
    parser.add_argument("--train-file", required=True, type=Path, help="plain text, or the same as .gz")
    parser.add_argument("--output", required=True, type=Path, help="the folder to write")
    parser.add_argument("--steps", type=int, default=1000, help="optimizer steps (%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="AdamW's peak (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="windows or sentences per step and GPU (%(default)s)")
    parser.add_argument("--sequence-length", type=int, default=128, help="tokens per window (%(default)s)")
    parser.add_argument("--alpha", type=float, default=0.5, help="share of the text's own loss (%(default)s)")
    parser.add_argument("--temperature", type=float, default=2.0, help="of both distributions (%(default)s)")
    parser.add_argument("--lines", action="store_true", help="every line is a document (encoders: always)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of windows and of masks (%(default)s)")
    return Options(**vars(parser.parse_args(arguments)))


def kind_of(class_name: str) -> Kind:
    """What a class of transformers is trained on.

    Raises
    ------
    OptionError
        It is none that this script heals.

    Examples
    --------
    >>> kind_of("GPT2LMHeadModel"), kind_of("RobertaForMaskedLM"), kind_of("BertModel")
    ('causal', 'masked', 'encoder')
    """
    if class_name.endswith(("ForCausalLM", "LMHeadModel")):
        return "causal"
    if class_name.endswith("ForMaskedLM"):
        return "masked"
    if class_name in ("BertModel", "RobertaModel"):
        return "encoder"
    raise OptionError(
        f"--student: {class_name} is not healed by this script, which takes causal and masked language models, "
        "BertModel and RobertaModel. Distil it in a loop of your own, with its own labels."
    )


def load(option: str, name: str, class_name: str | None = None) -> Any:
    """A model in float32, of the class that its config names.

    Raises
    ------
    CheckpointError
        transformers cannot load it, tensors are missing, or the config names no class or another one.
    """
    try:
        config = transformers.AutoConfig.from_pretrained(name)
        named = (config.architectures or [None])[0]
        if named is None or class_name not in (None, named):
            raise CheckpointError(f"{option} {name}: its config names {named}, expected {class_name or 'a class'}.")
        model, info = getattr(transformers, named).from_pretrained(name, dtype=torch.float32, output_loading_info=True)
    except WavescaleError:
        raise
    except (AttributeError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{option} {name}: transformers cannot load it: {first_line(error)}") from error
    missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)  # nothing here reads a pooler
    if missing or info["mismatched_keys"]:
        raise CheckpointError(f"{option} {name}: lacks {missing or info['mismatched_keys']}. Name a complete model.")
    return model


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def load_tokenizer(student: Path, vocabulary: int, kind: Kind) -> Any:
    """The student's tokenizer.

    Raises
    ------
    CheckpointError
        There is none, it knows more tokens than the model, or it has no mask token and one is needed.
    """
    # Without a file transformers makes an empty tokenizer for some families, which knows no word.
    if not any((student / name).is_file() for name in ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model")):
        raise CheckpointError(
            f"--student {student}: has no tokenizer. Save the teacher's there: "
            "AutoTokenizer.from_pretrained(TEACHER).save_pretrained(STUDENT)."
        )
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(student)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"--student {student}: its tokenizer cannot be loaded: {first_line(error)}") from error
    if len(tokenizer) > vocabulary:
        raise CheckpointError(
            f"--student {student}: its tokenizer has {len(tokenizer)} tokens, the model {vocabulary}. "
            "Put the tokenizer that the model was trained with there."
        )
    if kind == "masked" and tokenizer.mask_token_id is None:
        raise CheckpointError(f"--student {student}: its tokenizer has no mask token, which a masked model needs.")
    return tokenizer


def windows(tokenizer: Any, text: str, length: int, lines: bool) -> list[list[int]]:
    """Token ids with the tokenizer's special tokens, at most `length` each; all equally long unless `lines`."""
    documents = [line for line in text.splitlines() if line.strip()] if lines else [text]
    if not documents:
        return []
    found = tokenizer(documents, truncation=True, max_length=length, return_overflowing_tokens=True)["input_ids"]
    return [ids for ids in found if (len(ids) > 1 if lines else len(ids) == length)]


@dataclass
class Collator:
    """Windows to a batch: ids, attention mask and, for language models, labels (−100 where there is none)."""

    tokenizer: Any
    kind: Kind
    generator: torch.Generator

    def __call__(self, found: Sequence[Sequence[int]]) -> Batch:
        length = max(map(len, found))
        padding = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([[*row, *[padding] * (length - len(row))] for row in found])
        attended = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in found])
        batch = {"input_ids": ids, "attention_mask": attended}
        if self.kind == "causal":
            batch["labels"] = ids.masked_fill(attended == 0, -100)
        if self.kind == "masked":
            special = torch.isin(ids, torch.tensor(self.tokenizer.all_special_ids))
            chosen = (torch.rand(ids.shape, generator=self.generator) < MASKED_SHARE) & ~special & (attended == 1)
            batch["input_ids"] = ids.masked_fill(chosen, self.tokenizer.mask_token_id)
            batch["labels"] = ids.masked_fill(~chosen, -100)
        return batch


def predictions(model: Any, batch: Batch, kind: Kind) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, vocabulary) and labels (N,) of the N tokens that are predicted."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    labels = batch["labels"]
    if kind == "causal":
        logits, labels = logits[:, :-1], labels[:, 1:]
    return logits[labels != -100], labels[labels != -100]


def embeddings(model: Any, batch: Batch) -> torch.Tensor:
    """Mean-pooled sentence embeddings of length one, (batch, width)."""
    states = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    mask = batch["attention_mask"][..., None].to(states.dtype)
    return F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


def embedding_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean squared distance of embeddings, or of the cosines within the batch where widths differ."""
    if student.shape == teacher.shape:
        return (student - teacher).square().sum(-1).mean()
    return (student @ student.T - teacher @ teacher.T).square().mean()


def token_loss(
    student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, alpha: float, temperature: float
) -> torch.Tensor:
    """Loss of a language model: alpha · CE + (1 − alpha) · T² · KL(teacher ‖ student), each a mean over tokens."""
    if not len(labels):  # nothing of a short batch was masked
        return student.sum() * 0.0
    log_p, log_q = (F.log_softmax(logits / temperature, dim=-1) for logits in (teacher, student))
    divergence = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    return alpha * F.cross_entropy(student, labels) + (1 - alpha) * temperature**2 * divergence


class Distillation(transformers.Trainer):  # type: ignore[misc] # transformers' types are not looked at
    """transformers' Trainer with a teacher."""

    def __init__(self, teacher: Any, kind: Kind, alpha: float, temperature: float, **rest: Any) -> None:
        super().__init__(**rest)
        self.remove_callback(transformers.PrinterCallback)  # the losses are printed in words
        self.teacher = teacher.to(self.args.device).eval()
        self.kind, self.alpha, self.temperature = kind, alpha, temperature

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The loss of one batch."""
        if self.kind == "encoder":
            with torch.no_grad():
                wanted = embeddings(self.teacher, inputs)
            return embedding_loss(embeddings(model, inputs), wanted)
        with torch.no_grad():
            wanted, _ = predictions(self.teacher, inputs, self.kind)
        found, labels = predictions(model, inputs, self.kind)
        return token_loss(found, wanted, labels, self.alpha, self.temperature)


def validation_loss(model: Any, teacher: Any, kind: Kind, batches: Callable[[], Iterator[Batch]]) -> float:
    """Cross-entropy per predicted token; for encoders the distance to the teacher, per sentence."""
    training, total, count = model.training, 0.0, 0
    model.eval()
    teacher.eval()
    with torch.no_grad():
        for batch in batches():
            here = {name: value.to(model.device) for name, value in batch.items()}
            if kind == "encoder":
                rows = len(here["input_ids"])
                total += float(embedding_loss(embeddings(model, here), embeddings(teacher, here))) * rows
                count += rows
            else:
                logits, labels = predictions(model, here, kind)
                total += float(F.cross_entropy(logits, labels, reduction="sum"))
                count += len(labels)
    model.train(training)
    return total / max(count, 1)


def distil(options: Options) -> None:
    """Train, print the losses before and after, and write the output.

    Raises
    ------
    WavescaleError
        Something of the input cannot be used; the message says what and what to do.
    """
    options.check()
    if find_spec("accelerate") is None:
        raise OptionError("accelerate is missing, which transformers' Trainer needs: pip install 'wavescale[train]'.")
    if not (options.student / "config.json").is_file():
        raise CheckpointError(f"--student {options.student}: has no config.json. Name a folder of wavescale resize.")
    text = read_text(options.train_file, "--train-file")
    transformers.set_seed(options.seed)
    student = load("--student", str(options.student))
    class_name = type(student).__name__
    kind = kind_of(class_name)
    teacher = load("--teacher", options.teacher, class_name)
    if student.config.vocab_size != teacher.config.vocab_size:
        raise CheckpointError(
            f"--teacher {options.teacher}: has {teacher.config.vocab_size} tokens, the student "
            f"{student.config.vocab_size}. Name the model that the student was shrunk from."
        )
    tokenizer = load_tokenizer(options.student, student.config.vocab_size, kind)
    longest = min(model.config.max_position_embeddings for model in (student, teacher))
    longest -= 2 if class_name.startswith("Roberta") else 0  # its positions start at 2
    if options.sequence_length > longest:
        raise OptionError(f"--sequence-length is {options.sequence_length}, the models have {longest} positions.")
    train, validation = split(
        windows(tokenizer, text, options.sequence_length, options.lines or kind == "encoder"), options
    )

    def batches() -> Iterator[Batch]:
        collate = Collator(tokenizer, kind, torch.Generator().manual_seed(options.seed))  # the same masks every time
        for start in range(0, len(validation), options.batch_size):
            yield collate(validation[start : start + options.batch_size])

    with tempfile.TemporaryDirectory() as scratch:
        trainer = Distillation(
            teacher, kind, options.alpha, options.temperature,
            model=student, args=training_arguments(scratch, options), train_dataset=train,
            data_collator=Collator(tokenizer, kind, torch.Generator().manual_seed(options.seed)),
        )  # fmt: skip
        print(f"{class_name}, {len(train):,} windows to train on, {len(validation):,} to measure ({UNITS[kind]})")
        print(f"teacher  {validation_loss(trainer.teacher, trainer.teacher, kind, batches):.5g}")
        print(f"student  {validation_loss(student, trainer.teacher, kind, batches):.5g} before", flush=True)
        trainer.train()
    print(f"student  {validation_loss(student, trainer.teacher, kind, batches):.5g} after {options.steps:,} steps")
    # Tokenizer, plan and pooling come along; the card speaks of a model that is not trained yet.
    own = shutil.ignore_patterns("*.safetensors*", "README.md", "optimizer.pt", "scheduler.pt", "trainer_state.json")
    shutil.copytree(
        options.student,
        options.output,
        ignore=lambda folder, names: own(folder, names) if Path(folder) == options.student else set(),
    )
    student.save_pretrained(options.output)
    print(f"written: {options.output}")


def split(found: list[list[int]], options: Options) -> tuple[list[list[int]], list[list[int]]]:
    """Windows to train on, and the last tenth to measure.

    Raises
    ------
    CheckpointError
        There are fewer than two batches.
    """
    apart = min(max(int(len(found) * VALIDATION_SHARE), 2), VALIDATION_MOST)
    if len(found) - apart < options.batch_size:
        raise CheckpointError(
            f"--train-file {options.train_file}: makes {len(found)} windows or lines, expected at least "
            f"{options.batch_size + apart}. Give more text, or a smaller --batch-size or --sequence-length."
        )
    return found[:-apart], found[-apart:]


def training_arguments(folder: str, options: Options) -> Any:
    """AdamW with a tenth of warm-up and a cosine to zero; nothing is saved on the way."""
    return transformers.TrainingArguments(
        output_dir=folder,
        max_steps=options.steps,
        learning_rate=options.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, options.steps // 10),
        weight_decay=0.01,
        per_device_train_batch_size=options.batch_size,
        dataloader_drop_last=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        seed=options.seed,
        disable_tqdm=not sys.stderr.isatty(),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0, or the exit code of the error that it printed."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        distil(parse(arguments))
    except WavescaleError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
