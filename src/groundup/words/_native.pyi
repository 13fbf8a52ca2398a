"""The C++ part of the word vectors (`native/module.cpp`). Arrays are C-contiguous, read or written in place.

A model is a tuple: inputs and outputs (rows of `stride` float32, a multiple of 16), stride, tree, cbow, mean,
window, negative, keep (uint32, empty: all words stay), threshold and alias of the noise (uint32), offsets (int64),
nodes (int32) and labels (float32) of the tree; what the model does not use is empty. The
interpreter's lock is released.
"""

from typing import Any

from typing_extensions import Buffer

def train(
    model: tuple[Any, ...], ids: Buffer, begin: int, end: int, wanted: int, lr: float, random: Buffer
) -> tuple[int, int, float, int]:
    """Learn from ids[begin:end] (int32) in whole sentences until `wanted` words are seen; `random`: one uint64.

    Returns the new position, the words seen, and the loss summed over so many predictions, of every 16th word.
    """

def learn(model: tuple[Any, ...], words: Buffer, rows: Buffer, labels: Buffer, lr: float) -> float:
    """One prediction from `words` (int32) of what `rows` (int32) should answer (`labels`, float32); its loss."""

def glove(
    side: tuple[Any, ...],
    other: tuple[Any, ...],
    records: Buffer,
    stride: int,
    lr: float,
    most: float,
    power: float,
) -> float:
    """Learn from records (int32, int32, float64); a side: vectors, biases, and the sums of squares of both."""
