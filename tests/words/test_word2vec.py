"""Word2vec: its step against float64, autograd and gensim, its draws, and the optimum that theory gives."""

from collections.abc import Callable
from typing import Any

import gensim
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import chisquare

from groundup.words import formulas, plain
from groundup.words.sampling import Noise, Tree, in_32_bits, keep_probabilities
from groundup.words.settings import Word2VecSettings
from groundup.words.vocabulary import Vocabulary
from groundup.words.word2vec import Word2Vec

from .conftest import Ids, Make, never, quiet

KINDS = [
    {"model": model, "hierarchical_softmax": tree} for model in ("skipgram", "cbow") for tree in (False, True)
]


def ids_of(*numbers: int) -> Ids:
    return np.array(numbers, np.int32)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_step_is_that_of_the_formula_in_float64(make: Make, way: str, kind: dict[str, Any]) -> None:
    model = make(**kind)
    words = (3, 7, 3) if kind["model"] == "cbow" else (3,)
    rows, labels = (5, 1, 9, 2), (1.0, 0.0, 0.0, 1.0)
    inputs, outputs = model.inputs.astype(np.float64), model.outputs.astype(np.float64)
    expected = formulas.word2vec_step(inputs, outputs, words, rows, labels, 0.1, tree=kind["hierarchical_softmax"])
    loss = model.learn(ids_of(*words), ids_of(*rows), np.array(labels, np.float32), 0.1)
    assert loss == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(model.inputs, inputs, rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.outputs, outputs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("tree", "pushes"), [(False, [0.0, -1.0, 1.0]), (True, [0.0, 0.0, 0.0])])
def test_what_is_certain_is_learnt_as_published(make: Make, way: str, tree: bool, pushes: list[float]) -> None:
    """Beyond 6 noise counts as if the answer were certain, and the tree learns nothing."""
    model = make(model="skipgram", hierarchical_softmax=tree)
    model.inputs[0] = 0
    model.inputs[0, 0] = 1.0
    model.outputs[:3] = 0
    model.outputs[:3, 0] = 7, 7, -7
    model.learn(ids_of(0), ids_of(0, 1, 2), np.array([1, 0, 1], np.float32), 0.5)
    np.testing.assert_allclose(model.outputs[:3, 0], np.array([7, 7, -7]) + 0.5 * np.array(pushes), atol=1e-6)


def test_the_formula_is_the_gradient_that_autograd_finds() -> None:
    generator = np.random.default_rng(0)
    inputs, outputs = generator.normal(0, 0.5, (2, 6, 8))
    rows, labels = [1, 4, 2], [1.0, 0.0, 0.0]
    u, v = (torch.tensor(matrix, requires_grad=True) for matrix in (inputs, outputs))
    signs = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    loss = -torch.nn.functional.logsigmoid(signs * (v[rows] @ u[3])).sum()
    loss.backward()
    found = formulas.word2vec_step(inputs, outputs, [3], rows, labels, 0.1)
    assert found == pytest.approx(loss.item())
    for moved, weights in ((inputs, u), (outputs, v)):
        assert weights.grad is not None
        np.testing.assert_allclose(moved, (weights - 0.1 * weights.grad).detach().numpy(), atol=1e-12)


@pytest.mark.parametrize("kind", [*KINDS, {"model": "cbow", "cbow_mean": False}], ids=str)
def test_compiled_and_plain_learn_the_same_from_a_text(
    make: Make, monkeypatch: pytest.MonkeyPatch, kind: dict[str, Any]
) -> None:
    weights = []
    for way in ("plain", ""):
        monkeypatch.setenv("GROUNDUP_WORDS", way)
        model = make(**kind, sample=0.01)
        model.train(never, quiet)
        weights.append((model.inputs, model.outputs, model.tally.loss))
    for plainly, fast in zip(*weights, strict=True):
        np.testing.assert_allclose(fast, plainly, rtol=1e-4, atol=1e-4)
    assert not np.allclose(weights[0][0], make(**kind).inputs, atol=0.01)


def test_one_thread_repeats_itself_and_a_seed_changes_it(zipf: tuple[Vocabulary, Ids]) -> None:
    def trained(seed: int) -> NDArray[np.float32]:
        model = Word2Vec(Word2VecSettings(dimension=8, seed=seed), *zipf)
        model.train(never, quiet)
        return model.vectors

    assert np.array_equal(trained(1), trained(1))
    assert not np.allclose(trained(1), trained(2))


@pytest.mark.parametrize("threads", [1, 3])
def test_every_thread_goes_through_its_share_and_what_is_stopped_goes_on(
    zipf: tuple[Vocabulary, Ids], threads: int
) -> None:
    vocabulary = Vocabulary(zipf[0].words, 40 * zipf[0].counts)
    text = np.tile(zipf[1], 40)  # 80,000 words: several pieces for each thread
    settings = Word2VecSettings(dimension=8, epochs=2, threads=threads)
    whole = Word2Vec(settings, vocabulary, text)
    whole.train(never, quiet)
    assert whole.finished
    assert whole.tally.done == whole.total == 160_000

    first = Word2Vec(settings, vocabulary, text)
    first.train(lambda: first.tally.done >= 50_000, quiet)
    assert not first.finished
    second = Word2Vec(settings, vocabulary, text)
    second.restore(first.state())
    second.train(never, quiet)
    assert second.finished
    assert second.tally.done == 160_000
    if threads == 1:
        assert np.array_equal(second.vectors, whole.vectors)


def test_the_learning_rate_falls_with_the_words_to_a_ten_thousandth(make: Make) -> None:
    model = make(model="cbow")
    rates = []
    for done in (0, model.total // 2, 2 * model.total):
        model.tally.done = done
        rates.append(model.lr)
    assert rates == pytest.approx([0.05, 0.025, 0.05e-4], rel=1e-3)
    assert make(model="skipgram").lr == 0.025


# What is drawn


def draws(function: Callable[[plain.Random], int], number: int) -> NDArray[np.int64]:
    random = plain.Random(np.array([11], np.uint64))
    return np.array([function(random) for _ in range(number)])


def test_noise_has_the_distribution_count_to_the_three_quarters(zipf: tuple[Vocabulary, Ids]) -> None:
    counts = zipf[0].counts
    noise = Noise.of(counts, 0.75)
    drawn = draws(lambda random: next(plain._noise(1, noise.threshold, noise.alias, random)), 40_000)
    shares = counts**0.75 / (counts**0.75).sum()
    assert chisquare(np.bincount(drawn, minlength=30), 40_000 * shares).pvalue > 1e-3
    # What the two tables say exactly, not by drawing.
    kept = (noise.threshold.astype(np.float64) + 1) / 2**32
    exact = kept + np.bincount(noise.alias, 1 - kept, minlength=30)
    np.testing.assert_allclose(exact / 30, shares, atol=1e-9)


def test_the_reach_of_a_window_is_uniform() -> None:
    assert chisquare(np.bincount(draws(lambda random: random.below(5), 10_000))).pvalue > 1e-3


def test_frequent_words_are_thinned_out_as_published() -> None:
    counts = np.array([1000, 100, 1])
    share = counts / counts.sum()
    expected = np.minimum(1, np.sqrt(0.01 / share) + 0.01 / share)
    np.testing.assert_allclose(keep_probabilities(counts, 0.01), expected)
    assert in_32_bits(np.array([1.0, 0.5])).tolist() == [2**32 - 1, 2**31 - 1]


def test_the_tree_gives_each_word_a_path_of_its_own_with_the_least_mean_length() -> None:
    counts = np.array([40, 30, 20, 6, 3, 1])
    tree = Tree.of(counts)
    lengths = np.diff(tree.offsets)
    assert lengths.tolist() == [1, 2, 3, 4, 5, 5]  # Huffman's code of these counts
    codes = {tuple(tree.labels[start:end]) for start, end in zip(tree.offsets, tree.offsets[1:], strict=False)}
    assert not any(code != other and other[: len(code)] == code for code in codes for other in codes)
    assert sum(2.0**-lengths) == 1
    # Whatever the inner nodes hold, the probabilities of all words add up to one.
    scores = np.random.default_rng(0).normal(0, 2, 5)
    inside = np.where(tree.labels > 0.5, 1, -1) * scores[tree.nodes]
    assert np.exp(np.add.reduceat(-np.logaddexp(0, -inside), tree.offsets[:-1])).sum() == pytest.approx(1)


# gensim


def published_sigmoid(x: Any) -> Any:
    """The table of a thousand values that word2vec.c and gensim look into."""
    table = 1 / (1 + np.exp(-(np.arange(1000) / 1000 * 2 - 1) * 6))
    return table[((np.asarray(x) + 6) * (1000 // 6 // 2)).astype(int)]


def gensim_noise(model: Any, number: int) -> list[int]:
    """The words of noise that gensim's next call draws (word2vec_inner.pyx), without moving its random numbers."""
    generator = np.random.RandomState()
    generator.set_state(model.random.get_state())
    state = (2**24) * int(generator.randint(0, 2**24)) + int(generator.randint(0, 2**24))
    table, drawn = model.cum_table, []
    for _ in range(number):
        drawn.append(int(np.searchsorted(table, (state >> 16) % int(table[-1]))))
        state = (state * 25214903917 + 11) & 281474976710655
    return drawn


def gensim_model(**settings: Any) -> tuple[Any, list[str]]:
    """A gensim model of 400 words with weights that are not zero, and its words."""
    words = [f"w{number:03}" for number in range(400)]
    sentences = [words[:number] for number in range(1, 401)]
    model = gensim.models.Word2Vec(vector_size=16, window=1, min_count=1, sample=0, workers=1, seed=2, **settings)
    model.build_vocab(sentences)
    generator = np.random.default_rng(2)
    model.wv.vectors[:] = generator.normal(0, 0.4, (400, 16))
    (model.syn1 if model.hs else model.syn1neg)[:] = generator.normal(0, 0.4, (400, 16))
    return model, words


@pytest.mark.parametrize("skipgram", [True, False])
@pytest.mark.parametrize("tree", [False, True])
def test_a_sentence_moves_the_weights_as_in_gensim(way: str, skipgram: bool, tree: bool) -> None:
    """From the same weights, with the noise that gensim drew, all predictions of a sentence of three words.

    gensim looks the logistic function up in a table, to about 0.006. With that table our formula gives its weights
    to rounding; our own steps then differ by no more than the table does.
    """
    model, words = gensim_model(sg=int(skipgram), hs=int(tree), negative=0 if tree else 5)
    before = [np.array(matrix) for matrix in (model.wv.vectors, model.syn1 if tree else model.syn1neg)]
    noise = [] if tree else gensim_noise(model, 20)
    sentence = [words[4], words[9], words[77]]
    a, b, c = (model.wv.key_to_index[word] for word in sentence)
    model._do_train_job([sentence], 0.1, (np.zeros(16, np.float32), np.zeros(16, np.float32)))
    after = model.wv.vectors, model.syn1 if tree else model.syn1neg

    ours = Word2Vec(
        Word2VecSettings(dimension=16, hierarchical_softmax=tree, model="skipgram" if skipgram else "cbow"),
        Vocabulary(words, np.full(400, 2)),
        ids_of(0, 1),
    )
    exact = [matrix.astype(np.float64) for matrix in before]
    ours.inputs[:], ours.outputs[:] = before
    middle = [(b, [a]), (b, [c])] if skipgram else [(b, [a, c])]
    for number, (word, context) in enumerate([(a, [b]), *middle, (c, [b])]):
        if tree:
            rows = model.wv.get_vecattr(model.wv.index_to_key[word], "point").tolist()
            labels = [1.0 - bit for bit in model.wv.get_vecattr(model.wv.index_to_key[word], "code").tolist()]
        else:
            drawn = [other for other in noise[5 * number : 5 * number + 5] if other != word]
            assert len(set(drawn)) == len(drawn)  # of a word drawn twice gensim would score the second one later
            rows, labels = [word, *drawn], [1.0] + [0.0] * len(drawn)
        formulas.word2vec_step(
            exact[0], exact[1], context, rows, labels, 0.1, tree=tree, logistic=published_sigmoid
        )
        ours.learn(ids_of(*context), ids_of(*rows), np.array(labels, np.float32), 0.1)
    for theirs, formula, own, first in zip(after, exact, (ours.inputs, ours.outputs), before, strict=True):
        assert np.abs(theirs - first).max() > 0.02
        np.testing.assert_allclose(theirs, formula, rtol=0, atol=1e-6)
        np.testing.assert_allclose(own, theirs, rtol=0, atol=0.1 * 0.006 * np.abs(first).max() * 6)


# The optimum


def test_with_noise_the_scores_approach_the_pointwise_mutual_information_less_log_k() -> None:
    """Levy and Goldberg 2014. As published, noise that is the word itself is left out, as `exact` allows."""
    generator = np.random.default_rng(3)
    size, negative = 12, 2
    affinity = np.exp(generator.normal(0, 0.7, (size, size)))
    joint = affinity + affinity.T
    draws = generator.choice(size * size, 60_000, p=(joint / joint.sum()).ravel())
    pairs = np.stack(np.divmod(draws, size), 1)
    counts = np.bincount(pairs.ravel(), minlength=size)
    order = np.argsort(-counts, kind="stable")
    pairs = np.argsort(order)[pairs]
    vocabulary = Vocabulary([str(word) for word in range(size)], counts[order])
    ids = np.column_stack([pairs, np.full(len(pairs), -1)]).ravel().astype(np.int32)
    settings = Word2VecSettings(
        model="skipgram", dimension=16, window=1, epochs=40, negative=negative, sample=0, noise_power=1, lr=0.05
    )
    model = Word2Vec(settings, vocabulary, ids)
    model.train(never, quiet)
    together = np.zeros((size, size))
    np.add.at(together, (pairs[:, 0], pairs[:, 1]), 1)
    together += together.T  # each word of a pair is once the context
    of_word = together.sum(1)
    noise = of_word / of_word.sum()
    information = np.log(together * of_word.sum() / np.outer(of_word, of_word)) - np.log(negative)
    exact = np.log(together / (negative * noise * (of_word[:, None] - together)))
    scores = model.inputs @ model.outputs.T
    assert np.abs(scores - exact).mean() < 0.05
    assert np.corrcoef(scores.ravel(), information.ravel())[0, 1] > 0.98
