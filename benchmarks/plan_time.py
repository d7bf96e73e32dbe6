"""How long `wavescale --help` and `wavescale plan` take as whole processes, beside an empty Python.

    python benchmarks/plan_time.py

Prints medians of nine runs in turn, so that a machine that drifts slows all of them alike.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 9
LLAMA_70B = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "dtype": "bfloat16",
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        config.write_text(json.dumps(LLAMA_70B), encoding="utf-8")
        wavescale = [sys.executable, "-m", "wavescale"]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "wavescale --help": [*wavescale, "--help"],
            "plan 70B, width x 2, depth x 1.5": [
                *wavescale, "plan", str(config), "--scale-width", "2", "--layers", "120",
            ],
            "plan 70B, paper, coif3, x 2": [
                *wavescale, "plan", str(config), "--preset", "paper", "--wavelet", "coif3", "--scale-width", "2",
                "--scale-depth", "2",
            ],
        }  # fmt: skip
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(RUNS):
            for name, command in commands.items():
                started = time.perf_counter()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                seconds[name].append(time.perf_counter() - started)
        for name, found in seconds.items():
            print(f"{name:<34} median {statistics.median(found):.3f} s  (min {min(found):.3f}, max {max(found):.3f})")


if __name__ == "__main__":
    main()
