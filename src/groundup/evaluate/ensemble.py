"""An ensemble: several models predict together, each token with the mean of their probabilities.

By Jensen's inequality it never needs more nats than its members do on average (Breiman 1996, "Bagging predictors",
for regression; Lakshminarayanan et al. 2017, arXiv:1612.01474, for networks that differ in their seed alone).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from groundup.evaluate.bits import Evaluation, figures, token_nats
from groundup.model.decoder import Decoder
from groundup.plan.hardware import Precision


class EnsembleEvaluation(NamedTuple):
    """The figures of each member, and of all together."""

    members: list[Evaluation]
    together: Evaluation


def evaluate_ensemble(
    models: Sequence[Decoder],
    tokens: npt.NDArray[np.integer],
    byte_lengths: npt.NDArray[np.int32],
    *,
    device: str,
    precision: Precision,
    end_of_text: int | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> EnsembleEvaluation:
    """As `evaluate_tokens`, of models that read the same ids; each in windows of its own context."""
    nats = []
    for number, model in enumerate(models):

        def of_all(done: float, before: int = number) -> None:
            if on_progress:
                on_progress((before + done) / len(models))

        nats.append(
            token_nats(
                model, tokens, device=device, precision=precision, end_of_text=end_of_text, on_progress=of_all
            )
        )
    lengths_N = byte_lengths[tokens[1:]]
    together = figures(mean_probability(torch.stack(nats)), lengths_N)
    return EnsembleEvaluation([figures(nats_N, lengths_N) for nats_N in nats], together)


def mean_probability(nats_MN: Tensor) -> Tensor:
    """What tokens cost under the mean of M models' probabilities, in nats, (N,) float64."""
    return math.log(len(nats_MN)) - torch.logsumexp(-nats_MN.double(), 0)
