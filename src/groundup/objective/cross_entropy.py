"""Cross-entropy through the unembedding, without ever holding the logits.

Logits are by far the largest tensor of a small model with a large vocabulary: V numbers a token, several times
over (in bfloat16 and float32, with their gradient). Here a few hundred tokens at a time are taken through the
unembedding, their loss, and back at once (as in Liger Kernel, Hsu et al. 2024, arXiv:2410.10989): what is kept
for the backward pass are the gradients themselves, D numbers a token and the matrix's own.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from groundup.model.linear import product
from groundup.objective.vocabulary import VocabularyPart

# Logits of a chunk: larger ones leave the processor's caches. With fewer rows than that, what each chunk adds to
# the matrix's gradient costs more than its products (measured: benchmarks/LOG.md).
_CHUNK_BYTES = 4 << 20
_LEAST_ROWS = 256
ROW_STEP = 256


def chunked_cross_entropy(
    x_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    label_smoothing: float = 0.0,
    *,
    sizes_vary: bool = False,
) -> Tensor:
    """The mean cross-entropy of targets (N,) int64 under the logits `x_ND @ weight_VD.T`, in nats; float32.

    With `label_smoothing` that share of each target is spread evenly over the vocabulary (Szegedy et al. 2016,
    arXiv:1512.00567).

    Products are taken in autocast's dtype where that is on. The softmax is computed in float32 and rounded to
    that dtype, as the gradient must be for the next product anyway; the loss is read off the rounded
    probabilities, which in bfloat16 leaves an error of about 1e-3 a target, and sqrt(N) times less in the mean.
    A matrix that is a DTensor, divided over devices by rows, stays so. Where `sizes_vary`, N is another one every
    time (see `in_steps`).
    """
    device = x_ND.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x_ND.dtype
    whole = *VocabularyPart.of(weight_VD), weight_VD.shape[0]
    loss: Tensor = _ChunkedCrossEntropy.apply(x_ND, *whole, targets_N, label_smoothing, dtype, sizes_vary)
    return loss


def in_steps(x_ND: Tensor, step: int = ROW_STEP) -> Tensor:
    """The same rows, and behind them so many of zeros that their number is a multiple of `step`.

    On CPUs every size that a product has not had yet costs its library memory that it keeps (oneDNN's primitives);
    of answers there is another number of tokens in every batch.
    """
    missing = -len(x_ND) % step
    return F.pad(x_ND, (0, 0, 0, missing)) if missing else x_ND


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        weight_VD: Tensor,
        vocabulary: VocabularyPart | None,
        vocabulary_size: int,
        targets_N: Tensor,
        smoothing: float,
        dtype: torch.dtype,
        sizes_vary: bool,
    ) -> Tensor:
        needs_x, needs_weight = ctx.needs_input_grad[:2]
        num_targets, row_bytes = len(targets_N), weight_VD.shape[0] * dtype.itemsize
        rows = max(_LEAST_ROWS, _CHUNK_BYTES // row_bytes)
        step = min(ROW_STEP, rows) if sizes_vary else 1
        weight = weight_VD.to(dtype)
        grad_x = torch.empty_like(x_ND) if needs_x else None
        grad_weight = torch.zeros_like(weight_VD) if needs_weight else None
        total = x_ND.new_zeros((), dtype=torch.promote_types(x_ND.dtype, torch.float32))
        with torch.autocast(x_ND.device.type, enabled=False):
            for first in range(0, num_targets, rows):
                part = slice(first, first + rows)
                x, targets = in_steps(x_ND[part].to(dtype), step), targets_N[part, None]
                logits = product(x, weight)[: len(targets)]
                ones = logits.new_ones(1, 1).expand_as(targets)
                if vocabulary is None:
                    probabilities = logits.softmax(1)
                    likelihoods = probabilities.gather(1, targets)
                else:
                    probabilities = vocabulary.softmax(logits)
                    targets, ones = vocabulary.place(targets, len(weight))
                    likelihoods = vocabulary.whole(probabilities.gather(1, targets) * ones)
                if smoothing:
                    # A spread target has the loss of the true one, and what that one's logit is above the mean.
                    above = (logits.gather(1, targets) * ones).to(total.dtype).sum()
                    above -= logits.sum(dtype=total.dtype) / vocabulary_size
                    total += smoothing * (above if vocabulary is None else vocabulary.whole(above))
                del logits
                total -= likelihoods.clamp_min_(torch.finfo(dtype).tiny).to(total.dtype).log_().sum()
                if not (needs_x or needs_weight):
                    continue
                # d sum of losses / d logits = softmax - (smoothed) one-hot, in the same memory.
                grad = probabilities.scatter_add_(1, targets, (smoothing - 1) * ones.to(dtype))
                if smoothing:
                    grad -= smoothing / vocabulary_size
                grad = in_steps(grad, step)
                if grad_x is not None:
                    grad_x[part] = product(grad, weight.T)[: len(targets)]
                if grad_weight is not None:
                    grad_weight += product(grad.T, x.T)
                del probabilities, grad  # or they are there beside the next chunk's
        ctx.num_targets = num_targets
        ctx.save_for_backward(grad_x, grad_weight)
        return total / num_targets

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_weight = ctx.saved_tensors
        scale = grad_output / ctx.num_targets
        scaled = (None if grad is None else grad * scale for grad in (grad_x, grad_weight))
        return (*scaled, None, None, None, None, None, None)
