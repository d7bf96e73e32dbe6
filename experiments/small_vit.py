"""A small ViT trained on Fashion-MNIST, as source for experiments: one recipe, fixed seeds."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from transfer import images
from transformers import ViTConfig, ViTForImageClassification

BATCH, STEPS, PEAK, WARMUP = 128, 800, 1e-3, 100


def read_images(folder: Path, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (count, 1, 28, 28) from −1 to 1 and labels (count,); the part is `train` or `t10k`."""
    found = images.read_images({}, folder, train=part == "train")
    pixels = np.stack(found.pixels).reshape(-1, 1, 28, 28)
    return torch.from_numpy(pixels / np.float32(127.5) - np.float32(1)), torch.from_numpy(found.labels)


def config() -> ViTConfig:
    return ViTConfig(
        num_hidden_layers=6, hidden_size=128, num_attention_heads=8, intermediate_size=512, image_size=28, patch_size=7,
        num_channels=1, num_labels=10, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip


def source(folder: Path, data: Path) -> ViTForImageClassification:
    """A trained source, kept in a folder."""
    if not (folder / "config.json").is_file():
        torch.manual_seed(0)
        model = ViTForImageClassification(config())
        pixels, labels = read_images(data, "train")
        optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: min(1.0, (step + 1) / WARMUP) * (0.55 + 0.45 * math.cos(math.pi * min(1.0, step / STEPS))),
        )
        rng = np.random.default_rng(0)
        model.train()
        for step in range(1, STEPS + 1):
            drawn = torch.from_numpy(rng.integers(0, len(pixels), BATCH))
            loss = model(pixels[drawn], labels=labels[drawn]).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if step % 200 == 0:
                print(f"vit step {step}: {float(loss.detach()):.3f}", flush=True)
        model.save_pretrained(folder)
    return ViTForImageClassification.from_pretrained(folder)
