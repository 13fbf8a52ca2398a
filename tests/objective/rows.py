"""Rows of preferences as `data.turn_rows` makes them, and a tiny model that reads them."""

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from groundup.model.decoder import Decoder
from groundup.model.norm import LayerNorm
from groundup.model.registry import build
from groundup.shape import Shape

VOCABULARY, LENGTH = 17, 12


def tiny(seed: int = 1, tied: bool = True) -> Decoder:
    """Two layers, wholly in float64 (our own norms compute in float32), with no zeros left in the parameters."""
    shape = Shape(
        family="gpt2", num_layers=2, width=8, num_heads=2, num_kv_heads=2, head_width=4, feedforward_width=12,
        vocabulary_size=VOCABULARY, context=16, tied=tied,
    )  # fmt: skip
    model, generator = build(shape, seed), torch.Generator().manual_seed(seed)
    for name, module in list(model.named_modules()):
        if isinstance(module, LayerNorm):
            model.set_submodule(name, nn.LayerNorm(shape.width, module.epsilon))
    model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.3)
    return model


def preference_rows(count: int, seed: int = 0, counts: tuple[int, ...] = (1,)) -> npt.NDArray[np.int64]:
    """(count, 2, 3, LENGTH): sequences of unequal length, of which what is behind the prompt counts.

    An example's answers count as one of `counts`, in turns. Examples are numbered backwards.
    """
    random = np.random.default_rng(seed)
    rows = np.zeros((count, 2, 3, LENGTH), np.int64)
    rows[:, :, 2] = -1
    for place in range(count):
        prompt = random.integers(1, VOCABULARY, random.integers(1, 4))
        for side in range(2):
            answer = random.integers(1, VOCABULARY, random.integers(1, LENGTH - 3))
            length = len(prompt) + len(answer)
            rows[place, side, 0, :length] = [*prompt, *answer]
            rows[place, side, 1, len(prompt) : length] = counts[place % len(counts)]
            rows[place, side, 2, :length] = count - 1 - place
    return rows
