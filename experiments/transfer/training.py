"""One run in transformers' Trainer: measured at marks, resumed where it was interrupted, stopped at a target."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from transfer.processes import processes
from transfer.runs import Distillation, Run
from transfer.starts import Start
from transfer.tasks import Task

Point = dict[str, float]


@dataclass(frozen=True)
class Outcome:
    """A run that ended.

    Attributes
    ----------
    curve
        At each mark: `step`, the quality by its name (and the loss, where that is another), and `seconds` of
        training up to there, without measuring.
    checkpoint
        The folder of its last checkpoint, with the whole model as it ended, however many processes held it.
    """

    curve: list[Point]
    checkpoint: Path


class TransferTrainer(Trainer):  # type: ignore[misc]
    """Trainer with a teacher, soft labels, and the seconds of training in its log."""

    def __init__(
        self,
        clock: Clock,
        smoothing: float,
        teacher: PreTrainedModel | None,
        distillation: Distillation | None,
        **arguments: Any,
    ) -> None:
        super().__init__(callbacks=[clock], **arguments)
        self.clock, self.smoothing, self.distillation = clock, smoothing, distillation
        self.teacher = None if teacher is None else teacher.eval().requires_grad_(False).to(self.args.device)
        # Losses here are means over a batch, so Trainer has to divide them by the accumulation steps.
        self.model_accepts_loss_kwargs = False

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log({**logs, "seconds": round(self.clock.seconds, 3)}, start_time)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        # Trainer looks for the names of parameters in the file (transformers 5.23), where DeiT's have others.
        found = type(self.model).from_pretrained(resume_from_checkpoint, dtype=self.model.dtype)
        self.model.load_state_dict(found.state_dict())

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if "pixel_values" in inputs:
            outputs = model(pixel_values=inputs["pixel_values"])
            smoothing = self.smoothing if model.training else 0.0
            loss = F.cross_entropy(outputs.logits, inputs["labels"], label_smoothing=smoothing)
        else:
            outputs = model(**inputs)
            loss = outputs.loss
        if self.teacher is not None and self.distillation is not None and model.training:
            loss = self._distilled(loss, outputs.logits, inputs, self.distillation)
        named = {name: outputs[name] for name in ("logits", "start_logits", "end_logits") if name in outputs}
        return (loss, named) if return_outputs else loss

    def _distilled(
        self, loss: torch.Tensor, logits: torch.Tensor, inputs: Mapping[str, Any], how: Distillation
    ) -> torch.Tensor:
        """α·CE + (1 − α)·T²·KL(teacher ‖ student), over the positions that are predicted."""
        assert self.teacher is not None
        with torch.no_grad():
            wanted = self.teacher(**{name: value for name, value in inputs.items() if name != "labels"}).logits
        labels = inputs["labels"]
        if "pixel_values" not in inputs:
            if self.teacher.config.model_type == "gpt2":
                logits, wanted, labels = logits[:, :-1], wanted[:, :-1], labels[:, 1:]
            logits, wanted = logits[labels != -100], wanted[labels != -100]
        t = how.temperature
        kl = F.kl_div(
            F.log_softmax(logits / t, -1), F.log_softmax(wanted / t, -1), reduction="batchmean", log_target=True
        )
        return how.alpha * loss + (1 - how.alpha) * t**2 * kl


class Clock(TrainerCallback):  # type: ignore[misc]
    """Counts the seconds of training steps, over interruptions, without measuring and saving."""

    def __init__(self) -> None:
        self.seconds, self._begun = 0.0, 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.seconds = max((entry.get("seconds", 0.0) for entry in state.log_history), default=0.0)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._begun = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.seconds += time.monotonic() - self._begun


class Stop(TrainerCallback):  # type: ignore[misc]
    """Saves and measures a run where it ends: at a quality, or with its budget."""

    def __init__(self, run: Run, wanted: float | None) -> None:
        self.run, self.wanted = run, wanted

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float],
        **_: Any,
    ) -> None:
        found = metrics[f"eval_{self.run.quality}"]
        if self.wanted is not None and self.run.reaches(found, self.wanted):
            control.should_training_stop = control.should_save = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step >= self.run.steps:
            control.should_training_stop = control.should_save = control.should_evaluate = True


def train(
    run: Run, task: Task, start: Start, teacher: PreTrainedModel | None, wanted: float | None, home: Path,
) -> Outcome:  # fmt: skip
    """Train a run, or go on with one.

    Parameters
    ----------
    run, task, start
        What to train.
    teacher
        The source, for distillation.
    wanted
        The quality that ends it; None to use the whole budget.
    home
        Folder of its checkpoints; a run goes on from the last whole one.
    """
    last = last_checkpoint(home)
    if last is not None and _ended(read_curve(run, last), run, wanted):
        return Outcome(read_curve(run, last), last)
    clock, (batch, accumulated) = Clock(), _share(run)
    arguments = TrainingArguments(
        output_dir=str(home),
        max_steps=run.steps,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulated,
        per_device_eval_batch_size=run.device_batch or 4 * batch,
        learning_rate=run.rate,
        warmup_steps=round(run.warmup * run.steps),
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": run.floor},
        weight_decay=run.weight_decay,
        adam_beta2=run.beta2,
        max_grad_norm=1.0,
        eval_strategy="steps",
        eval_steps=run.every,
        eval_on_start=last is None,
        logging_steps=run.every,
        save_strategy="steps",
        save_steps=4 * run.every,
        save_total_limit=1,
        prediction_loss_only=run.quality == "loss",
        remove_unused_columns=False,
        label_names=list(task.labels),
        train_sampling_strategy="sequential",
        dataloader_num_workers=run.workers,
        seed=run.seed,
        report_to=["tensorboard"],
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    trainer = TransferTrainer(
        clock, run.smoothing, teacher, run.distillation, model=start.model, args=arguments, data_collator=task.collate,
        train_dataset=task.train, eval_dataset=task.validation,
        compute_metrics=task.measured,
    )  # fmt: skip
    trainer.add_callback(Stop(run, wanted))
    trainer.train(resume_from_checkpoint=None if last is None else str(last))
    processes().wait_for_everyone()  # until the main one has written the last checkpoint
    return Outcome(_curve(run, trainer.state), home / f"checkpoint-{trainer.state.global_step}")


def _share(run: Run) -> tuple[int, int]:
    """The part of a batch that one process takes at a time, and how many of those make a step."""
    count: int = processes().num_processes
    if count == 1 and torch.cuda.device_count() > 1:
        raise ValueError(
            f"one process sees {torch.cuda.device_count()} GPUs, on each of which Trainer would put a whole batch. "
            "Start with accelerate launch, or set CUDA_VISIBLE_DEVICES to one."
        )
    share, rest = divmod(run.batch, count)
    if rest:
        raise ValueError(f"a batch of {run.batch} cannot be shared by {count} processes; use a number that divides it.")
    at_a_time = min(share, run.device_batch or share)
    if share % at_a_time:
        raise ValueError(f"device_batch {at_a_time} does not divide the {share} of a process; use a number that does.")
    return at_a_time, share // at_a_time


def last_checkpoint(home: Path) -> Path | None:
    """The last checkpoint that is whole: Trainer writes its state behind everything else."""
    found = sorted(home.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    return next((path for path in reversed(found) if _is_whole(path)), None)


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    return True


def read_curve(run: Run, checkpoint: Path) -> list[Point]:
    """The curve up to a checkpoint."""
    return _curve(run, TrainerState.load_from_json(str(checkpoint / "trainer_state.json")))


def _curve(run: Run, state: TrainerState) -> list[Point]:
    points: dict[int, Point] = {}
    for entry in state.log_history:
        if f"eval_{run.quality}" in entry and entry["step"] not in points:
            measured = {name: entry[f"eval_{name}"] for name in dict.fromkeys((run.quality, "loss"))}
            points[entry["step"]] = {"step": entry["step"], **measured, "seconds": entry["seconds"]}
    return [points[step] for step in sorted(points)]


def _ended(curve: list[Point], run: Run, wanted: float | None) -> bool:
    last = curve[-1]
    at_end = last["step"] >= run.steps
    return at_end or (wanted is not None and run.reaches(last[run.quality], wanted))
