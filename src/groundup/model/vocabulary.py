"""New tokens for a trained model: the rows that its embedding and its way back to words have for them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.interop.decoder_names import TABLES
from groundup.model.decoder import Decoder
from groundup.model.linear import Linear
from groundup.model.lora import Adapter, has_adapters
from groundup.seeds import derive

# Of the spread of the old rows: enough that no two new tokens stay the same.
_NOISE = 1e-3


class TokenRows(Adapter):
    """An embedding, or an untied unembedding, of which the rows of some tokens alone are trained.

    `weight` (V, D) is the base's with `rows` (N, D) in the places `ids` (N,). While it is not enabled the rows are
    those that training began with, which the base keeps.
    """

    base: nn.Embedding | Linear
    ids: Tensor

    def __init__(self, base: nn.Embedding | Linear, ids: Sequence[int]):
        super().__init__()
        self.base = base.requires_grad_(False)
        self._sorted = sorted(ids)
        self._has_all = len(self._sorted) == len(base.weight)
        self.register_buffer("ids", torch.tensor(self._sorted, device=base.weight.device), persistent=False)
        self.rows = nn.Parameter(base.weight.detach()[self.ids].clone())

    def fill(self) -> None:
        """Write down the ids again; called when a model built on the meta device gets its memory."""
        self.ids.copy_(torch.tensor(self._sorted))

    @property
    def weight(self) -> Tensor:
        """(V, D); gradients reach the rows that are trained."""
        if self.enabled and self._has_all:
            return self.rows
        return self.base.weight.index_copy(0, self.ids, self.rows) if self.enabled else self.base.weight

    def forward(self, ids_BT: Tensor) -> Tensor:
        """As an embedding: (B, T) -> (B, T, D)."""
        if self.enabled and self._has_all:
            return F.embedding(ids_BT, self.rows)
        old_BTD = self.base(ids_BT)
        if not self.enabled:
            return old_BTD
        place_BT = torch.searchsorted(self.ids, ids_BT.contiguous()).clamp_max(len(self.ids) - 1)
        is_trained_BT = self.ids[place_BT] == ids_BT
        return torch.where(is_trained_BT[..., None], F.embedding(place_BT, self.rows), old_BTD)

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """The base with the trained rows in their places."""
        self.base.weight.index_copy_(0, self.ids, self.rows)
        return self.base


def grow_vocabulary(model: Decoder, size: int) -> None:
    """Give `model` rows for the ids from its vocabulary's end up to `size`, in place.

    They start as the mean of the old ones (Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language
    Models") with a little noise, always the same. Where the model has adapters, these rows alone are trained of
    its tables (`train_rows`).
    """
    old = model.shape.vocabulary_size
    assert size >= old, "a vocabulary grows"
    for name in TABLES:
        table = getattr(model, name)
        if table is not None:
            table.weight = nn.Parameter(_grown(table.weight, size, name), table.weight.requires_grad)
            setattr(table, "num_embeddings" if isinstance(table, nn.Embedding) else "out_features", size)
    model.shape = model.shape.model_copy(update={"vocabulary_size": size})
    if has_adapters(model):
        train_rows(model, range(old, size))


def train_rows(model: Decoder, ids: Sequence[int]) -> None:
    """Let a model learn of its tables the rows of these tokens alone; no more than once."""
    for name in TABLES if ids else ():
        table = getattr(model, name)
        if table is not None:
            assert not isinstance(table, TokenRows), "rows are chosen once"
            model.set_submodule(name, TokenRows(table, ids))


@torch.no_grad()
def _grown(weight_VD: Tensor, size: int, name: str) -> Tensor:
    generator = torch.Generator().manual_seed(derive(0, name))
    noise = torch.randn(size - len(weight_VD), weight_VD.shape[1], generator=generator).to(weight_VD)
    spread_D, mean_D = torch.std_mean(weight_VD, dim=0)
    return torch.cat([weight_VD, mean_D + _NOISE * spread_D * noise])
