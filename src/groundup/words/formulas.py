"""One step of each model, as its paper says it, in whatever precision the arrays have."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LIMIT = 6.0
"""Scores beyond it are as good as certain (MAX_EXP of word2vec.c)."""


def sigmoid(x: Array) -> Array:
    """The logistic function."""
    return 1 / (1 + np.exp(-x))


def gradient(scores: Array, labels: Array, tree: bool, logistic: Callable[[Array], Array] = sigmoid) -> Array:
    """label - sigmoid(score); beyond LIMIT a tree learns nothing, and with noise the answer counts as certain."""
    inside = labels - logistic(np.clip(scores, -LIMIT, LIMIT))
    beyond = np.zeros_like(labels) if tree else labels - (scores > 0)
    return np.where(np.abs(scores) >= LIMIT, beyond, inside)


def word2vec_step(
    inputs: Array,
    outputs: Array,
    words: Sequence[int],
    rows: Sequence[int],
    labels: Sequence[float],
    lr: float,
    *,
    tree: bool = False,
    mean: bool = True,
    logistic: Callable[[Array], Array] = sigmoid,
) -> float:
    """Predict once, move the weights in place, return the loss: -sum log sigmoid(+-u_row . h).

    The hidden vector h is the input vector of the one word of `words` (skip-gram), or the mean or sum of several
    (CBOW). `rows` of the outputs should answer `labels`, 1 or 0: the word sought and noise, or inner nodes of the
    tree. As published, each of several words gets the whole error, also where h is their mean.
    """
    hidden = inputs[list(words)].sum(0)
    if mean:
        hidden = hidden / len(words)
    answers = np.array(labels, inputs.dtype)
    scores = outputs[list(rows)] @ hidden
    pushes = lr * gradient(scores, answers, tree, logistic)
    error = np.zeros_like(hidden)
    for row, push in zip(rows, pushes, strict=True):  # a row drawn twice has moved when it comes again
        error += push * outputs[row]
        outputs[row] += push * hidden
    for word in words:
        inputs[word] += error
    return float(np.logaddexp(0, np.where(answers > 0.5, -scores, scores)).sum())


def glove_weight(counts: Array, most: float, power: float) -> Array:
    """f(X) = (X / x_max) ** power, 1 from x_max on."""
    return np.minimum(counts / most, 1.0) ** power


def glove_loss(words: Array, contexts: Array, biases: Array, context_biases: Array, counts: Array,
               most: float, power: float) -> Array:  # fmt: skip
    """Half of sum f(X) (w . w~ + b + b~ - log X)^2 over records with these vectors (N, D) and biases (N,)."""
    differences = (words * contexts).sum(1) + biases + context_biases - np.log(counts)
    return 0.5 * (glove_weight(counts, most, power) * differences**2).sum()


def glove_step(side: Sequence[Array], other: Sequence[Array], row: int, column: int, count: float,
               lr: float, most: float, power: float) -> float:  # fmt: skip
    """Learn one co-occurrence in place by AdaGrad; its loss. A side: vectors, biases and their sums of squares.

    As in glove.c, the sums take the steps' squares with the learning rate in them, after the step is made.
    """
    vectors, biases, vector_squares, bias_squares = side
    context_vectors, context_biases, context_squares, context_bias_squares = other
    difference = vectors[row] @ context_vectors[column] + biases[row] + context_biases[column] - np.log(count)
    weight = float(glove_weight(np.array(count), most, power))
    step = lr * weight * difference
    word_step, context_step = step * context_vectors[column], step * vectors[row]
    for values, squares, place, change in (
        (vectors, vector_squares, row, word_step),
        (context_vectors, context_squares, column, context_step),
        (biases, bias_squares, row, step),
        (context_biases, context_bias_squares, column, step),
    ):
        values[place] -= change / np.sqrt(squares[place])
        squares[place] += change**2
    return float(0.5 * weight * difference**2)
