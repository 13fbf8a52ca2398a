"""Rows of turns: nothing is lost, divided or repeated, and the planes belong together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.data.turn_rows import (
    NOTHING_COUNTS,
    PADDING,
    TOO_LONG,
    TurnRows,
    kto_rows,
    packed_rows,
    preference_rows,
)
from groundup.errors import UserError
from groundup.tokenizer.turns import Turns


def _turns(prompt: int, answer: int, first: int = 1) -> Turns:
    """A prompt and an answer of so many tokens, numbered from `first`."""
    ids = np.arange(first, first + prompt + answer)
    return Turns(ids, np.arange(prompt + answer) >= prompt)


@st.composite
def data_sets(draw: st.DrawFn) -> list[Turns]:
    """Conversations of which every token is another, some without an answer or without a prompt."""
    sizes = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(any), min_size=1, max_size=25))
    return [_turns(prompt, answer, 1 + 100 * number) for number, (prompt, answer) in enumerate(sizes)]


def _examples(rows: np.ndarray) -> dict[int, list[tuple[int, ...]]]:
    """(ids, counts) of each example in (N, 3, L), where it stands in one piece; padding is checked on the way."""
    found: dict[int, list[tuple[int, ...]]] = {}
    for ids, counts, numbers in rows:
        end = int((numbers != PADDING).sum())
        assert (numbers[:end] != PADDING).all() and not ids[end:].any() and not counts[end:].any()
        for number in dict.fromkeys(numbers[:end].tolist()):
            places = np.flatnonzero(numbers == number)
            assert number not in found and np.array_equal(places, np.arange(places[0], places[-1] + 1))
            found[number] = [tuple(ids[places].tolist()), tuple(counts[places].tolist())]
    return found


@settings(max_examples=150, deadline=None)
@given(turns=data_sets(), length=st.integers(3, 20), packing=st.booleans(), seed=st.integers(0, 3))
def test_no_window_loses_or_repeats_a_conversation(
    turns: list[Turns], length: int, packing: bool, seed: int
) -> None:
    expected, long, empty, cut = {}, 0, 0, 0
    for number, turn in enumerate(turns):
        counts = turn.counts.astype(int)
        counts[0] = 0
        if not counts.any():
            empty += 1
        elif not counts[:length].any():
            long += 1
        else:
            cut += len(turn) > length
            expected[number] = [tuple(turn.ids[:length].tolist()), tuple(counts[:length].tolist())]
    if not expected:
        with pytest.raises(UserError, match=f"of {len(turns)} examples 0 fit into {length} tokens"):
            packed_rows(turns, length, seed, packing)
        return
    rows = packed_rows(turns, length, seed, packing)
    assert rows.in_order.shape == (rows.num_rows, 3, length) and rows.in_order.dtype == np.int64
    assert _examples(rows.in_order) == expected
    assert rows.skipped == {why: count for why, count in ((TOO_LONG, long), (NOTHING_COUNTS, empty)) if count}
    assert (rows.num_cut, rows.num_examples) == (cut, len(expected))
    assert rows.num_tokens == sum(len(ids) for ids, _ in expected.values()) == (rows.in_order[:, 2] >= 0).sum()
    assert rows.num_targets == sum(sum(counts) for _, counts in expected.values())
    for epoch in range(2):  # each window once, and each has something to learn
        windows = rows.windows(epoch * rows.num_rows, rows.num_rows)
        assert sorted(map(bytes, windows)) == sorted(map(bytes, rows.in_order))
        assert windows[:, 1].any(axis=1).all()
    if not packing:
        assert rows.num_rows == len(expected)


def test_windows_are_full() -> None:
    """As for any best fit, at most one window is half empty; here hardly anything is padding."""
    sizes = np.random.default_rng(0).integers(5, 120, 500)
    turns = [_turns(2, int(size)) for size in sizes]
    rows = packed_rows(turns, 256, seed=0)
    assert rows.num_tokens > 0.97 * rows.num_rows * 256
    filled = (rows.in_order[:, 2] != PADDING).sum(-1)
    assert (filled <= 128).sum() <= 1


def test_any_conversation_may_begin_a_window() -> None:
    """The longest goes in first; were it to stand there too, short ones would hardly ever be at position 0."""
    sizes = np.random.default_rng(1).integers(3, 60, 400)
    numbers_NL = packed_rows([_turns(2, int(size)) for size in sizes], 128, seed=0).in_order[:, 2]
    shared = [row[row != PADDING] for row in numbers_NL if len(np.unique(row[row != PADDING])) > 1]
    are_longest = [sizes[row[0]] == sizes[row].max() for row in shared]
    by_chance = np.array([np.mean(sizes[np.unique(row)] == sizes[row].max()) for row in shared])
    assert len(shared) > 50
    assert abs(np.sum(are_longest) - by_chance.sum()) < 3 * np.sqrt((by_chance * (1 - by_chance)).sum())


def test_rows_in_order_come_in_parts_and_are_named_by_what_they_hold() -> None:
    pairs = [(_turns(2, 3, 10 * number), _turns(2, 4, 10 * number)) for number in range(1, 8)]
    rows = preference_rows(pairs, 9, seed=0)
    parts = [rows.rows(first, 3) for first in range(0, 9, 3)]
    assert [len(part) for part in parts] == [3, 3, 1]
    assert np.array_equal(np.concatenate(parts), rows.in_order)
    assert preference_rows(pairs, 9, seed=0).fingerprint == rows.fingerprint
    others = [pairs[::-1], pairs[:-1], [(rejected, chosen) for chosen, rejected in pairs]]
    assert len({rows.fingerprint, *(preference_rows(other, 9, seed=0).fingerprint for other in others)}) == 4


def test_a_sample_stands_for_all_rows() -> None:
    """Packing begins with the longest conversations; a sample has short ones too, and none twice."""
    turns = [_turns(1, 1 + number % 40, 1 + 100 * number) for number in range(400)]
    rows = packed_rows(turns, 50, seed=5)
    sample = rows.sample(60)
    firsts, sampled, everywhere = (_longest(some) for some in (rows.rows(0, 60), sample, rows.in_order))
    assert firsts > 1.2 * everywhere
    assert abs(sampled - everywhere) < 0.05 * everywhere
    assert len(sample) == 60 == len({row.tobytes() for row in sample})
    whole = {row.tobytes() for row in rows.in_order}
    assert {row.tobytes() for row in rows.sample(10_000)} == whole


def _longest(rows: np.ndarray) -> float:
    """The mean size of the longest example of each row."""
    return float(np.mean([max(len(ids) for ids, _ in _examples(row[None]).values()) for row in rows]))


def _first_ids(rows: TurnRows, first: int, count: int) -> list[list[int]]:
    return rows.windows(first, count).reshape(count, -1).tolist()


def test_the_order_follows_from_the_seed_and_changes_every_epoch() -> None:
    turns = [_turns(1, 3, 10 * number) for number in range(1, 60)]
    rows, again, other = (packed_rows(turns, 8, seed) for seed in (1, 1, 2))
    whole = _first_ids(rows, 0, 2 * rows.num_rows)
    assert whole[7:20] == _first_ids(again, 7, 13)
    assert whole[: rows.num_rows] != whole[rows.num_rows :]
    assert whole[: rows.num_rows] != _first_ids(other, 0, rows.num_rows)
    assert not np.array_equal(rows.in_order, other.in_order)  # others meet in a window


def test_pairs_stand_side_by_side() -> None:
    pairs = [
        (_turns(3, 2, 10), _turns(3, 4, 10)),
        (_turns(3, 9, 30), _turns(3, 1, 30)),  # too long
        (_turns(3, 0, 50), _turns(3, 1, 50)),  # an answer of nothing
        (_turns(2, 6, 70), _turns(2, 1, 70)),
    ]
    rows = preference_rows(pairs, 9, seed=0)
    assert rows.in_order.shape == (2, 2, 3, 8)
    assert rows.skipped == {TOO_LONG: 1, NOTHING_COUNTS: 1}
    for row, number in zip(rows.in_order, (0, 3), strict=True):
        for side, turn in zip(row, pairs[number], strict=True):
            end = len(turn)
            assert side[0, :end].tolist() == turn.ids.tolist() and not side[0, end:].any()
            assert side[1, :end].tolist() == turn.counts.astype(int).tolist() and not side[1, end:].any()
            assert set(side[2, :end]) == {number} and set(side[2, end:]) <= {PADDING}
    assert (rows.num_tokens, rows.num_targets) == (5 + 7 + 8 + 3, 2 + 4 + 6 + 1)
    assert sorted(map(bytes, rows.windows(2, 2))) == sorted(map(bytes, rows.in_order))
    with pytest.raises(UserError, match=r"of 4 examples 0 fit into 3 tokens \(3 too long, 1 with nothing"):
        preference_rows(pairs, 3, seed=0)


def test_kto_sets_each_answer_beside_anothers_to_the_same_prompt() -> None:
    judged = [(_turns(2 + number, 3, 100 * number + 1), number % 3 == 0) for number in range(9)]
    rows = kto_rows([*judged, (_turns(2, 0, 900), True), (_turns(20, 5, 950), True)], 13, seed=5)
    assert rows.skipped == {NOTHING_COUNTS: 1, TOO_LONG: 1}
    others = []
    for number, ((turn, is_desirable), row) in enumerate(zip(judged, rows.in_order, strict=True)):
        own, mixed = row
        code = 1 if is_desirable else 2
        length = len(turn)
        assert own[0, :length].tolist() == turn.ids.tolist()
        assert own[1, :length].tolist() == (turn.counts * code).tolist()
        begin = length - 3
        assert mixed[0, :begin].tolist() == turn.ids[:begin].tolist() and not mixed[1, :begin].any()
        stranger = int(mixed[0, begin]) // 100
        others.append(stranger)
        answer = judged[stranger][0].ids[-3:].tolist()
        assert mixed[0, begin : begin + 3].tolist() == answer and set(mixed[1, begin : begin + 3]) == {code}
        assert set(mixed[2, : begin + 3]) == {number} and set(mixed[2, begin + 3 :]) <= {PADDING}
    assert sorted(others) == list(range(9))
    assert all(other != number for number, other in enumerate(others))
    with pytest.raises(UserError, match="of 1 examples 1 fit into 13 tokens"):
        kto_rows(judged[:1], 13, seed=0)
