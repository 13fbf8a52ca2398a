"""What a model is asked to learn: an objective is a pair of functions, `collate` and `loss`.

To add one, write a module beside `causal.py` and add its line to `OBJECTIVES`; a family names the objective
that trains it in `groundup.shape.FAMILIES`.
"""

from collections.abc import Callable

from groundup.objective.base import (
    IGNORED,
    Batch,
    Loss,
    Objective,
    Setting,
    TensorBatch,
    judged,
    number_documents,
    row_generators,
    tokens_of,
)
from groundup.objective.causal import CAUSAL, causal

OBJECTIVES: dict[str, Callable[[Setting], Objective]] = {"causal": causal}

__all__ = [
    "CAUSAL",
    "IGNORED",
    "OBJECTIVES",
    "Batch",
    "Loss",
    "Objective",
    "Setting",
    "TensorBatch",
    "causal",
    "judged",
    "number_documents",
    "row_generators",
    "tokens_of",
]
