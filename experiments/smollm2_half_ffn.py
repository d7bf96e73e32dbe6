"""SmolLM2-135M with half the FFN units: what the choice and the refit are calibrated on.

python experiments/smollm2_half_ffn.py --text moby_dick.txt.gz --other sotu.txt.gz
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path

import torch
from checkpoints import smollm2
from smollm2_growth import read_window
from transformers import AutoTokenizer

import wavescale
from wavescale.calibration import RefitUnits, generated_tokens
from wavescale.card import versions
from wavescale.memory import load_model

UNITS, TOKENS, LENGTH = 768, 8192, 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="what the loss is measured on")
    parser.add_argument("--other", type=Path, required=True, help="another text to calibrate on")
    parser.add_argument("--work", type=Path, default=Path("runs/smollm2"))
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "smollm2_half_ffn.json")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    window = arguments.work / "window.txt"
    window.write_text(read_window(arguments.text), encoding="utf-8")
    source = smollm2(arguments.work / "source")
    model = load_model(source, "LlamaForCausalLM")
    generator = torch.Generator().manual_seed(0)
    other = gzip.decompress(arguments.other.read_bytes()).decode("utf-8")[1_000_000:1_060_000]
    ids = torch.tensor(AutoTokenizer.from_pretrained(source)(other)["input_ids"][:TOKENS])
    inputs = {
        "random tokens": lambda: torch.randint(0, 49152, (TOKENS // LENGTH, LENGTH), generator=generator),
        "another text": lambda: ids.view(-1, LENGTH),
        "its own text": lambda: generated_tokens(model, TOKENS, LENGTH),
    }
    arms: dict[str, object] = {}
    for name, tokens in inputs.items():
        started = time.perf_counter()
        batches = [{"input_ids": batch} for batch in tokens().split(4)]
        found = wavescale.analyse(source, [RefitUnits(UNITS, batches)])
        seconds = time.perf_counter() - started
        out = arguments.work / "half"
        wavescale.resize_checkpoint(source, out, overwrite=True, intermediate_size=UNITS, artifacts=found)
        verified = wavescale.verify(source, out, window)
        assert verified.losses is not None
        arms[name] = {"loss": round(verified.losses[1], 4), "seconds": round(seconds, 1)}
        print(name, arms[name], flush=True)
    result = {"versions": versions(), "units": UNITS, "tokens": TOKENS, "arms": arms}
    arguments.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
