"""What BERT is asked: the sampler's statistics, what it never touches, and that no answer is in the question."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chi2, chisquare

from groundup.errors import UserError
from groundup.model.families.bert import Bert
from groundup.model.registry import build_any
from groundup.objective import IGNORED, OBJECTIVES, Objective, Setting
from groundup.objective.encoder_rows import choose_words
from groundup.objective.masked import ELSEWHERE, FOLLOWS, MaskedBatch, masked
from groundup.recipe import TrainRecipe
from groundup.shape import Shape
from groundup.train.step import TrainStep

ORDINARY, CONTEXT = 40, 34
SPECIAL = {"<|endoftext|>": 40, "<|mask|>": 41, "<|cls|>": 42, "<|sep|>": 43, "<|pad|>": 44}
END, MASK, CLS, SEP = (SPECIAL[f"<|{name}|>"] for name in ("endoftext", "mask", "cls", "sep"))
STARTS_WORD = np.arange(45) % 3 == 0  # and so do special tokens, which are no part of a word whatever is said here
SURE = 1e-4  # what a true sampler falls below once in 10,000 tests; the seeds are fixed


def _shape(context: int = CONTEXT, **options: bool) -> Shape:
    return Shape(
        family="bert", num_layers=2, width=32, num_heads=4, num_kv_heads=4, head_width=8, feedforward_width=48,
        vocabulary_size=45, context=context, norm_epsilon=1e-12, options=options,
    )  # fmt: skip


def _objective(context: int = CONTEXT, seed: int = 1, **options: bool) -> Objective:
    return masked(Setting(seed=seed, shape=_shape(context, **options), special=SPECIAL, starts_word_V=STARTS_WORD))


def _windows(count: int, context: int = CONTEXT, *, seed: int = 0, parts: int = 1) -> np.ndarray:
    """Every tenth token ends a document."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, ORDINARY, (count, parts * (context + 1)))
    return np.where(random.random(ids.shape) < 0.1, END, ids)


def _originals(batch: MaskedBatch) -> torch.Tensor:
    return torch.where(batch.targets == IGNORED, batch.inputs_BT, batch.targets)


def test_a_row_is_a_window_between_its_marks() -> None:
    windows = _windows(50)
    batch = _objective().collate(windows)
    assert batch.inputs_BT.shape == (50, CONTEXT)
    rows = _originals(batch)
    assert (rows[:, 0] == CLS).all()
    assert (rows[:, -1] == SEP).all()
    assert (rows[:, 1:-1].numpy() == windows[:, : CONTEXT - 2]).all()
    assert batch.segments_BT is None
    assert batch.origins_B is None
    assert batch.num_targets == int((batch.targets != IGNORED).sum())


@settings(max_examples=60, deadline=None)
@given(
    first=st.integers(0, 10**9),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    seed=st.integers(0, 2**31),
    whole_word=st.booleans(),
    next_sentence=st.booleans(),
)
def test_rows_of_any_batch(first: int, sizes: list[int], seed: int, whole_word: bool, next_sentence: bool) -> None:
    """The same however they are divided; special tokens are never asked; 15 % of the others are, or one."""
    objective = _objective(seed=seed, whole_word=whole_word, next_sentence=next_sentence)
    windows = _windows(sum(sizes), seed=first, parts=2 if next_sentence else 1)
    whole: MaskedBatch = objective.collate(windows, first)
    starts = np.cumsum([0, *sizes])
    pieces = [objective.collate(windows[start:end], first + int(start)) for start, end in pairwise(starts)]
    for name in ("inputs_BT", "targets", "segments_BT", "origins_B"):
        parts = [getattr(piece, name) for piece in pieces]
        if parts[0] is not None:
            assert torch.equal(torch.cat(parts), getattr(whole, name))
    chosen = whole.targets != IGNORED
    assert (whole.targets[chosen] < ORDINARY).all()
    assert ((whole.inputs_BT[chosen] < ORDINARY) | (whole.inputs_BT[chosen] == MASK)).all()
    candidates = (_originals(whole) < ORDINARY).sum(1)
    wanted = (0.15 * candidates).round().clamp_min(1)
    counts = chosen.sum(1)
    assert (counts >= 1).all()
    if not whole_word:
        assert torch.equal(counts, wanted.long())


def test_another_seed_or_number_draws_anew() -> None:
    windows = np.repeat(_windows(1), 20, axis=0)
    batch = _objective().collate(windows, 7)
    assert len({tuple(row) for row in batch.inputs_BT.tolist()}) > 15
    assert torch.equal(_objective().collate(windows, 7).inputs_BT, batch.inputs_BT)
    assert not torch.equal(_objective(seed=2).collate(windows, 7).inputs_BT, batch.inputs_BT)


def test_a_row_of_special_tokens_asks_nothing() -> None:
    objective = _objective()
    batch = objective.collate(np.full((2, CONTEXT + 1), END))
    assert batch.num_targets == 0
    assert float(objective.loss(build_any(_shape()), batch).mean.detach()) == 0


def _plain(count: int, **options: bool) -> tuple[MaskedBatch, np.ndarray]:
    """A batch of windows without special tokens, and what is chosen in it (count, 32)."""
    windows = np.random.default_rng(5).integers(0, ORDINARY, (count, CONTEXT + 1))
    batch = _objective(**options).collate(windows)
    return batch, (batch.targets != IGNORED).numpy()[:, 1:-1]


def test_positions_are_chosen_alike() -> None:
    """Five of 32 in each row, each position as often as any, and pairs of neighbours as often as chance says."""
    _, chosen = _plain(6000)
    assert (chosen.sum(1) == 5).all()
    # Five of 32 without replacement: the counts vary less than independent ones, by 27/31.
    counts = chosen.sum(0)
    expected = 6000 * 5 / 32
    statistic = ((counts - expected) ** 2 / expected).sum() * (32 - 1) / (32 - 5)
    assert chi2.sf(statistic, 31) > SURE
    neighbours = int((chosen[:, 1:] & chosen[:, :-1]).sum())
    pairs = 6000 * 31 * (5 * 4) / (32 * 31)
    assert abs(neighbours - pairs) < 5 * pairs**0.5


def test_80_10_10() -> None:
    """Chi-square: hidden, exchanged for another or left; an exchange for itself is one of 40."""
    batch, _ = _plain(8000)
    chosen = batch.targets != IGNORED
    shown, true = batch.inputs_BT[chosen], batch.targets[chosen]
    total = len(true)
    assert total == 40_000
    counts = [(shown == MASK).sum(), ((shown != MASK) & (shown != true)).sum(), (shown == true).sum()]
    shares = [0.8, 0.1 * (1 - 1 / ORDINARY), 0.1 + 0.1 / ORDINARY]
    assert chisquare([int(count) for count in counts], np.array(shares) * total).pvalue > SURE
    exchanged = shown[(shown != MASK) & (shown != true)]
    assert chisquare(np.bincount(exchanged, minlength=ORDINARY)).pvalue > SURE


def test_fates_of_a_row_are_independent() -> None:
    """How many of a row's five are hidden is binomial."""
    batch, _ = _plain(6000)
    hidden = ((batch.inputs_BT == MASK).sum(1)).numpy()
    observed = np.bincount(hidden, minlength=6)
    expected = binom.pmf(np.arange(6), 5, 0.8) * 6000
    merged = [observed[:2].sum(), *observed[2:]], [expected[:2].sum(), *expected[2:]]
    assert chisquare(*merged).pvalue > SURE


def test_whole_words_are_taken_together() -> None:
    """Nothing of a word is left out, and the share is still near 15 %."""
    windows = _windows(2000)
    batch = _objective(whole_word=True).collate(windows)
    rows, chosen = _originals(batch).numpy(), (batch.targets != IGNORED).numpy()
    goes_on = np.zeros_like(chosen)
    plain = rows < ORDINARY
    goes_on[:, 1:] = plain[:, 1:] & plain[:, :-1] & ~STARTS_WORD[rows[:, 1:]]
    assert (chosen[:, 1:] == chosen[:, :-1])[goes_on[:, 1:]].all()
    assert goes_on.any()
    wanted = np.maximum(1, np.round(0.15 * plain.sum(1)))
    assert (chosen.sum(1) <= wanted).mean() > 0.99  # but where the shortest word is longer than that
    assert chosen.sum() > 0.97 * wanted.sum()


def test_words_are_chosen_alike_by_their_length() -> None:
    """With room for all that is drawn, any order of words is as likely: the first fill up the room."""
    words = [np.arange(start, start + 2) for start in range(0, 20, 2)]
    random = np.random.default_rng(0)
    chosen = np.concatenate([choose_words(words, 4, random)[::2] for _ in range(4000)])
    assert len(chosen) == 8000
    counts = np.bincount(chosen // 2, minlength=10)
    statistic = ((counts - 800) ** 2 / 800).sum() * 9 / 8
    assert chi2.sf(statistic, 9) > SURE


@pytest.mark.parametrize(("lengths", "expected"), [([9, 5, 7], 5), ([3, 9], 3), ([1], 1)])
def test_a_row_of_long_words_gives_its_shortest(lengths: list[int], expected: int) -> None:
    words = np.split(np.arange(sum(lengths)), np.cumsum(lengths)[:-1])
    for seed in range(10):
        chosen = choose_words(words, min(lengths), np.random.default_rng(seed))
        assert len(choose_words(words, 1, np.random.default_rng(seed))) == expected
        assert len(chosen) == expected


def test_pairs_are_a_window_or_two() -> None:
    """Half of the second texts go on where the first ends; the others are how the partner begins."""
    windows = _windows(4000, parts=2)
    batch = _objective(next_sentence=True).collate(windows)
    assert batch.segments_BT is not None
    assert batch.origins_B is not None
    rows, origins = _originals(batch).numpy(), batch.origins_B.numpy()
    room = CONTEXT - 3
    middle = room // 2
    assert (rows[:, 0] == CLS).all()
    assert (rows[:, [middle + 1, CONTEXT - 1]] == SEP).all()
    assert (rows[:, 1 : middle + 1] == windows[:, :middle]).all()
    second = rows[:, middle + 2 : -1]
    follows = origins == FOLLOWS
    assert set(origins) == {FOLLOWS, ELSEWHERE}
    assert (second[follows] == windows[follows, middle:room]).all()
    assert (second[~follows] == windows[~follows, CONTEXT + 1 : CONTEXT + 1 + room - middle]).all()
    assert (batch.segments_BT == torch.tensor([0] * (middle + 2) + [1] * (room - middle + 1))).all()
    assert chisquare([follows.sum(), (~follows).sum()]).pvalue > SURE


def _model(**options: bool) -> Bert:
    model, generator = build_any(_shape(**options), seed=1), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    assert isinstance(model, Bert)
    return model.eval()


@pytest.mark.parametrize("options", [{}, {"whole_word": True}, {"next_sentence": True}])
def test_the_hidden_token_is_not_in_the_question(options: dict[str, bool]) -> None:
    """Windows that differ in what gets hidden give the same logits, bit for bit; only the targets differ."""
    objective, model = _objective(**options), _model(**options)
    windows = _windows(6, parts=2 if options.get("next_sentence") else 1)
    batch: MaskedBatch = objective.collate(windows)
    hidden = batch.inputs_BT == MASK
    assert hidden.any()
    changed = windows.copy()
    places = np.argwhere(hidden.numpy())
    middle = (CONTEXT - 3) // 2
    for row, place in places:
        at = place - 1
        if batch.segments_BT is not None and batch.origins_B is not None and batch.segments_BT[row, place]:
            at = place - 2 if batch.origins_B[row] == FOLLOWS else CONTEXT + 1 + place - 2 - middle
        # Another token of the same kind, so that the same words are chosen.
        changed[row, at] = (changed[row, at] + 3) % 39 if changed[row, at] < 39 else 0
    other: MaskedBatch = objective.collate(changed)
    assert torch.equal(other.inputs_BT, batch.inputs_BT)
    assert (other.targets != batch.targets)[hidden].all()
    assert torch.equal(other.targets[~hidden], batch.targets[~hidden])
    with torch.no_grad():
        said = model(batch.inputs_BT, batch.segments_BT)
        assert torch.equal(model(other.inputs_BT, other.segments_BT), said)


def test_no_gradient_reaches_the_embedding_of_a_hidden_token() -> None:
    """A token that stands in a row only under masks: its embedding enters no logit but as an answer."""
    objective, model = _objective(), _model()
    # What answers are compared with is the same matrix, and not what is looked at here.
    model.head.register_forward_pre_hook(lambda head, given: (given[0], given[1].detach()))
    batch: MaskedBatch = objective.collate(_windows(1, seed=4))
    objective.loss(model, batch).mean.backward()
    reached = model.embedding.weight.grad.abs().amax(1) > 0
    shown = torch.zeros(45, dtype=torch.bool)
    shown[batch.inputs_BT.flatten()] = True
    assert torch.equal(reached, shown)
    only_hidden = set(batch.targets[0].tolist()) - set(batch.inputs_BT[0].tolist()) - {IGNORED}
    assert only_hidden
    assert not reached[list(only_hidden)].any()


def test_the_loss_is_the_mean_surprise_at_the_chosen_tokens() -> None:
    """By a plain sum over positions; next sentences add theirs; hits are counted in evaluation."""
    objective, model = _objective(next_sentence=True), _model(next_sentence=True)
    batch: MaskedBatch = objective.collate(_windows(5, parts=2))
    with torch.no_grad():
        loss = objective.loss(model, batch)
        said = model(batch.inputs_BT, batch.segments_BT).double().log_softmax(-1)
        origins = model.next_sentence_logits(model.features(batch.inputs_BT, batch.segments_BT)).double()
    places = (batch.targets != IGNORED).nonzero().tolist()
    surprises = [-float(said[row, place, batch.targets[row, place]]) for row, place in places]
    hits = sum(int(said[row, place].argmax() == batch.targets[row, place]) for row, place in places)
    assert batch.origins_B is not None
    of_pairs = -origins.log_softmax(-1)[torch.arange(5), batch.origins_B].mean()
    assert loss.num_targets == len(places)
    assert loss.num_correct == hits
    assert abs(float(loss.mean) - (sum(surprises) / len(surprises) + float(of_pairs))) < 1e-5


def test_documents_cannot_be_kept_apart() -> None:
    with pytest.raises(UserError, match=r"leave data\.packing unset"):
        masked(Setting(shape=_shape(), special=SPECIAL, border=END))


def _learn(objective: Objective, model: Any, make_rows: Any, steps: int, lr: float) -> None:
    """A few steps as training takes them; rows are made as they are needed."""
    settings = TrainRecipe(optimizer="adamw", lr=lr, weight_decay=0.0)
    step = TrainStep(model, objective, settings, precision="fp32", device="cpu")
    for number in range(steps):
        rate = lr * min(1.0, (number + 1) / 20) * (1 - number / steps)
        assert step(make_rows(number), rate, first=32 * number).usable


def _counting(count: int, seed: int, context: int = 18) -> np.ndarray:
    """Windows that count up from anywhere, so that any other token tells a hidden one."""
    first = np.random.default_rng(seed).integers(0, ORDINARY, (count, 1))
    return (first + np.arange(context + 1)) % ORDINARY


def test_it_learns_what_stands_around_a_gap() -> None:
    """Chance is one in 40."""
    objective = _objective(context=18)
    model = build_any(_shape(18), seed=1)
    _learn(objective, model, lambda number: _counting(32, number), 300, 1e-2)
    held: MaskedBatch = objective.collate(_counting(200, seed=10**6), first=10**6)
    with torch.no_grad():
        loss = objective.loss(model.eval(), held)
    assert loss.num_correct is not None
    assert loss.num_correct > 0.6 * loss.num_targets


def test_it_is_found_by_name() -> None:
    assert not OBJECTIVES["masked"](Setting(shape=_shape(), special=SPECIAL)).in_nats_per_token
