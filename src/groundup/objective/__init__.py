"""What a model is asked to learn: an objective is a pair of functions, `collate` and `loss`.

To add one, write a module beside `causal.py` and add its line to `OBJECTIVES`; a family names the objective
that trains it in `groundup.shape.FAMILIES`.
"""

from groundup.objective.base import Batch, Loss, Objective, number_documents
from groundup.objective.causal import CAUSAL

OBJECTIVES: dict[str, Objective] = {"causal": CAUSAL}

__all__ = ["OBJECTIVES", "Batch", "Loss", "Objective", "number_documents"]
