"""The causal objective: predict each next token (Bengio et al. 2003; Radford et al. 2018)."""

from functools import partial

from torch import Tensor, nn

from groundup.model.experts import recorded_routing
from groundup.objective.base import (
    IGNORED,
    Batch,
    Loss,
    Objective,
    Setting,
    Unembeds,
    Windows,
    judged,
    number_documents,
    refuse_border,
    tokens_of,
)
from groundup.objective.cross_entropy import chunked_cross_entropy
from groundup.shape import family


def causal(setting: Setting) -> Objective:
    """Next tokens; within documents where the setting has a border, which only attention can keep to."""
    if setting.shape is not None and not family(setting.shape.family).is_decoder:
        refuse_border(setting)
    return Objective(
        partial(collate, border=setting.border),
        partial(loss, label_smoothing=setting.label_smoothing),
        in_nats_per_token=True,
    )


def collate(windows: Windows, first: int = 0, *, border: int | None = None) -> Batch:
    """Windows (B, T + 1) of consecutive tokens -> inputs and targets (B, T), the targets one token ahead."""
    del first  # nothing is drawn
    tokens = tokens_of(windows)
    inputs_BT = tokens[:, :-1].contiguous()
    documents_BT = None if border is None else number_documents(inputs_BT, border)
    return Batch(inputs_BT, tokens[:, 1:].contiguous(), documents_BT)


def loss(model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Loss:
    """The cross-entropy of the next token, in nats, taken in float32; in chunks where the model allows it.

    No targets give a loss and gradients of 0. While a mixture of experts trains, what keeps its experts evenly
    loaded is added.
    """
    with recorded_routing(model) as routing:
        mean = _cross_entropy(model, batch, label_smoothing if model.training else 0.0)
    if model.training and routing.layers:
        mean = mean + routing.penalty()
    return Loss(mean, batch.num_targets)


def _cross_entropy(model: nn.Module, batch: Batch, label_smoothing: float) -> Tensor:
    targets_N = batch.targets_BT.flatten()
    if isinstance(model, Unembeds):
        features_ND = model.features(batch.inputs_BT, documents_BT=batch.documents_BT).flatten(0, 1)
        weight_VD = model.unembedding_weight
        if not batch.is_partial:
            return chunked_cross_entropy(features_ND, weight_VD, targets_N, label_smoothing)
        counted_N = targets_N != IGNORED
        features_ND, targets_N = features_ND[counted_N], targets_N[counted_N]
        if not len(targets_N):
            return features_ND.sum() + 0.0 * weight_VD.sum()
        return chunked_cross_entropy(features_ND, weight_VD, targets_N, label_smoothing, sizes_vary=True)
    assert batch.documents_BT is None, "this model does not keep documents apart"
    return judged(model, model(batch.inputs_BT).flatten(0, 1), targets_N, label_smoothing).mean


CAUSAL = causal(Setting())
