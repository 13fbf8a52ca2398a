"""GloVe: counts against a dictionary, steps against the published formula in float64 and autograd."""

import tracemalloc
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from groundup.words import formulas
from groundup.words.cooccurrence import PAIR, RECORD, count_cooccurrences, merge, shuffle
from groundup.words.glove import Glove
from groundup.words.settings import GloveSettings
from groundup.words.vocabulary import Vocabulary

from .conftest import Ids, never, quiet


def counted_simply(ids: Ids, window: int) -> dict[tuple[int, int], float]:
    """All ordered pairs of words at most `window` apart within a document, with the sum of 1 / distance."""
    counts: defaultdict[tuple[int, int], float] = defaultdict(float)
    document: list[int] = []
    for word in ids.tolist():
        if word < 0:
            document = []
            continue
        for distance, other in enumerate(reversed(document[-window:]), 1):
            counts[word, other] += 1 / distance
            counts[other, word] += 1 / distance
        document.append(word)
    return dict(counts)


@pytest.mark.parametrize("memory", [1 << 29, 40_000, 700], ids=["at once", "runs", "tiny runs"])
@pytest.mark.parametrize("window", [1, 4, 15])
def test_cooccurrences_are_those_of_a_dictionary(
    zipf: tuple[Vocabulary, Ids], tmp_path: Path, window: int, memory: int
) -> None:
    ids = zipf[1]
    if memory == 700:
        ids = ids[:200]  # every run holds a few words
    told: list[int] = []
    pairs = count_cooccurrences(ids, 30, window, tmp_path, memory, told.append)
    assert sum(told) == len(ids)
    keys = np.fromfile(pairs, PAIR)["key"]
    assert (np.diff(keys) > 0).all()
    records = np.fromfile(shuffle(pairs, 30, tmp_path, seed=1, memory=memory), RECORD)
    expected = counted_simply(ids, window)
    assert len(records) == len(expected)
    for row, column, count in records.tolist():
        assert count == pytest.approx(expected[row, column], rel=1e-12)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs", "records"]


def test_counting_and_shuffling_stay_within_their_memory(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 3000, 60_000).astype(np.int32)
    memory = 4_000_000  # the pairs alone, all at once, are 600,000 of 16 bytes and their copies
    tracemalloc.start()
    shuffle(count_cooccurrences(ids, 3000, 10, tmp_path, memory), 3000, tmp_path, 0, memory)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < memory


def test_merging_holds_no_more_than_a_block_of_each_run(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    runs, whole = [], defaultdict[int, float](float)
    for number in range(4):
        run = np.zeros(1000, PAIR)
        run["key"] = np.sort(generator.choice(3000, 1000, replace=False))
        run["count"] = generator.random(1000)
        run.tofile(tmp_path / str(number))
        runs.append(tmp_path / str(number))
        for key, count in run.tolist():
            whole[key] += count
    blocks = list(merge(runs, memory=4 * 50 * 96))
    assert max(map(len, blocks)) <= 4 * 50
    merged = np.concatenate(blocks)
    assert merged["key"].tolist() == sorted(whole)
    np.testing.assert_allclose(merged["count"], [whole[key] for key in sorted(whole)])


def test_records_are_shuffled_over_the_whole_file(zipf: tuple[Vocabulary, Ids], tmp_path: Path) -> None:
    pairs = count_cooccurrences(zipf[1], 30, 5, tmp_path)
    for memory in (1 << 29, 8000):
        records = np.fromfile(shuffle(pairs, 30, tmp_path, seed=3, memory=memory), RECORD)
        place = np.arange(len(records))
        assert abs(np.corrcoef(place, records["row"])[0, 1]) < 0.15
        assert abs(np.corrcoef(place, records["column"])[0, 1]) < 0.15


@pytest.fixture
def records(zipf: tuple[Vocabulary, Ids], tmp_path: Path) -> Path:
    return shuffle(count_cooccurrences(zipf[1], 30, 5, tmp_path), 30, tmp_path, seed=0)


def widened(side: tuple[NDArray[np.float32], ...]) -> list[NDArray[np.float64]]:
    return [array.astype(np.float64) for array in side]


def test_an_epoch_is_that_of_the_formula_in_float64(records: Path, way: str) -> None:
    settings = GloveSettings(dimension=10, epochs=1, most=10)
    model = Glove(settings, 30, records)
    words, contexts = widened(model.words), widened(model.contexts)
    costs = [
        formulas.glove_step(words, contexts, row, column, count, 0.05, 10, 0.75)
        for row, column, count in np.fromfile(records, RECORD).tolist()
    ]
    model.train(never, quiet)
    assert model.tally.loss == pytest.approx(np.mean(costs), rel=1e-5)
    for side, exact in ((model.words, words), (model.contexts, contexts)):
        for array, formula in zip(side, exact, strict=True):
            np.testing.assert_allclose(array, formula, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(model.vectors, (model.words[0] + model.contexts[0])[:, :10])


def test_a_step_follows_the_gradient_of_the_published_loss() -> None:
    """With AdaGrad's sums at 1, the first step is the gradient times the rate; the sums take its square."""
    generator = np.random.default_rng(0)
    for count in (3.0, 500.0):
        sides = [[generator.normal(size=(4, 6)), generator.normal(size=4)] for _ in range(2)]
        tensors = [[torch.tensor(array, requires_grad=True) for array in side] for side in sides]
        (words, biases), (contexts, context_biases) = tensors
        weight = min(count / 100, 1) ** 0.75
        difference = words[1] @ contexts[2] + biases[1] + context_biases[2] - np.log(count)
        loss = 0.5 * weight * difference**2
        loss.backward()
        whole = [[*side, *(np.ones_like(array) for array in side)] for side in sides]
        arrays = [side[0][[place]] for side, place in zip(sides, (1, 2), strict=True)]
        formula = formulas.glove_loss(*arrays, sides[0][1][[1]], sides[1][1][[2]], np.array([count]), 100, 0.75)
        assert formula == pytest.approx(loss.item())
        assert formulas.glove_step(*whole, 1, 2, count, 0.05, 100, 0.75) == pytest.approx(loss.item())
        for side, tensor_side in zip(whole, tensors, strict=True):
            for number, tensor in enumerate(tensor_side):
                assert tensor.grad is not None
                step = 0.05 * tensor.grad.numpy()
                np.testing.assert_allclose(side[number], tensor.detach().numpy() - step, atol=1e-12)
                np.testing.assert_allclose(side[number + 2], 1 + step**2, atol=1e-12)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_loss_falls_far_and_what_is_stopped_goes_on(records: Path, threads: int) -> None:
    settings = GloveSettings(dimension=24, epochs=120, threads=threads, most=10)
    whole = Glove(settings, 30, records)
    losses: list[float] = []
    whole.train(never, lambda tally: losses.append(tally.loss or 0))
    assert whole.finished
    assert losses[-1] < 0.2 * losses[0]

    first, second = (Glove(settings, 30, records) for _ in range(2))
    first.train(lambda: first.tally.done >= first.total // 2, quiet)
    assert not first.finished
    second.restore(first.state())
    second.train(never, quiet)
    assert second.tally.done == whole.tally.done == whole.total
    if threads == 1:
        assert np.array_equal(second.vectors, whole.vectors)
