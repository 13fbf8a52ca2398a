"""Labels: say to which class a text or an image belongs."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from groundup.data.labelled import PADDING
from groundup.errors import UserError
from groundup.objective.base import Loss, Objective, Setting, TensorBatch, Windows, judged, tokens_of


@dataclass(frozen=True)
class LabelledBatch(TensorBatch):
    """What a classifier reads, `inputs` (B, R) of ids, pixels or features; and its class, `targets` (B,)."""

    inputs: Tensor


def labels(setting: Setting) -> Objective:
    """The class of each row; nothing is drawn."""
    return Objective(collate, partial(loss, label_smoothing=setting.label_smoothing))


def collate(windows: Windows, first: int = 0) -> LabelledBatch:
    """Rows [label, values...] (B, 1 + R) -> a batch, as wide as the longest row that is not padding (-1)."""
    del first
    used = (windows[:, 1:] != PADDING).any(0).sum()
    return LabelledBatch(tokens_of(windows[:, 0].copy()), tokens_of(windows[:, 1 : 1 + used].copy()))


def loss(model: nn.Module, batch: LabelledBatch, *, label_smoothing: float = 0.0) -> Loss:
    """The cross-entropy of the classes under the model's logits (B, classes), in nats; hits where it is evaluated.

    UserError for a label that the model has no logit for.
    """
    logits_BC = model(batch.inputs)
    if (largest := int(batch.targets.max())) >= logits_BC.shape[1]:
        raise UserError(
            f"the data has the label {largest}, but the model only the classes 0 to {logits_BC.shape[1] - 1}; "
            f"--set model.options.classes={largest + 1}"
        )
    return judged(model, logits_BC, batch.targets, label_smoothing)
