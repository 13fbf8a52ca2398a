"""What a frozen model makes of texts, computed once."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from groundup.data.labelled import PADDING, Integers
from groundup.model.classifier import Body, Pooling, pooled

_ROWS_AT_ONCE = 64


@torch.no_grad()
def text_vectors(
    body: Body,
    ids_NT: Integers,
    pooling: Pooling = "mean",
    on_progress: Callable[[float], None] | None = None,
) -> npt.NDArray[np.float32]:
    """The vector of each text or image, (N, E), as `pooled` gives it in evaluation mode; ids of `encode_texts`.

    Texts of about the same length are read together, so that little padding is.
    """
    device = next(body.parameters()).device
    was_training = body.training
    body.eval()
    lengths_N = (ids_NT != PADDING).sum(1)
    order = np.argsort(lengths_N, kind="stable")
    vectors_NE = np.empty((len(ids_NT), body.feature_width), np.float32)
    for first in range(0, len(order), _ROWS_AT_ONCE):
        rows = order[first : first + _ROWS_AT_ONCE]
        ids_BT = torch.from_numpy(ids_NT[rows, : lengths_N[rows[-1]]].astype(np.int64)).to(device)
        vectors_NE[rows] = pooled(body, ids_BT, pooling).float().cpu().numpy()
        if on_progress:
            on_progress((first + len(rows)) / len(order))
    body.train(was_training)
    return vectors_NE
