"""A vocabulary whose rows lie on several devices, so that each has a part of every token's logits.

The softmax needs two numbers of the whole vocabulary, its greatest logit and its sum, and the loss the one of the
target: those go around, the logits never (Shoeybi et al. 2019, arXiv:1909.08053, section 3).
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed._functional_collectives import all_reduce


class VocabularyPart(NamedTuple):
    """The ids from `first` on, as many as there are logits; the other processes of `group` have the others."""

    first: int
    group: ProcessGroup

    @classmethod
    def of(cls, weight_VD: Tensor) -> tuple[Tensor, Self | None]:
        """What this process has of a matrix (V, D), with gradient; for a plain tensor all of it, and no part."""
        if type(weight_VD) in {Tensor, torch.nn.Parameter}:
            return weight_VD, None
        from torch.distributed.tensor import DTensor, Shard  # takes half a second

        if not isinstance(weight_VD, DTensor):
            return weight_VD, None
        mesh = weight_VD.device_mesh
        assert mesh.ndim == 1 and weight_VD.placements == (Shard(0),), "the vocabulary is divided by rows"
        assert weight_VD.shape[0] % mesh.size() == 0, "each process has equally many ids"
        local = weight_VD.to_local()
        return local, cls(mesh.get_local_rank() * local.shape[0], mesh.get_group())

    def softmax(self, logits_NV: Tensor) -> Tensor:
        """This part of the probabilities over the whole vocabulary; the sum is taken in float32."""
        greatest = all_reduce(logits_NV.amax(1, keepdim=True), "max", self.group)
        exponentials = (logits_NV - greatest).float().exp_()
        total = all_reduce(exponentials.sum(1, keepdim=True), "sum", self.group)
        return exponentials.div_(total).to(logits_NV.dtype)

    def logsumexp(self, logits_NV: Tensor) -> Tensor:
        """The logarithm of the softmax's denominator over the whole vocabulary, (N,)."""
        greatest = all_reduce(logits_NV.amax(1, keepdim=True), "max", self.group)
        total = all_reduce((logits_NV - greatest).exp_().sum(1, keepdim=True), "sum", self.group)
        return (greatest + total.log()).squeeze(1)

    def place(self, ids: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Of each id, in any shape: its place among the `size` that are here, and whether it is one of them."""
        places = ids - self.first
        are_here = (places >= 0) & (places < size)
        return places.where(are_here, 0), are_here

    def whole(self, part: Tensor) -> Tensor:
        """The sum over all parts."""
        return all_reduce(part, "sum", self.group)
