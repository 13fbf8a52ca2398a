import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.model.registry import build_any
from groundup.objective import OBJECTIVES, Objective, Setting
from groundup.objective.denoising import noise_counts, noise_mask, with_sentinels
from groundup.recipe import TrainRecipe
from groundup.shape import FAMILIES, Shape
from groundup.train.step import TrainStep

NUM_TEXT = 50
NAMES = ["<|endoftext|>", *FAMILIES["t5"].special_tokens]
SPECIAL = {name: NUM_TEXT + number for number, name in enumerate(NAMES)}
SENTINELS = [SPECIAL[f"<|extra_{number}|>"] for number in range(32)]
END, PAD = SPECIAL["<|endoftext|>"], SPECIAL["<|pad|>"]


def _shape(context: int) -> Shape:
    return Shape(
        family="t5",
        num_layers=1,
        width=32,
        num_heads=2,
        num_kv_heads=2,
        head_width=16,
        feedforward_width=64,
        vocabulary_size=NUM_TEXT + len(NAMES),
        context=context,
    )


def _objective(context: int, seed: int = 1) -> Objective:
    return OBJECTIVES["denoising"](Setting(seed=seed, shape=_shape(context), special=SPECIAL))


def _windows(count: int, context: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, NUM_TEXT, (count, context + 1))


def test_sentinels_go_down_as_in_t5() -> None:
    """The first span's has the highest id of the vocabulary."""
    assert [SENTINELS[0] - number for number in range(32)] == SENTINELS
    assert SENTINELS[0] == NUM_TEXT + len(NAMES) - 1


@settings(max_examples=100, deadline=None)
@given(st.integers(8, 600), st.integers(0, 10_000))
def test_source_and_target_make_up_the_text(context: int, seed: int) -> None:
    """Each sentinel of the source gives way to what stands behind the same one in the target."""
    windows = _windows(2, context)
    batch = _objective(context, seed).collate(windows, first=seed)
    num_noise, num_spans = noise_counts(context)
    assert batch.source_BS.shape == (2, context - num_noise + num_spans)
    assert batch.keep_BS.all()
    assert batch.num_targets == 2 * (num_noise + num_spans + 1)
    for window, source, inputs, targets in zip(
        windows, batch.source_BS.tolist(), batch.inputs_BT.tolist(), batch.targets.tolist(), strict=True
    ):
        assert targets[-1] == END
        assert inputs == [PAD, *targets[:-1]]
        spans: dict[int, list[int]] = {}
        for token in targets[:-1]:
            if token in SENTINELS:
                spans[token] = []
            else:
                spans[list(spans)[-1]].append(token)
        assert list(spans) == SENTINELS[:num_spans] == [token for token in source if token in SENTINELS]
        assert all(spans.values())
        assert source[0] not in SENTINELS
        text = list(itertools.chain.from_iterable(spans.get(token, [token]) for token in source))
        assert text == window[:-1].tolist()


@settings(deadline=None)
@given(st.integers(8, 2000))
def test_noise_is_a_share_of_15_in_100_in_spans_of_3(length: int) -> None:
    num_noise, num_spans = noise_counts(length)
    assert abs(num_noise - 0.15 * length) <= 0.5 or num_noise == 1
    assert abs(num_spans - num_noise / 3) <= 0.5 or num_spans == 1
    assert noise_mask(length, np.random.default_rng(length)).sum() == num_noise


def _p_value(observed: np.ndarray, expected: np.ndarray) -> float:
    """Pearson's chi-square."""
    assert observed.sum() == pytest.approx(expected.sum())
    statistic = ((observed - expected) ** 2 / expected).sum()
    freedom = torch.tensor((len(observed) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, torch.tensor(statistic / 2, dtype=torch.float64)))


def _runs(noise: np.ndarray) -> list[tuple[bool, int]]:
    return [(bool(value), len(list(run))) for value, run in itertools.groupby(noise.tolist())]


def test_spans_take_turns_with_text_and_have_t5s_lengths() -> None:
    """Of m tokens in k spans, a span has length l in C(m - 1 - l, k - 2) of C(m - 1, k - 1) divisions."""
    length, count = 96, 3000
    num_noise, num_spans = noise_counts(length)
    assert (num_noise, num_spans) == (14, 5)
    generator, firsts, texts = np.random.default_rng(3), Counter[int](), Counter[int]()
    for _ in range(count):
        runs = _runs(noise_mask(length, generator))
        assert [noisy for noisy, _ in runs] == [False, True] * num_spans
        lengths = [size for noisy, size in runs if noisy]
        assert np.mean(lengths) == 14 / 5
        firsts[lengths[0]] += 1
        texts[runs[2][1]] += 1
    for seen, total in ((firsts, num_noise), (texts, length - num_noise)):
        longest = total - num_spans + 1
        expected = np.array(
            [count * math.comb(total - 1 - size, num_spans - 2) / math.comb(total - 1, num_spans - 1)
             for size in range(1, longest + 1)]
        )  # fmt: skip
        observed = np.array([seen[size] for size in range(1, longest + 1)])
        rare = expected < 5
        observed = np.append(observed[~rare], observed[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
        assert _p_value(observed, expected) > 0.001


def test_every_division_is_equally_likely() -> None:
    """Of 16 tokens: 2 noisy ones in one span, behind 14 of text; of 40, 6 in 2 spans and 34 in 2: 5 * 33 masks."""
    assert noise_counts(40) == (6, 2)
    generator, count = np.random.default_rng(5), 5 * 33 * 40
    seen = Counter(tuple(size for _, size in _runs(noise_mask(40, generator))) for _ in range(count))
    assert len(seen) == 5 * 33
    assert _p_value(np.array(list(seen.values())), np.full(5 * 33, 40.0)) > 0.001
    assert _runs(noise_mask(16, generator)) == [(False, 14), (True, 2)]


def test_runs_become_one_sentinel_each() -> None:
    tokens, noise = np.array([1, 2, 3, 4, 5, 6]), np.array([False, True, True, False, False, True])
    sentinels = np.array([90, 80, 70])
    assert with_sentinels(tokens, noise, sentinels).tolist() == [1, 90, 4, 5, 80]
    assert with_sentinels(tokens, ~noise, sentinels).tolist() == [90, 2, 3, 80, 6]


def test_a_row_draws_the_same_whatever_the_batch_is() -> None:
    windows, objective = _windows(6, 40), _objective(40)
    whole = objective.collate(windows, first=10)
    part = objective.collate(windows[2:5], first=12)
    assert torch.equal(whole.source_BS[2:5], part.source_BS)
    assert torch.equal(whole.targets[2:5], part.targets)
    other = [objective.collate(windows, first=11), _objective(40, seed=2).collate(windows, first=10)]
    assert not any(torch.equal(whole.source_BS, batch.source_BS) for batch in other)


def test_a_context_with_more_spans_than_sentinels_is_refused() -> None:
    assert noise_counts(640)[1] == 32
    _objective(640)
    with pytest.raises(UserError, match=r"model.context=1000 has 50 noisy spans, but there are only 32 sentinels"):
        _objective(1000)


def test_a_model_learns_to_fill_gaps() -> None:
    """Of texts that count up, a gap follows from what stands around it; by rates alone every token costs ln 50."""
    context, generator = 24, np.random.default_rng(0)
    objective, model = _objective(context), build_any(_shape(context), seed=1)
    step = TrainStep(model, objective, TrainRecipe(), precision="fp32", device="cpu")

    def rows(count: int) -> np.ndarray:
        return (generator.integers(0, NUM_TEXT, (count, 1)) + np.arange(context + 1)) % NUM_TEXT

    for number in range(120):
        step(rows(32), lr=2e-2 * min(1.0, number / 20, (120 - number) / 60), first=32 * number)
    batch = objective.collate(rows(64), first=10**6)
    loss = objective.loss(model.eval(), batch)
    text = int((batch.targets < NUM_TEXT).sum())
    assert text == 64 * noise_counts(context)[0]
    assert loss.mean.item() * loss.num_targets / text < 0.3 * math.log(NUM_TEXT)


def test_documents_cannot_be_kept_apart() -> None:
    with pytest.raises(UserError, match=r"t5.*leave data\.packing unset"):
        OBJECTIVES["denoising"](Setting(shape=_shape(32), special=SPECIAL, border=END))
