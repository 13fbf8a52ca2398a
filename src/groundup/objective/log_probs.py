"""Log-probabilities of given tokens without their logits in memory at once.

Preferences and policies are learnt from how likely a model holds each token of an answer. As for the chunked
cross-entropy a few hundred tokens at a time are taken through the unembedding; but what the gradient of each
log-probability is multiplied with is known only in the backward pass, so that a chunk's logits are computed there
once more (Chen et al. 2016, arXiv:1604.06174) from what is kept: one number a token.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from groundup.model.linear import product
from groundup.objective.base import IGNORED, Batch, Unembeds
from groundup.objective.cross_entropy import ROW_STEP, in_steps
from groundup.objective.vocabulary import VocabularyPart

# Logits of a chunk, as for the cross-entropy.
_CHUNK_BYTES = 4 << 20
_LEAST_ROWS = 256


def token_log_probs(model: nn.Module, batch: Batch, temperature: float = 1.0) -> Tensor:
    """The log-probability of each target (B, T), in nats, float32; 0 where a target is `IGNORED`.

    The model is `Unembeds`. `temperature` divides the logits: what was sampled at it has these probabilities.
    """
    assert isinstance(model, Unembeds), "log-probabilities are taken from features, in chunks"
    features_BTD = model.features(batch.inputs_BT, documents_BT=batch.documents_BT)
    return log_probs_of(features_BTD, model.unembedding_weight, batch.targets_BT, temperature)


def log_probs_of(features_BTD: Tensor, weight_VD: Tensor, targets_BT: Tensor, temperature: float = 1.0) -> Tensor:
    """The same from features (B, T, D) and the unembedding's matrix (V, D).

    Products are taken in autocast's dtype where that is on, everything else in float32. Only positions with a
    target go through the unembedding. A matrix that is a DTensor, divided over devices by rows, stays so.
    """
    return _computed(features_BTD, weight_VD, targets_BT, temperature, with_entropy=False)[0]


def log_probs_and_entropy(
    features_BTD: Tensor, weight_VD: Tensor, targets_BT: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Beside them the entropy of each of those positions (B, T), in nats, without a gradient; 0 elsewhere."""
    return _computed(features_BTD, weight_VD, targets_BT, temperature, with_entropy=True)


def _computed(
    features_BTD: Tensor, weight_VD: Tensor, targets_BT: Tensor, temperature: float, *, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    device = features_BTD.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features_BTD.dtype
    counted_BT = targets_BT != IGNORED
    weight, part = VocabularyPart.of(weight_VD)
    found: tuple[Tensor, Tensor] = _LogProbs.apply(
        features_BTD[counted_BT], weight, part, targets_BT[counted_BT], temperature, dtype, with_entropy
    )
    blank_BT = found[0].new_zeros(targets_BT.shape)
    log_probs_BT, entropies_BT = (blank_BT.masked_scatter(counted_BT, values_N) for values_N in found)
    return log_probs_BT, entropies_BT


class _Chunk(NamedTuple):
    """Some of the tokens: their places, features in the products' dtype, logits in float32, and targets.

    A target is a place among the logits that are here; `are_here_C1` says whether it is one of them. Products are
    taken of whole steps of so many tokens.
    """

    places: slice
    x_CD: Tensor
    logits_CV: Tensor
    targets_C1: Tensor
    are_here_C1: Tensor
    step: int


class _LogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        weight_VD: Tensor,
        vocabulary: VocabularyPart | None,
        targets_N: Tensor,
        temperature: float,
        dtype: torch.dtype,
        with_entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.settings = vocabulary, temperature, dtype
        log_probs_N = x_ND.new_empty(len(targets_N), dtype=torch.promote_types(x_ND.dtype, torch.float32))
        normalisers_N, entropies_N = torch.empty_like(log_probs_N), torch.zeros_like(log_probs_N)
        for chunk in _chunks(x_ND, weight_VD, targets_N, *ctx.settings):
            logits_CV, places = chunk.logits_CV, chunk.places
            normalisers_C = logits_CV.logsumexp(1) if vocabulary is None else vocabulary.logsumexp(logits_CV)
            of_targets_C = (logits_CV.gather(1, chunk.targets_C1) * chunk.are_here_C1).squeeze(1)
            log_probs_N[places] = _whole(of_targets_C, vocabulary) - normalisers_C
            normalisers_N[places] = normalisers_C
            if with_entropy:
                # Minus the expectation of log p = logit - normaliser under p.
                expected_C = ((logits_CV - normalisers_C[:, None]).exp_() * logits_CV).sum(1)
                entropies_N[places] = normalisers_C - _whole(expected_C, vocabulary)
        ctx.save_for_backward(x_ND, weight_VD, targets_N, normalisers_N)
        ctx.mark_non_differentiable(entropies_N)
        return log_probs_N, entropies_N

    @staticmethod
    def backward(ctx: Any, grad_N: Tensor, _grad_entropies: Tensor | None) -> tuple[Tensor | None, ...]:
        x_ND, weight_VD, targets_N, normalisers_N = ctx.saved_tensors
        _, temperature, dtype = ctx.settings
        grad_x = torch.empty_like(x_ND) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight_VD) if ctx.needs_input_grad[1] else None
        weight = weight_VD.to(dtype)
        for chunk in _chunks(x_ND, weight_VD, targets_N, *ctx.settings):
            # d log p of the target / d logits = one-hot - softmax.
            grad_CV = (chunk.logits_CV - normalisers_N[chunk.places, None]).exp_().neg_()
            grad_CV.scatter_add_(1, chunk.targets_C1, chunk.are_here_C1.to(grad_CV.dtype))
            grad_CV = grad_CV.mul_(grad_N[chunk.places, None] / temperature).to(dtype)
            grad_CV, length = in_steps(grad_CV, chunk.step), len(chunk.x_CD)
            with torch.autocast(x_ND.device.type, enabled=False):
                if grad_x is not None:
                    grad_x[chunk.places] = product(grad_CV, weight.T)[:length]
                if grad_weight is not None:
                    grad_weight += product(grad_CV.T, in_steps(chunk.x_CD, chunk.step).T)
        return grad_x, grad_weight, None, None, None, None, None


def _whole(part_C: Tensor, vocabulary: VocabularyPart | None) -> Tensor:
    """The sum over the parts of a vocabulary."""
    return part_C if vocabulary is None else vocabulary.whole(part_C)


def _chunks(
    x_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    vocabulary: VocabularyPart | None,
    temperature: float,
    dtype: torch.dtype,
) -> Iterator[_Chunk]:
    """All tokens, as many at a time as make logits of some megabytes."""
    weight = weight_VD.to(dtype)
    rows = max(_LEAST_ROWS, _CHUNK_BYTES // (len(weight) * dtype.itemsize))
    step = min(ROW_STEP, rows)
    for first in range(0, len(targets_N), rows):
        places = slice(first, first + rows)
        x_CD, targets_C1 = x_ND[places].to(dtype), targets_N[places, None]
        with torch.autocast(x_ND.device.type, enabled=False):
            logits_CV = product(in_steps(x_CD, step), weight)[: len(x_CD)]
        are_here_C1 = torch.ones_like(targets_C1, dtype=torch.bool)
        if vocabulary is not None:
            targets_C1, are_here_C1 = vocabulary.place(targets_C1, len(weight))
        logits_CV = logits_CV.to(torch.promote_types(dtype, torch.float32)).div_(temperature)
        yield _Chunk(places, x_CD, logits_CV, targets_C1, are_here_C1, step)
