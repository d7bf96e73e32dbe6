"""Reactions as SMILES, put together from textbook transformations and small fragments.

    pip install rdkit && python -m quality.reactions

No corpus of reactions comes with `rxnfp`, so they are built here: eleven transformations (acylation,
esters, Suzuki coupling, Boc on and off, ...), each over every fragment that fits, written as the model
was trained on them: canonical, the precursors sorted. The fragments to measure on and those to
calibrate on have none in common. The files in `reactions/` are what this prints with a seed of 0.
"""

from __future__ import annotations

import random

from quality.rows import HERE

COUNT, SEED = 256, 0

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


def main() -> None:
    from rdkit import Chem

    def canonical(molecules: str) -> str:
        return ".".join(sorted(Chem.MolToSmiles(Chem.MolFromSmiles(each)) for each in molecules.split(".")))

    products: set[str] = set()
    for part in CHAINS:
        found = sorted(set(_all(CHAINS[part], ARYLS[part], GROUPS[part])))
        random.Random(SEED).shuffle(found)
        lines = [">>".join(canonical(side) for side in reaction.split(">>")) for reaction in found]
        # Two ways to the same product would let a calibrated model see what it is measured on.
        lines = [line for line in lines if line.split(">>")[1] not in products][:COUNT]
        products |= {line.split(">>")[1] for line in lines}
        path = HERE / "reactions" / f"{part}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


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


if __name__ == "__main__":
    main()
