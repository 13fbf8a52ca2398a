"""In which number formats a step computes (Micikevicius et al. 2018, arXiv:1710.03740).

| name           | products    | weights  | gradients | optimizer and its weights |
|----------------|-------------|----------|-----------|---------------------------|
| `fp32`         | float32     | float32  | float32   | float32                   |
| `bf16`         | bfloat16    | float32  | float32   | float32                   |
| `bf16-weights` | bfloat16    | bfloat16 | bfloat16, added up in float32 | float32 |
| `fp16`         | float16, the loss scaled | float32 | float32 | float32          |
"""

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn

from groundup.plan.hardware import Precision

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: str, precision: Precision) -> AbstractContextManager[object]:
    """Where matrix products run in the shorter type; nothing where weights have the wanted type already."""
    if precision not in _AUTOCAST:
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=_AUTOCAST[precision])


def reading_precision(precision: Precision) -> Precision:
    """The precision in which float32 weights are evaluated when they were trained in `precision`."""
    return "bf16" if precision == "bf16-weights" else precision


class WorkingCopy:
    """A bfloat16 copy of a model that computes, while the float32 model is what the optimizer moves.

    Half the memory traffic of the weights, and no casts; steps smaller than a bfloat16 weight can show are kept in
    the float32 ones.
    """

    def __init__(self, master: nn.Module):
        self.master = master
        self.model = copy.deepcopy(master).to(torch.bfloat16)
        self._pairs = list(zip(master.parameters(), self.model.parameters(), strict=True))

    @torch.no_grad()
    def collect_gradients(self) -> None:
        """Add the copy's gradients to the float32 gradients, and clear them."""
        for weight, working in self._pairs:
            if working.grad is None:
                continue
            if weight.grad is None:
                weight.grad = working.grad.float()
            else:
                weight.grad += working.grad
            working.grad = None

    @torch.no_grad()
    def publish_weights(self) -> None:
        """Round the float32 weights into the copy."""
        weights, working = (cast(list[Tensor], list(side)) for side in zip(*self._pairs, strict=True))
        torch._foreach_copy_(working, weights)
