"""Context parallelism: a sequence's positions divided over devices, which gather each other's keys and values.

Under a causal mask late positions look at more than early ones. So the sequence is cut into twice as many chunks
as there are devices, and each has one from the front and one from the back: all compute equally much (Llama 3,
Grattafiori et al. 2024, arXiv:2407.21783, section 3.3.2, where keys and values are gathered as here; with
grouped-query attention they are small).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.distributed._functional_collectives import all_gather_single
from torch.nn.attention.bias import causal_lower_right

from groundup.model.attention import Attention
from groundup.model.decoder import Decoder, DocumentMask
from groundup.model.dot_product import DotProduct, attend
from groundup.objective import Batch


class Chunks:
    """Which positions of a sequence of `length` each process of `group` has, in which order."""

    def __init__(self, length: int, group: ProcessGroup):
        self.group, self.size, self.rank = group, group.size(), group.rank()
        self.chunk = length // (2 * self.size)
        self.own = self._of(self.rank)
        # Of what comes gathered, process by process, the place of each chunk.
        gathered = [number for rank in range(self.size) for number in self._of(rank)]
        self._order = [gathered.index(number) for number in range(2 * self.size)]

    def _of(self, rank: int) -> tuple[int, int]:
        return rank, 2 * self.size - 1 - rank

    @property
    def positions(self) -> list[int]:
        """The positions of this process, in the order in which it has them."""
        return [number * self.chunk + index for number in self.own for index in range(self.chunk)]

    def select(self, batch: Batch) -> Batch:
        """This process's part of a batch of whole sequences."""
        return batch.at(torch.tensor(self.positions))

    def gather(self, x: Tensor, dim: int) -> Tensor:
        """All positions of `x` along `dim`, in their order; gradients go back to where they came from."""
        gathered = all_gather_single(x.contiguous(), dim, self.group)
        parts = gathered.chunk(2 * self.size, dim)
        return torch.cat([parts[place] for place in self._order], dim)


def context_parallel(model: Decoder, chunks: Chunks, device: str) -> Decoder:
    """Let `model` take this process's part of each sequence (`Chunks.select`), in place; returns it.

    To be called behind `tensor_parallel`, and before the model gets its memory.
    """
    if model.rotary is not None:
        model.rotary.stand_at(chunks.positions)
    if model.positions is not None:
        model.positions.register_forward_pre_hook(_Places(chunks.positions), prepend=True)
    model.mask = _ContextMask(chunks)
    for module in model.modules():
        if isinstance(module, Attention):
            module.dot_product = _ContextDotProduct(chunks, device)
    return model


class _Places:
    """Before learned positions are looked up: from the place in this process's part to that in the sequence."""

    def __init__(self, positions: list[int]):
        self._positions = torch.tensor(positions)

    def __call__(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._positions.to(inputs[0].device)[inputs[0]],)


class _ContextMask(DocumentMask):
    """As `DocumentMask`: (B, 1, T / context, T), the queries in this process's order, the keys in theirs."""

    def __init__(self, chunks: Chunks):
        super().__init__()
        self._chunks = chunks

    def forward(self, documents_BT: Tensor | None) -> Tensor | None:
        if documents_BT is None:
            return None
        all_documents_BT = self._chunks.gather(documents_BT, 1)
        own_T = torch.tensor(self._chunks.positions, device=documents_BT.device)
        before_TS = own_T[:, None] >= torch.arange(all_documents_BT.shape[1], device=own_T.device)
        return (documents_BT[:, None, :, None] == all_documents_BT[:, None, None, :]) & before_TS


class _ContextDotProduct(DotProduct):
    """As `DotProduct`, for the queries of this process: each chunk of them looks at the keys up to its end."""

    def __init__(self, chunks: Chunks, device: str):
        super().__init__()
        self._chunks = chunks
        # Where a fused kernel knows this mask by name, it is never in memory.
        self._causal: list[Tensor | None] = [
            causal_lower_right(chunks.chunk, (number + 1) * chunks.chunk) if device != "cpu" else None
            for number in chunks.own
        ]

    def forward(
        self, query_BHTd: Tensor, key_BKTd: Tensor, value_BKTd: Tensor, mask_BTS: Tensor | None = None
    ) -> Tensor:
        size = self._chunks.chunk
        key_BKSd, value_BKSd = self._chunks.gather(torch.stack([key_BKTd, value_BKTd]), 3).unbind()
        mixed = []
        for index, (number, query) in enumerate(zip(self._chunks.own, query_BHTd.split(size, 2), strict=True)):
            end = (number + 1) * size
            mask = self._causal[index]
            if mask_BTS is not None:
                mask = mask_BTS[..., index * size : (index + 1) * size, :end]
            mixed.append(attend(query, key_BKSd[:, :, :end], value_BKSd[:, :, :end], mask))
        return torch.cat(mixed, 2)
