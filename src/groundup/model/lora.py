"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685): a frozen model learns by small matrices beside its own.

W x becomes W x + alpha/rank B A x, where A (rank, in) and B (out, rank) alone are trained. B starts at zero, so
that a model with new adapters computes what it did without them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from groundup.errors import UserError
from groundup.model.decoder import Decoder
from groundup.model.linear import Linear
from groundup.seeds import derive

_ATTENTION = ("attention.query", "attention.key", "attention.value", "attention.output")
_FEEDFORWARD = ("feedforward.gate", "feedforward.up", "feedforward.down")
TARGETS = {"attention": _ATTENTION, "all": _ATTENTION + _FEEDFORWARD}


class Adapter(nn.Module):
    """Stands in the place of a module, `base`, and changes what it computes while `enabled`."""

    base: nn.Module
    enabled = True

    def merged(self) -> nn.Module:
        """The base, changed so that it computes alone what the two did; the adapter is spent."""
        raise NotImplementedError


class LoraLinear(Adapter):
    """A linear map with a low-rank one beside it: (..., in) -> (..., out), W x + b + alpha/rank B A dropout(x)."""

    base: Linear

    def __init__(self, base: Linear, rank: int, alpha: float, dropout: float = 0.0):
        super().__init__()
        self.base, self.rank, self.alpha = base, rank, alpha
        self.scale = alpha / rank
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.lora_A = _uninitialised(base.in_features, rank, base.weight)
        self.lora_B = _uninitialised(rank, base.out_features, base.weight)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both maps; the base's alone where the adapter is not enabled."""
        made = self.base(x)
        if not self.enabled:
            return made
        return made + self.scale * self.lora_B(self.lora_A(self.dropout(x)))

    @torch.no_grad()
    def merged(self) -> Linear:
        """W + alpha/rank B A."""
        self.base.weight.add_(self.lora_B.weight @ self.lora_A.weight, alpha=self.scale)
        return self.base


def add_adapters(model: Decoder, rank: int, alpha: float, targets: str, dropout: float, seed: int) -> list[str]:
    """Put an adapter beside each matrix of `targets` ("attention" or "all"), and freeze the rest of the model.

    A is drawn as a `torch.nn.Linear` is (uniform, at most 1/sqrt(in)), from the seed and the matrix's name.
    Returns the names of the matrices. UserError where the feed-forward blocks are experts, which take no adapters.
    """
    assert not has_adapters(model), "adapters are put in once"
    if targets == "all" and model.shape.num_experts:
        raise UserError(
            f"the experts of {model.shape.family} take no adapters, but lora_targets=all asks for them; choose "
            "lora_targets=attention"
        )
    names = [name for name, module in model.named_modules() if isinstance(module, Linear)]
    names = [name for name in names if name.startswith("blocks.") and name.endswith(TARGETS[targets])]
    model.requires_grad_(False)
    for name in names:
        weight_RI = put_adapter(model, name, rank, alpha, dropout).lora_A.weight
        generator = torch.Generator().manual_seed(derive(seed, name))
        bound = weight_RI.shape[1] ** -0.5
        with torch.no_grad():
            weight_RI.copy_(torch.empty(weight_RI.shape).uniform_(-bound, bound, generator=generator))
    return names


def put_adapter(model: nn.Module, name: str, rank: int, alpha: float, dropout: float = 0.0) -> LoraLinear:
    """Put an adapter, whose A holds nothing yet, beside the matrix called `name`."""
    base = model.get_submodule(name)
    assert isinstance(base, Linear), f"{name} is no linear map"
    adapter = LoraLinear(base, rank, alpha, dropout).train(base.training)
    model.set_submodule(name, adapter)
    return adapter


def merge_adapters(model: nn.Module) -> None:
    """Write every adapter into the weights beside it: the model is as its family builds it, all trainable."""
    for name, module in list(model.named_modules()):
        if isinstance(module, Adapter):
            model.set_submodule(name, module.merged())
    model.requires_grad_(True)


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """Within this context the model computes what it did before it had adapters."""
    adapters = [module for module in model.modules() if isinstance(module, Adapter) and module.enabled]
    for adapter in adapters:
        adapter.enabled = False
    try:
        yield
    finally:
        for adapter in adapters:
            adapter.enabled = True


def has_adapters(model: nn.Module) -> bool:
    """Whether any part of the model has an adapter."""
    return any(isinstance(module, Adapter) for module in model.modules())


def _uninitialised(in_features: int, out_features: int, like: Tensor) -> Linear:
    """A linear map whose weights nobody has drawn."""
    empty = skip_init(Linear, in_features, out_features, bias=False, device=like.device, dtype=like.dtype)
    return cast(Linear, empty)
