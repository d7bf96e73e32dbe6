"""Resize one checkpoint in a process of its own and print how long the call took, without Python's start.

    python benchmarks/streaming/timed_resize.py SOURCE OUT '{"scale_width": 2}'

Under `torchrun` the processes do it together.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch  # noqa: F401  (what is imported here is not timed)
from timing import cleared, timed
from transformers import LlamaConfig  # noqa: F401  (brings much of transformers with it)

from wavescale.on_disk import resize_checkpoint
from wavescale.ranks import launched


def main() -> None:
    source, out, options = sys.argv[1:]
    with launched() as ranks:
        ranks.once(lambda: cleared(Path(out)))
        timed(lambda: resize_checkpoint(source, out, ranks=ranks, **json.loads(options)), told=ranks.first)


if __name__ == "__main__":
    main()
