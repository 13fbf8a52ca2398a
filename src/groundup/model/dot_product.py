"""Scaled dot-product attention: the fused kernel, or the plain formula where that is the faster one."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# On CPUs the backward pass of the fused kernel in bfloat16 is slow for short sequences: on 2 Zen 5 cores,
# forward and backward of (batch 8, 3 heads, T 128, head 64) take 4.4 ms fused and 1.3 ms explicit, at
# T 512 62 and 44 ms, at T 1024 80 and 114 ms (benchmarks/attention.py).
_EXPLICIT_UP_TO = 512


class DotProduct(nn.Module):
    """`attend` as a module without parameters, which can be exchanged or given other keys from outside."""

    def __init__(self, *, causal: bool = True, scale: float | None = None):
        super().__init__()
        self.causal, self.scale = causal, scale

    def forward(
        self, query_BHTd: Tensor, key_BKSd: Tensor, value_BKSd: Tensor, mask_TS: Tensor | None = None
    ) -> Tensor:
        """As `attend`."""
        return attend(query_BHTd, key_BKSd, value_BKSd, mask_TS, causal=self.causal, scale=self.scale)


def attend(
    query_BHTd: Tensor,
    key_BKSd: Tensor,
    value_BKSd: Tensor,
    mask_TS: Tensor | None = None,
    *,
    causal: bool = True,
    scale: float | None = None,
) -> Tensor:
    """softmax(scale query key^T) value, (B, H, T, d); H is a multiple of K; the scale is 1 / sqrt(d) by default.

    `mask_TS`, or one (B, 1 or H, T, S), is true where a query may look; or, of floats, it is added to the scores.
    Without a mask every query sees all, unless `causal`: then the queries are those of the last T of S tokens, and
    each looks at its own token and those before.
    """
    length, num_keys = query_BHTd.shape[2], key_BKSd.shape[2]
    trains_on_cpu = (
        query_BHTd.device.type == "cpu" and query_BHTd.dtype == torch.bfloat16 and torch.is_grad_enabled()
    )
    if trains_on_cpu and length <= _EXPLICIT_UP_TO:
        return _explicit(query_BHTd, key_BKSd, value_BKSd, mask_TS, causal=causal, scale=scale)
    is_square = causal and mask_TS is None and length == num_keys
    if causal and mask_TS is None and not is_square:
        # Where every query sees all, as in generation, no mask is the fastest.
        mask_TS = causal_mask(length, num_keys, query_BHTd.device) if length > 1 else None
    return F.scaled_dot_product_attention(
        query_BHTd,
        key_BKSd,
        value_BKSd,
        attn_mask=mask_TS,
        is_causal=is_square,
        scale=scale,
        enable_gqa=key_BKSd.shape[1] != query_BHTd.shape[1],
    )


def causal_mask(length: int, num_keys: int, device: torch.device) -> Tensor:
    """(T, S), true where a query may look when the queries are those of the last T of S tokens."""
    return torch.ones(length, num_keys, dtype=torch.bool, device=device).tril(num_keys - length)


def _explicit(
    query_BHTd: Tensor,
    key_BKSd: Tensor,
    value_BKSd: Tensor,
    mask_TS: Tensor | None = None,
    *,
    causal: bool = True,
    scale: float | None = None,
) -> Tensor:
    """The formula as written, with the group of query heads that share a key head as a dimension of its own."""
    head_width = query_BHTd.shape[3]
    query_BKGTd = query_BHTd.unflatten(1, (key_BKSd.shape[1], -1)) * (head_width**-0.5 if scale is None else scale)
    scores_BKGTS = query_BKGTd @ key_BKSd.unsqueeze(2).transpose(-2, -1)
    if mask_TS is not None or causal:
        scores_BKGTS = scores_BKGTS + _added(scores_BKGTS, mask_TS)
    weights_BKGTS = torch.softmax(scores_BKGTS, dim=-1)
    return (weights_BKGTS @ value_BKSd.unsqueeze(2)).flatten(1, 2)


def _added(scores_BKGTS: Tensor, mask_TS: Tensor | None) -> Tensor:
    """What a mask, or without one causality, adds to the scores; it can be broadcast to them."""
    length, num_keys = scores_BKGTS.shape[-2:]
    if mask_TS is None:
        hidden_TS = torch.full((length, num_keys), float("-inf"), device=scores_BKGTS.device)
        return hidden_TS.triu(num_keys - length + 1).type_as(scores_BKGTS)
    if mask_TS.dtype == torch.bool:
        mask_TS = torch.where(mask_TS, 0.0, float("-inf"))
    of_heads = mask_TS.dim() == 4 and mask_TS.shape[1] > 1
    grouped = mask_TS.unflatten(1, (scores_BKGTS.shape[1], -1)) if of_heads else mask_TS.unsqueeze(-3)
    return grouped.type_as(scores_BKGTS)
