"""The denoising objective of T5: spans of the text are cut out, and the model writes them down.

Raffel et al. 2020 (arXiv:1910.10683, section 3.1.4); `random_spans_noise_mask` and its neighbours in their code.
"""

from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from groundup.errors import UserError
from groundup.objective.base import Objective, Setting, Windows, refuse_border, row_generators
from groundup.objective.translation import TranslationBatch, loss

Mask = npt.NDArray[np.bool_]

NOISE_DENSITY, MEAN_SPAN = 0.15, 3.0


def denoising(setting: Setting) -> Objective:
    """Windows of text; UserError where they would need more sentinels than the family has."""
    assert setting.shape is not None
    refuse_border(setting)
    names = [name for name in setting.special if name.startswith("<|extra_")]
    sentinels = np.array([setting.special[f"<|extra_{number}|>"] for number in range(len(names))], np.int64)
    _, num_spans = noise_counts(setting.shape.context)
    if num_spans > len(sentinels):
        raise UserError(
            f"model.context={setting.shape.context} has {num_spans} noisy spans, but there are only "
            f"{len(sentinels)} sentinels; choose a shorter context"
        )
    padding, end = setting.special["<|pad|>"], setting.special["<|endoftext|>"]
    return Objective(
        partial(collate, seed=setting.seed, sentinels=sentinels, padding=padding, end=end),
        partial(loss, label_smoothing=setting.label_smoothing),
    )


def collate(
    windows: Windows, first: int = 0, *, seed: int, sentinels: Windows, padding: int, end: int
) -> TranslationBatch:
    """Windows (B, T + 1) -> a batch in which all sources have one length, and all targets.

    The first T tokens are used: the last is the next window's first. The source has one sentinel in the place of
    each noisy span; the target is each sentinel and its span, then `<|endoftext|>`. The decoder first reads
    `<|pad|>`, as in T5.
    """
    sources, targets = [], []
    for window, generator in zip(windows[:, :-1], row_generators(seed, first, len(windows)), strict=True):
        noise_T = noise_mask(len(window), generator)
        sources.append(with_sentinels(window, noise_T, sentinels))
        targets.append(np.append(with_sentinels(window, ~noise_T, sentinels), end))
    source_BS, targets_BT = torch.from_numpy(np.stack(sources)), torch.from_numpy(np.stack(targets))
    inputs_BT = torch.nn.functional.pad(targets_BT[:, :-1], (1, 0), value=padding)
    return TranslationBatch(targets_BT, source_BS, torch.ones_like(source_BS, dtype=torch.bool), inputs_BT)


def noise_counts(length: int) -> tuple[int, int]:
    """How many of so many tokens are noise, and in how many spans."""
    num_noise = min(max(round(length * NOISE_DENSITY), 1), length - 1)
    return num_noise, min(max(round(num_noise / MEAN_SPAN), 1), length - num_noise)


def noise_mask(length: int, generator: np.random.Generator) -> Mask:
    """Which tokens are noise, (T,): spans of text and of noise take turns, and text is first."""
    num_noise, num_spans = noise_counts(length)
    lengths = [_segments(count, num_spans, generator) for count in (length - num_noise, num_noise)]
    noise: Mask = np.repeat(np.arange(2 * num_spans) % 2 == 1, np.stack(lengths, 1).ravel())
    return noise


def with_sentinels(tokens: Windows, noise_T: Mask, sentinels: Windows) -> Windows:
    """The tokens, with one sentinel in the place of each run of noise: the first, the second, and so on."""
    begins_T = noise_T & ~np.concatenate([[False], noise_T[:-1]])
    replaced = np.where(begins_T, sentinels[np.maximum(begins_T.cumsum() - 1, 0)], tokens)
    return replaced[begins_T | ~noise_T]


def _segments(count: int, num_segments: int, generator: np.random.Generator) -> Windows:
    """The lengths of `num_segments` parts of `count` things, none empty, all divisions equally likely."""
    borders = np.sort(generator.choice(count - 1, num_segments - 1, replace=False)) + 1
    return np.diff(borders, prepend=0, append=count)
