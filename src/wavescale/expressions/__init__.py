"""What a target tensor is made of: a small tree of a few kinds of node.

An expression is a value: it names source tensors and operators and holds no weights. `block` computes
some rows of it, given a way to read the source, so that no tensor need be in memory as a whole.

Shapes are those of the stored tensors. `axis` counts from the first stored axis; an axis made of
several named ones is seen as (before, n, after) and the operator acts in the middle.
"""

from __future__ import annotations

from wavescale.expressions.arithmetic import Constant, FoldDiagonal, FoldVector, Scale, Sum, scaled
from wavescale.expressions.folding import folded
from wavescale.expressions.maps import Apply, Merge, Select
from wavescale.expressions.node import Expression, Shape, Source
from wavescale.expressions.noise import Fresh
from wavescale.expressions.pieces import Concatenate, Part, Read
from wavescale.expressions.shares import UnequalShares
from wavescale.expressions.statistics import Restore, Standardize

__all__ = [
    "NODES",
    "Apply",
    "Concatenate",
    "Constant",
    "Expression",
    "FoldDiagonal",
    "FoldVector",
    "Fresh",
    "Merge",
    "Part",
    "Read",
    "Restore",
    "Scale",
    "Select",
    "Shape",
    "Source",
    "Standardize",
    "Sum",
    "UnequalShares",
    "folded",
    "scaled",
]

# Every kind of node that a plan may have, by name, for those that are read back from a file.
NODES: dict[str, type[Expression]] = {
    node.__name__: node
    for node in (
        Read, Part, Concatenate, Apply, Select, Merge, Scale, FoldDiagonal, FoldVector, Sum, Constant,
        Standardize, Restore, UnequalShares, Fresh,
    )
}  # fmt: skip
