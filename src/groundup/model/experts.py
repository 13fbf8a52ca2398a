"""A mixture of experts: many feed-forward blocks, of which each token passes through a few.

Shazeer et al. 2017 (arXiv:1701.06538), routed as in Qwen3 (arXiv:2505.09388), kept in balance as in the Switch
Transformer (Fedus et al. 2021, arXiv:2101.03961). No token is dropped. In names of dimensions: N tokens,
E experts, K of them a token, M = N K the tokens as the experts get them, sorted by expert.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import starmap
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.model.linear import Linear, linear
from groundup.shape import Shape

# The grouped kernel reads rows that begin at multiples of so many bytes.
_KERNEL_ALIGNMENT = 16


class StackedLinear(nn.Module):
    """A linear map without bias for each expert, in one parameter (E, out, in)."""

    def __init__(self, num_experts: int, in_features: int, out_features: int):
        super().__init__()
        self.in_features = in_features
        self.weight = nn.Parameter(torch.empty(num_experts, out_features, in_features))

    def forward(self, x_MI: Tensor, tokens_E: Tensor) -> Tensor:
        """(M, in) -> (M, out): the first `tokens_E[0]` rows by the first expert's map, and so on."""
        return stacked_linear(x_MI, self.weight, tokens_E)


def stacked_linear(x_MI: Tensor, weight_EOI: Tensor, tokens_E: Tensor) -> Tensor:
    """As `StackedLinear`, with any maps (E, out, in)."""
    device = x_MI.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x_MI, weight_EOI = x_MI.to(dtype), weight_EOI.to(dtype)
    if _has_kernel(x_MI, weight_EOI):
        ends_E = tokens_E.cumsum(0, dtype=torch.int32)
        return F.grouped_mm(x_MI, weight_EOI.mT, offs=ends_E)
    return _expert_by_expert(x_MI, weight_EOI, tokens_E)


def _has_kernel(x_MI: Tensor, weight_EOI: Tensor) -> bool:
    """Whether PyTorch's grouped product takes these: it was made for bfloat16, and is the faster one there."""
    if x_MI.dtype != torch.bfloat16:
        return False
    return all(size * x_MI.itemsize % _KERNEL_ALIGNMENT == 0 for size in weight_EOI.shape[1:])


def _expert_by_expert(x_MI: Tensor, weight_EOI: Tensor, tokens_E: Tensor) -> Tensor:
    """Product after product. Compiled code cannot do this: how many rows each has is known only as it runs."""
    return torch.cat(list(starmap(linear, zip(x_MI.split(tokens_E.tolist()), weight_EOI.unbind(), strict=True))))


def leave_to_python() -> None:
    """Keep the compiler, when there is one, from what it cannot do; not before, since that would import it."""
    global _expert_by_expert  # noqa: PLW0603
    if not hasattr(_expert_by_expert, "_torchdynamo_orig_callable"):
        _expert_by_expert = torch.compiler.disable(_expert_by_expert)


class Experts(nn.Module):
    """The experts themselves, each a SwiGLU: what devices can divide among them, an expert at a time."""

    def __init__(self, shape: Shape):
        super().__init__()
        assert shape.num_experts and shape.expert_width, f"{shape.family} has no experts"
        num_experts, width, expert_width = shape.num_experts, shape.width, shape.expert_width
        self.gate = StackedLinear(num_experts, width, expert_width)
        self.up = StackedLinear(num_experts, width, expert_width)
        self.down = StackedLinear(num_experts, expert_width, width)

    def forward(self, x_MD: Tensor, tokens_E: Tensor) -> Tensor:
        """(M, D) -> (M, D), rows sorted by expert; `tokens_E` int64 counts the rows of each."""
        hidden_MF = F.silu(self.gate(x_MD, tokens_E)) * self.up(x_MD, tokens_E)
        return self.down(hidden_MF, tokens_E)


class Routing(NamedTuple):
    """What a layer's router decided in one pass: its mean probability of each expert, and whom it sent where."""

    probability_E: Tensor
    """Float32, with gradient; the sum is 1."""
    tokens_E: Tensor
    """Int64: the tokens that each expert got; the sum is N K."""
    num_tokens: int
    """N."""


class MixtureOfExperts(nn.Module):
    """The sum of a token's experts, weighted by the router's probabilities.

    The router takes a softmax over all experts, then the likeliest `experts_per_token`, whose probabilities are
    divided by their sum with `norm_topk_prob`.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        assert shape.num_experts and shape.experts_per_token, f"{shape.family} has no experts"
        self.num_experts, self.experts_per_token = shape.num_experts, shape.experts_per_token
        self.norm_topk_prob, self.router_aux_loss_coef = shape.norm_topk_prob, shape.router_aux_loss_coef
        self.router = Linear(shape.width, shape.num_experts, bias=False)
        self.experts = Experts(shape)
        self.is_recording = False
        self.routing: Routing | None = None

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x_ND = x_BTD.flatten(0, 1)
        probability_NE = self._probabilities(x_ND)
        weight_NK, expert_NK = probability_NE.topk(self.experts_per_token)
        if self.norm_topk_prob:
            weight_NK = weight_NK / weight_NK.sum(1, keepdim=True)
        expert_M = expert_NK.flatten()
        tokens_E = expert_M.new_zeros(self.num_experts).scatter_add(0, expert_M, torch.ones_like(expert_M))
        if self.is_recording:
            self.routing = Routing(probability_NE.mean(0), tokens_E, len(x_ND))
        order_M = expert_M.argsort(stable=True)
        given_MD = self.experts(x_ND[order_M // self.experts_per_token], tokens_E)
        # Back in the order of the tokens: a sum over K, which is the same every time, instead of one by index.
        given_NKD = given_MD[order_M.argsort()].unflatten(0, weight_NK.shape)
        return (given_NKD * weight_NK[..., None].to(given_NKD.dtype)).sum(1).view_as(x_BTD)

    def _probabilities(self, x_ND: Tensor) -> Tensor:
        """(N, E), in float32 whatever the rest is in, since rounding changes choices (Switch, section 2.4)."""
        with torch.autocast(x_ND.device.type, enabled=False):
            dtype = torch.promote_types(x_ND.dtype, torch.float32)
            return F.linear(x_ND.to(dtype), self.router.weight.to(dtype)).softmax(1)


class RoutingRecord:
    """The routing of each layer that has experts, in one pass through a model; no layers where there are none."""

    def __init__(self, coefficient: float):
        self.coefficient = coefficient
        self.layers: list[Routing] = []

    @property
    def tokens(self) -> Tensor:
        """The tokens that each layer's experts got, int64 (layers, E)."""
        return torch.stack([layer.tokens_E for layer in self.layers])

    def balance_loss(self) -> Tensor:
        """A scalar that is least, K, where all experts are loaded evenly.

        E times the sum over experts of the tokens that went there, as a share of N, and the mean probability of
        going there (Switch, equations 4 to 6); both over all layers together, as in `transformers`.
        """
        tokens_E = self.tokens.sum(0)
        num_tokens = sum(layer.num_tokens for layer in self.layers)
        probability_E = torch.stack([layer.probability_E for layer in self.layers]).mean(0)
        return len(tokens_E) * (tokens_E / num_tokens * probability_E).sum()

    def penalty(self) -> Tensor:
        """What routing adds to the loss: `router_aux_loss_coef` times `balance_loss`."""
        return self.coefficient * self.balance_loss()


@contextmanager
def recorded_routing(model: nn.Module) -> Iterator[RoutingRecord]:
    """Within it a model goes forward once; after it, its routing is in the record.

    What the backward pass computes again lies outside: it is neither recorded nor kept alive.
    """
    mixtures = [module for module in model.modules() if isinstance(module, MixtureOfExperts)]
    record = RoutingRecord(mixtures[0].router_aux_loss_coef if mixtures else 0.0)
    for mixture in mixtures:
        mixture.is_recording = True
    try:
        yield record
        record.layers = [mixture.routing for mixture in mixtures if mixture.routing is not None]
    finally:
        for mixture in mixtures:
            mixture.is_recording, mixture.routing = False, None
