from __future__ import annotations

import os

# Two workers share two cores, and no test may ask a hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from hypothesis import settings

torch.set_num_threads(1)
# Shared machines are slow at times: a deadline would fail for no reason.
settings.register_profile("wavescale", deadline=None, max_examples=60)
settings.register_profile("long", settings.get_profile("wavescale"), max_examples=2000)
settings.load_profile("wavescale")
