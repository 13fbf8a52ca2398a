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

    def forward(
        self, query_BHTd: Tensor, key_BKSd: Tensor, value_BKSd: Tensor, mask_TS: Tensor | None = None
    ) -> Tensor:
        """As `attend`."""
        return attend(query_BHTd, key_BKSd, value_BKSd, mask_TS)


def attend(query_BHTd: Tensor, key_BKSd: Tensor, value_BKSd: Tensor, mask_TS: Tensor | None = None) -> Tensor:
    """softmax(query key^T / sqrt(d)) value, (B, H, T, d); H is a multiple of K.

    `mask_TS`, or one (B, 1, T, S), is true where a query may look; None means causal: the queries are those of the
    last T of S tokens, and each looks at its own token and those before.
    """
    length, num_keys = query_BHTd.shape[2], key_BKSd.shape[2]
    trains_on_cpu = (
        query_BHTd.device.type == "cpu" and query_BHTd.dtype == torch.bfloat16 and torch.is_grad_enabled()
    )
    if trains_on_cpu and length <= _EXPLICIT_UP_TO:
        return _explicit(query_BHTd, key_BKSd, value_BKSd, mask_TS)
    is_square = mask_TS is None and length == num_keys
    if mask_TS is None and not is_square:
        # Where every query sees all, as in generation, no mask is the fastest.
        mask_TS = causal_mask(length, num_keys, query_BHTd.device) if length > 1 else None
    return F.scaled_dot_product_attention(
        query_BHTd,
        key_BKSd,
        value_BKSd,
        attn_mask=mask_TS,
        is_causal=is_square,
        enable_gqa=key_BKSd.shape[1] != query_BHTd.shape[1],
    )


def causal_mask(length: int, num_keys: int, device: torch.device) -> Tensor:
    """(T, S), true where a query may look when the queries are those of the last T of S tokens."""
    return torch.ones(length, num_keys, dtype=torch.bool, device=device).tril(num_keys - length)


def _explicit(query_BHTd: Tensor, key_BKSd: Tensor, value_BKSd: Tensor, mask_TS: Tensor | None = None) -> Tensor:
    """The formula as written, with the group of query heads that share a key head as a dimension of its own."""
    length, head_width = query_BHTd.shape[2:]
    num_keys = key_BKSd.shape[2]
    query_BKGTd = query_BHTd.unflatten(1, (key_BKSd.shape[1], -1)) * head_width**-0.5
    scores_BKGTS = query_BKGTd @ key_BKSd.unsqueeze(2).transpose(-2, -1)
    if mask_TS is None:
        hidden_TS = torch.full((length, num_keys), float("-inf"), device=query_BHTd.device)
        hidden_TS = hidden_TS.triu(num_keys - length + 1)
    else:
        hidden_TS = torch.where(mask_TS, 0.0, float("-inf")).unsqueeze(-3)
    weights_BKGTS = torch.softmax(scores_BKGTS + hidden_TS.type_as(scores_BKGTS), dim=-1)
    return (weights_BKGTS @ value_BKSd.unsqueeze(2)).flatten(1, 2)
