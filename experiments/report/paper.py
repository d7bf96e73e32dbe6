"""What the paper reports of BoT (arXiv 2603.07506), in per cent: data to stand beside ours."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reported:
    """What the paper says of a model and a direction.

    Attributes
    ----------
    saving
        r of BoT.
    lead
        By how many points that is more than the best baseline's; None where no number is given.
    wavelet
        The best of the paper's ablation; None where it has none.
    """

    saving: float
    lead: float | None
    wavelet: str | None


REPORTED = {
    "bert-s2l": Reported(67.1, 22.2, "bior6.8"),
    "bert-l2s": Reported(52.8, 19.8, "haar"),
    "gpt-s2l": Reported(58.3, 10.4, "db2"),
    "gpt-l2s": Reported(31.0, 24.1, "coif3"),
    "deit-s2l": Reported(22.0, 5.3, None),
    "deit-l2s": Reported(39.0, None, None),
}
