"""What PERT is asked: the sampler's statistics, what it never touches, and that it can be learnt."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chisquare

from groundup.model.families.pert import Pert
from groundup.model.registry import build_any
from groundup.objective import IGNORED, OBJECTIVES, Objective, Setting
from groundup.objective.encoder_rows import choose_ngrams, ngrams
from groundup.objective.positions import ShuffledBatch, positions
from groundup.recipe import TrainRecipe
from groundup.shape import Shape
from groundup.train.step import TrainStep

ORDINARY, CONTEXT = 40, 42
SPECIAL = {"<|endoftext|>": 40, "<|cls|>": 41, "<|sep|>": 42, "<|pad|>": 43}
END, CLS, SEP = (SPECIAL[f"<|{name}|>"] for name in ("endoftext", "cls", "sep"))
STARTS_WORD = np.arange(44) % 3 == 0
SURE = 1e-4  # what a true sampler falls below once in 10,000 tests; the seeds are fixed


def _shape(context: int = CONTEXT) -> Shape:
    return Shape(
        family="pert", num_layers=2, width=32, num_heads=4, num_kv_heads=4, head_width=8, feedforward_width=48,
        vocabulary_size=44, context=context, norm_epsilon=1e-12,
    )  # fmt: skip


def _objective(context: int = CONTEXT, seed: int = 1, starts_word_V: np.ndarray | None = STARTS_WORD) -> Objective:
    return positions(Setting(seed=seed, shape=_shape(context), special=SPECIAL, starts_word_V=starts_word_V))


def _windows(count: int, *, seed: int = 0, ends: float = 0.1) -> np.ndarray:
    random = np.random.default_rng(seed)
    ids = random.integers(0, ORDINARY, (count, CONTEXT + 1))
    return np.where(random.random(ids.shape) < ends, END, ids)


def _originals(batch: ShuffledBatch) -> torch.Tensor:
    """Each asked position's token is where its target says."""
    places = torch.arange(batch.targets.shape[1]).expand_as(batch.targets)
    return batch.inputs_BT.gather(1, torch.where(batch.targets == IGNORED, places, batch.targets))


@settings(max_examples=60, deadline=None)
@given(
    first=st.integers(0, 10**9),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    seed=st.integers(0, 2**31),
    ends=st.sampled_from([0.0, 0.1, 0.8]),
)
def test_rows_of_any_batch(first: int, sizes: list[int], seed: int, ends: float) -> None:
    """The same however they are divided; the targets undo the shuffling; special tokens stay where they are."""
    objective, windows = _objective(seed=seed), _windows(sum(sizes), seed=first, ends=ends)
    whole: ShuffledBatch = objective.collate(windows, first)
    starts = np.cumsum([0, *sizes])
    pieces = [objective.collate(windows[start:end], first + int(start)) for start, end in pairwise(starts)]
    assert torch.equal(torch.cat([piece.inputs_BT for piece in pieces]), whole.inputs_BT)
    assert torch.equal(torch.cat([piece.targets for piece in pieces]), whole.targets)
    rows = _originals(whole)
    assert (rows[:, 0] == CLS).all()
    assert (rows[:, -1] == SEP).all()
    assert (rows[:, 1:-1].numpy() == windows[:, : CONTEXT - 2]).all()
    chosen = whole.targets != IGNORED
    assert (rows[chosen] < ORDINARY).all()
    assert torch.equal(whole.inputs_BT[~chosen], rows[~chosen])
    for row, asked in zip(whole.targets, chosen, strict=True):
        assert sorted(row[asked].tolist()) == asked.nonzero()[:, 0].tolist()  # among themselves
    assert (chosen.sum(1) >= (rows < ORDINARY).sum(1).clamp_max(1)).all()


def _plain(count: int) -> ShuffledBatch:
    """Windows of 40 ordinary tokens, each a word: six of them are chosen."""
    windows = np.random.default_rng(5).integers(0, ORDINARY, (count, CONTEXT + 1))
    return _objective(starts_word_V=None).collate(windows)


def test_15_per_cent_are_chosen_everywhere_and_10_per_cent_of_them_stay() -> None:
    """How many of a row's stay is binomial, but that a single one that should move has nowhere to go."""
    batch = _plain(4000)
    chosen = batch.targets != IGNORED
    assert chosen.sum(1).double().mean() > 5.9  # of six; rarely nothing fits into what is left
    rows = chosen.sum(1) == 6
    stay = ((batch.targets == torch.arange(CONTEXT)) & chosen).sum(1)[rows].numpy()
    observed = np.bincount(stay, minlength=7)
    share = binom.pmf(np.arange(7), 6, 0.1)
    share[6] += share[5]
    share[5] = 0
    expected = share * rows.sum().item()
    merged = [*observed[:3], observed[3:].sum()], [*expected[:3], expected[3:].sum()]
    assert chisquare(*merged).pvalue > SURE


def test_a_moved_token_goes_to_any_other_place_alike() -> None:
    """Of six that all move, each of the five others is as likely."""
    batch = _plain(6000)
    chosen = batch.targets != IGNORED
    moved = ((batch.targets != torch.arange(CONTEXT)) & chosen).sum(1) == 6
    assert moved.sum() > 2000
    table = np.zeros((6, 6), int)
    for row in batch.targets[moved].numpy():
        places = np.flatnonzero(row != IGNORED)
        table[np.arange(6), np.searchsorted(places, row[places])] += 1
    assert not table.diagonal().any()
    for counts in table:
        assert chisquare(counts[counts > 0]).pvalue > SURE
        assert (counts > 0).sum() == 5


def test_ngrams_have_their_lengths_and_begin_anywhere() -> None:
    firsts, lengths = map(np.array, ngrams(30, 20_000, np.random.default_rng(0)))
    counts = np.bincount(lengths)[1:]
    assert chisquare(counts, np.array([0.4, 0.3, 0.2, 0.1]) * 20_000).pvalue > SURE
    for length in range(1, 5):
        begun = np.bincount(firsts[lengths == length], minlength=31 - length)
        assert len(begun) == 31 - length
        assert chisquare(begun).pvalue > SURE


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), max_size=20), number=st.integers(1, 30), seed=st.integers(0, 99))
def test_what_is_chosen_is_whole_and_fits(sizes: list[int], number: int, seed: int) -> None:
    words = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]) if sizes else []
    chosen = choose_ngrams(words, number, np.random.default_rng(seed))
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(chosen) <= max(number, min(sizes, default=0))
    assert len(chosen) > 0 or not words
    for word in words:
        assert len(set(word) & set(chosen)) in {0, len(word)}


def test_whole_words_are_taken_together() -> None:
    batch = _objective().collate(_windows(2000))
    rows, chosen = _originals(batch).numpy(), (batch.targets != IGNORED).numpy()
    plain = rows < ORDINARY
    goes_on = plain[:, 1:] & plain[:, :-1] & ~STARTS_WORD[rows[:, 1:]]
    assert goes_on.any()
    assert (chosen[:, 1:] == chosen[:, :-1])[goes_on].all()


def test_a_row_of_special_tokens_asks_nothing() -> None:
    objective = _objective()
    batch = objective.collate(np.full((2, CONTEXT + 1), END))
    assert batch.num_targets == 0
    assert float(objective.loss(build_any(_shape()), batch).mean.detach()) == 0


def test_the_loss_is_the_mean_surprise_at_the_chosen_positions() -> None:
    """By a plain sum, of the same logits whatever the targets: what is asked is not in the question."""
    objective, model = _objective(), build_any(_shape(), seed=1).eval()
    windows = _windows(4, ends=0.0)
    batch: ShuffledBatch = objective.collate(windows)
    mirrored = replace(batch, targets=torch.where(batch.targets == IGNORED, IGNORED, CONTEXT - 1 - batch.targets))
    with torch.no_grad():
        assert isinstance(model, Pert)
        said = model(batch.inputs_BT).double().log_softmax(-1)
        losses = [objective.loss(model, asked) for asked in (batch, mirrored)]
    for asked, loss in zip((batch, mirrored), losses, strict=True):
        places = (asked.targets != IGNORED).nonzero().tolist()
        surprises = [-float(said[row, place, asked.targets[row, place]]) for row, place in places]
        assert abs(float(loss.mean) - sum(surprises) / len(surprises)) < 1e-5
        assert loss.num_targets == len(places)
        assert loss.num_correct == sum(
            int(said[row, place].argmax() == asked.targets[row, place]) for row, place in places
        )


def _counting(count: int, seed: int, context: int) -> np.ndarray:
    first = np.random.default_rng(seed).integers(0, ORDINARY, (count, 1))
    return (first + np.arange(context + 1)) % ORDINARY


def test_it_learns_to_put_texts_in_order() -> None:
    """Chance is one in 20."""
    context = 20
    objective, model = _objective(context, starts_word_V=None), build_any(_shape(context), seed=1)
    lr, steps = 1e-2, 300
    settings = TrainRecipe(optimizer="adamw", lr=lr, weight_decay=0.0)
    step = TrainStep(model, objective, settings, precision="fp32", device="cpu")
    for number in range(steps):
        rate = lr * min(1.0, (number + 1) / 20) * (1 - number / steps)
        assert step(_counting(32, number, context), rate, first=32 * number).usable
    held: ShuffledBatch = objective.collate(_counting(200, 10**6, context), first=10**6)
    with torch.no_grad():
        loss = objective.loss(model.eval(), held)
    assert loss.num_correct is not None
    assert loss.num_correct > 0.8 * loss.num_targets


def test_it_is_found_by_name() -> None:
    assert not OBJECTIVES["positions"](Setting(shape=_shape(), special=SPECIAL)).in_nats_per_token
