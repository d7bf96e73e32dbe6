"""SmolLM2-135M with half the FFN units, and with 6 of 9 heads: which units, and in which order.

    python experiments/smollm2_shrink.py --text moby_dick.txt.gz

Loss in nats on characters 200,000 to 260,000 of the text, first 4,096 tokens as 8 × 512, right after
shrinking. A row that is in the result already is not repeated.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from checkpoints import smollm2
from smollm2_growth import read_window

import wavescale
from wavescale.card import versions

SIZES = {
    "half FFN": {"intermediate_size": 768},
    "heads 6/2": {"num_attention_heads": 6, "num_key_value_heads": 2},
}
WIDTHS = {
    "norm": {"width": "norm"},
    "select": {"width": "select"},
    "signal": {},
    "order": {"order": "similarity"},
    "merge": {"width": "merge"},
    "matching": {"order": "matching"},
}
GAINS = ("orthonormal", "role", "variance")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--source", type=Path, default=Path("runs/smollm2/source"))
    parser.add_argument("--work", type=Path, default=Path("runs/smollm2"))
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no row after this time")
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--widths", nargs="*", default=list(WIDTHS), choices=list(WIDTHS))
    parser.add_argument("--gains", nargs="*", default=GAINS, choices=GAINS)
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "smollm2_shrink.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    window = arguments.work / "window.txt"
    window.write_text(read_window(arguments.text), encoding="utf-8")
    source = smollm2(arguments.source)
    done = json.loads(arguments.result.read_text()) if arguments.result.is_file() else {"rows": []}
    begun = time.monotonic()
    for sizes in arguments.sizes:
        for width in arguments.widths:
            for gain in arguments.gains:
                if time.monotonic() - begun > 60 * arguments.minutes:
                    return
                if any((row["sizes"], row["width"], row["gain"]) == (sizes, width, gain) for row in done["rows"]):
                    continue
                started = time.perf_counter()
                out = arguments.work / "shrunk"
                wavescale.resize_checkpoint(source, out, overwrite=True, gain=gain, **SIZES[sizes], **WIDTHS[width])
                seconds = time.perf_counter() - started
                found = wavescale.verify(source, out, window)
                assert found.losses is not None
                row = {"sizes": sizes, "width": width, "gain": gain, "loss": round(found.losses[1], 4),
                       "loss_source": round(found.losses[0], 4), "seconds": round(seconds, 1)}  # fmt: skip
                print(row, flush=True)
                done["rows"].append(row)
                done["versions"] = versions()
                arguments.result.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
