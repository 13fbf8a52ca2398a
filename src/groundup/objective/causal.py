"""The causal objective: predict each next token (Bengio et al. 2003; Radford et al. 2018)."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.model.experts import recorded_routing
from groundup.objective.base import Batch, Loss, Objective, Unembeds, number_documents
from groundup.objective.cross_entropy import chunked_cross_entropy


def collate(windows: npt.NDArray[np.int64], *, end_of_text: int | None = None) -> Batch:
    """Windows (B, T + 1) of consecutive tokens -> inputs and targets (B, T), the targets one token ahead."""
    tokens = torch.from_numpy(windows)
    inputs_BT = tokens[:, :-1].contiguous()
    documents_BT = None if end_of_text is None else number_documents(inputs_BT, end_of_text)
    return Batch(inputs_BT, tokens[:, 1:].contiguous(), documents_BT)


def loss(model: nn.Module, batch: Batch) -> Loss:
    """The cross-entropy of the next token, in nats, taken in float32; in chunks where the model allows it.

    While a mixture of experts trains, what keeps its experts evenly loaded is added.
    """
    with recorded_routing(model) as routing:
        mean = _cross_entropy(model, batch)
    if model.training and routing.layers:
        mean = mean + routing.penalty()
    return Loss(mean, batch.num_targets)


def _cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    targets_N = batch.targets_BT.flatten()
    if isinstance(model, Unembeds):
        features_ND = model.features(batch.inputs_BT, documents_BT=batch.documents_BT).flatten(0, 1)
        return chunked_cross_entropy(features_ND, model.unembedding_weight, targets_N)
    assert batch.documents_BT is None, "this model does not keep documents apart"
    return F.cross_entropy(model(batch.inputs_BT).flatten(0, 1).float(), targets_N)


CAUSAL = Objective(collate, loss)
