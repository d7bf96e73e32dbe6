"""Stack a Llama's layers twice with mergekit's passthrough, and print how long it took without Python's start.

pip install --no-deps mergekit==0.1.5 immutables peft
python benchmarks/streaming/stacked_by_mergekit.py SOURCE OUT LAYERS
"""

from __future__ import annotations

import sys
from pathlib import Path

import transformers  # noqa: F401
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from synthetic import SHARD_BYTES
from timing import cleared, timed


def main() -> None:
    source, out, layers = sys.argv[1], sys.argv[2], int(sys.argv[3])
    slices = [{"sources": [{"model": source, "layer_range": [0, layers]}]} for _ in range(2)]
    asked = MergeConfiguration(slices=slices, merge_method="passthrough", dtype="bfloat16")
    cleared(Path(out))
    options = MergeOptions(copy_tokenizer=False, lazy_unpickle=True, quiet=True, out_shard_size=SHARD_BYTES)
    timed(lambda: run_merge(asked, out, options))


if __name__ == "__main__":
    main()
