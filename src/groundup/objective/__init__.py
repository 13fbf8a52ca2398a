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
from groundup.objective.bidirectional import bidirectional
from groundup.objective.causal import CAUSAL, causal
from groundup.objective.denoising import denoising
from groundup.objective.labels import labels
from groundup.objective.masked import masked
from groundup.objective.permuted import permuted
from groundup.objective.positions import positions
from groundup.objective.translation import translation
from groundup.objective.turns import supervised

OBJECTIVES: dict[str, Callable[[Setting], Objective]] = {
    "causal": causal,
    "bidirectional": bidirectional,
    "labels": labels,
    "masked": masked,
    "positions": positions,
    "permuted": permuted,
    "translation": translation,
    "denoising": denoising,
    "supervised": supervised,
}

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
