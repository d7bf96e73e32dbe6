"""Reactions as SMILES, put together from textbook transformations and small fragments.

No corpus of reactions comes with `rxnfp`, so they are built here: ten transformations (acylation, esters,
Suzuki coupling, Boc on and off, ...), each over every fragment that fits. The fragments to measure on
and those to calibrate on have none in common.
"""

from __future__ import annotations

import random

# What stands behind an amine's N, an acid's carbonyl or a boronic acid's B: the attached atom comes first.
CHAINS = {
    "measured": ("CCC", "CC(C)C", "C1CCCCC1", "Cc1ccccc1", "CCc1ccc(F)cc1", "CCO", "CCOC", "Cc1ccncc1"),
    "calibration": ("CCCC", "C(C)C", "C1CCCC1", "Cc1ccc(Cl)cc1", "CCc1ccccc1", "CCCO", "CCN(C)C", "Cc1ccco1"),
}
ARYLS = {
    "measured": ("c1ccccc1", "c1ccc(F)cc1", "c1ccc(OC)cc1", "c1ccncc1", "c1cccc(Cl)c1", "c1ccc(C(F)(F)F)cc1"),
    "calibration": ("c1ccc(C)cc1", "c1ccc(Cl)cc1", "c1cccc(OC)c1", "c1cccnc1", "c1ccc(C#N)cc1", "c1ccccc1F"),
}
# What stands in front of a para-substituted ring.
GROUPS = {
    "measured": ("C", "CO", "F", "N#C", "CC(=O)", "CCOC(=O)"),
    "calibration": ("CC", "CCO", "Cl", "FC(F)(F)", "COC(=O)", "CC(C)"),
}
BOC = "CC(C)(C)OC(=O)"


def reactions(part: str, count: int, seed: int) -> list[str]:
    """Distinct reactions in an order drawn with the seed.

    Parameters
    ----------
    part
        `measured` or `calibration`.
    count
        How many; fewer come back if there are no more.
    seed
        Of the order.
    """
    found = _all(CHAINS[part], ARYLS[part], GROUPS[part])
    random.Random(seed).shuffle(found)
    return found[:count]


def _all(chains: tuple[str, ...], aryls: tuple[str, ...], groups: tuple[str, ...]) -> list[str]:
    found = []
    for chain in chains:
        found.append(f"{BOC}OC(=O)OC(C)(C)C.N{chain}>>{BOC}N{chain}")
        found.append(f"{BOC}N{chain}.O=C(O)C(F)(F)F>>N{chain}")
        for aryl in aryls:
            found.append(f"CCN(CC)CC.ClCCl.N{chain}.O=C(Cl){aryl}>>O=C(N{chain}){aryl}")
            found.append(f"CCN(CC)CC.ClCCl.N{chain}.O=S(=O)(Cl){aryl}>>O=S(=O)(N{chain}){aryl}")
            found.append(f"ClCCl.N{chain}.O=C=N{aryl}>>O=C(N{chain})N{aryl}")
            found.append(f"O{chain}.O=C(O){aryl}.O=S(=O)(O)O>>O=C(O{chain}){aryl}")
        for group in groups:
            inner = chain.replace("1", "2")
            found.append(f"Br{chain}.O=C([O-])[O-].[K+].[K+].{group}c1ccc(O)cc1>>{group}c1ccc(O{inner})cc1")
    for aryl in aryls:
        found.append(f"CC(=O){aryl}.CO.[BH4-].[Na+]>>CC(O){aryl}")
        found.append(f"COC(=O){aryl}.[Na+].[OH-]>>O=C(O){aryl}")
        for group in groups:
            inner = aryl.replace("1", "2")
            found.append(f"O=C([O-])[O-].OB(O){aryl}.[Na+].[Na+].{group}c1ccc(Br)cc1>>{group}c1ccc(-{inner})cc1")
    for group in groups:
        found.append(f"CO.[H][H].{group}c1ccc([N+](=O)[O-])cc1>>{group}c1ccc(N)cc1")
    return found
