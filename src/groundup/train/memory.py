"""The memory of a training step over time: which bytes are live after every operator, and what they are for.

PyTorch tells of every tensor that is made (a dispatch mode sees each operator's results), and a weak reference tells
when a tensor's storage is gone, so the sums are exact: on any device, without a profiler. Not counted is what no
tensor holds: scratch memory inside kernels, the allocator's slack, the process itself.
"""

import weakref
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from groundup.model.registry import build
from groundup.objective import OBJECTIVES, Batch, Loss, Objective
from groundup.plan.hardware import Precision
from groundup.recipe import TrainRecipe
from groundup.shape import Shape, family
from groundup.train.step import TrainStep

Phase = Literal["forward", "backward", "optimizer"]
Category = Literal["weights", "gradients", "optimizer", "activations", "other"]
