"""SmolLM2-135M twice as wide: the loss of the default, and of BoT as published, beside the source's.

    python experiments/smollm2_growth.py --text moby_dick.txt.gz

The text is the pinned window: characters 200,000 to 260,000, first 4,096 tokens as 8 × 512.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from checkpoints import smollm2

import wavescale
from wavescale.card import versions
from wavescale.inputs import read_text

FIRST, LAST = 200_000, 260_000
ARMS = {
    "default": {"scale_width": 2},
    "paper": {"scale_width": 2, "preset": "paper"},
}


def read_window(path: Path) -> str:
    return read_text(path)[FIRST:LAST]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/smollm2"))
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "smollm2_growth.json")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    window = arguments.work / "window.txt"
    window.write_text(read_window(arguments.text), encoding="utf-8")
    source = smollm2(arguments.work / "source")
    result: dict[str, object] = {"versions": versions(), "window": [FIRST, LAST], "arms": {}}
    arms: dict[str, object] = {}
    for name, options in ARMS.items():
        out = arguments.work / name
        started = time.perf_counter()
        plan = wavescale.resize_checkpoint(source, out, overwrite=True, **options)
        seconds = time.perf_counter() - started
        found = wavescale.verify(source, out, window)
        assert found.losses is not None
        arms[name] = {
            "options": options,
            "parameters": plan.parameters,
            "loss_source": round(found.losses[0], 4),
            "loss": round(found.losses[1], 4),
            "tokens": found.tokens,
            "output_difference": found.output_difference,
            "seconds": round(seconds, 1),
        }
        print(name, arms[name], flush=True)
    result["arms"] = arms
    arguments.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
