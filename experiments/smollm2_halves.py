"""SmolLM2-135M with half the FFN units, and with two thirds of its heads: what calibration is worth.

python experiments/smollm2_halves.py --text moby_dick.txt.gz --other brown.txt.gz
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path
from typing import Any

from checkpoints import smollm2
from smollm2_growth import read_window

import wavescale
from wavescale.card import versions

SIZES: dict[str, dict[str, int]] = {
    "half the FFN": {"intermediate_size": 768},
    "6 of 9 heads": {"num_attention_heads": 6, "num_key_value_heads": 2},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="what the loss is measured on")
    parser.add_argument("--other", type=Path, required=True, help="another text to calibrate on")
    parser.add_argument("--work", type=Path, default=Path("runs/smollm2"))
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "smollm2_halves.json")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    window, other = arguments.work / "window.txt", arguments.work / "other.txt"
    window.write_text(read_window(arguments.text), encoding="utf-8")
    other.write_bytes(gzip.decompress(arguments.other.read_bytes()))
    source = smollm2(arguments.work / "source")
    arms: dict[str, dict[str, Any]] = {
        "another text": {"calibrate": other},
        "its own text": {"calibrate": "generated"},
        "random tokens": {"calibrate": "random"},
        "weight selection": {"preset": "weight-selection"},
        "preset paper": {"preset": "paper"},
    }
    found: dict[str, dict[str, Any]] = {}
    if arguments.result.is_file():
        found = json.loads(arguments.result.read_text(encoding="utf-8"))["arms"]
    for size, sizes in SIZES.items():
        for name, options in arms.items():
            arm = f"{size}, {name}"
            if arm in found:
                continue
            started = time.perf_counter()
            out = arguments.work / "out"
            wavescale.resize_checkpoint(source, out, overwrite=True, **sizes, **options)
            seconds = time.perf_counter() - started
            verified = wavescale.verify(source, out, window)
            assert verified.losses is not None
            found[arm] = {"loss": round(verified.losses[1], 4), "seconds": round(seconds, 1)}
            print(arm, found[arm], flush=True)
            result = {"versions": versions(), "source": round(verified.losses[0], 4), "arms": found}
            arguments.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
