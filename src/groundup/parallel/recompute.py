"""Recomputation: keep less of the forward pass, and compute it again when the backward pass asks for it.

| kept of a block | none             | selective                                             | full      |
|-----------------|------------------|-------------------------------------------------------|-----------|
| its input       | yes              | yes                                                   | yes       |
| linear maps     | yes              | their results, but of the last                        | no        |
| attention       | yes              | a fused kernel's result; scores and softmax never     | no        |
| all else        | yes              | no                                                    | no        |

Full recomputation is Chen et al. 2016 (arXiv:1604.06174), a segment a block; selective is Korthikanti et al. 2022
(arXiv:2205.05198): what is large and cheap goes, what is dear to compute stays.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from groundup.model.experts import StackedLinear

Recompute = Literal["none", "selective", "full"]

# By name, since not every build of PyTorch has each of them.
_LINEAR_MAPS = {
    "aten.mm.default",
    "aten.addmm.default",
    "mkldnn._linear_pointwise.default",
    "aten._grouped_mm.default",
}
# These never hold the scores, so that keeping what they give costs no more than a linear map's result.
_FUSED_ATTENTION = {
    f"aten._scaled_dot_product_{kernel}_attention{device}.default"
    for kernel, device in (("flash", "_for_cpu"), ("flash", ""), ("efficient", ""), ("cudnn", ""))
}


def recompute(model: nn.Module, what: Recompute) -> nn.Module:
    """Make the blocks of `model` (its list `blocks`) recompute when they train, in place, and return it.

    Losses and gradients are those of a model that recomputes nothing. Parameters keep their names. To be called
    once, before compilation and after copies of the model are made.
    """
    for block in getattr(model, "blocks", ()) if what != "none" else ():
        contexts = {} if what == "full" else {"context_fn": partial(_selective_contexts, _num_linear_maps(block))}
        block.forward = partial(_recomputed, block, block.forward, contexts)
    return model


def _recomputed(
    block: nn.Module, forward: Callable[..., Tensor], contexts: dict[str, Any], *inputs: Any
) -> Tensor:
    """`forward` of the inputs; where a backward pass will follow, with a part of it left to be computed again."""
    if not (block.training and torch.is_grad_enabled()):
        return forward(*inputs)
    result: Tensor = checkpoint(forward, *inputs, use_reentrant=False, **contexts)
    return result


def _num_linear_maps(block: nn.Module) -> float:
    """Infinitely many with experts: the router's gradient asks for the result of the last one too."""
    if any(isinstance(module, StackedLinear) for module in block.modules()):
        return math.inf
    return sum(isinstance(module, nn.Linear) for module in block.modules())


def _selective_contexts(num_linear_maps: float) -> Any:
    """The contexts of one pass through a block: in which to compute, and in which to compute again."""
    return create_selective_checkpoint_contexts(_Policy(num_linear_maps))


class _Policy:
    """What to keep of the operators of one pass, asked in their order.

    The last linear map's result only enters the residual sum that is the block's output: no gradient asks for it.
    """

    def __init__(self, num_linear_maps: float):
        self._left = num_linear_maps

    def __call__(self, _context: Any, operator: Any, *_inputs: Any, **_options: Any) -> CheckpointPolicy:
        name = str(operator)
        if name in _LINEAR_MAPS:
            self._left -= 1
            if self._left:
                return CheckpointPolicy.MUST_SAVE
        return CheckpointPolicy.MUST_SAVE if name in _FUSED_ATTENTION else CheckpointPolicy.PREFER_RECOMPUTE
