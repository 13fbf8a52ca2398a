"""Encoded conversations as rows of tokens: several in a window, or a pair of answers side by side.

A sequence is three planes (3, L), int64: ids; counts, 1 where a token is to be learnt (of KTO 1 desirable,
2 undesirable) and else 0; and the number of the example in its data set. Behind the last token ids and counts are
0, and the number is `PADDING`.
"""

import hashlib
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from groundup.data.permutation import endless, permuted
from groundup.errors import UserError
from groundup.tokenizer.turns import Turns

PADDING = -1
_PLANES = 3
_DESIRABLE, _UNDESIRABLE = 1, 2
TOO_LONG, NOTHING_COUNTS = "too long", "with nothing to learn"

_Sequence: TypeAlias = NDArray[np.integer[Any]]


class TurnRows:
    """Rows that are there once an epoch, in another order every epoch; a row is a window or a pair of sequences.

    As with `Batches` there is no state: a batch is a stretch of one endless order. What stands together in a row
    never changes.

    Attributes:
        num_rows: of an epoch.
        num_examples: that stand in the rows.
        skipped: examples that do not, by the reason: `TOO_LONG`, `NOTHING_COUNTS`.
        num_cut: examples whose end was cut off.
        num_tokens: in an epoch, without padding.
        num_targets: how many of these are to be learnt.
    """

    def __init__(
        self,
        sequences: Sequence[_Sequence],
        length: int,
        seed: int,
        *,
        per_row: int,
        num_examples: int,
        skipped: Mapping[str, int],
        num_cut: int = 0,
    ) -> None:
        self.num_rows, self.num_examples = len(sequences) // per_row, num_examples
        self.skipped, self.num_cut = {why: count for why, count in skipped.items() if count}, num_cut
        self._planes = np.concatenate(sequences, axis=1, dtype=np.int32)
        self._starts = np.cumsum([0, *(sequence.shape[1] for sequence in sequences)])
        self._per_row, self._length, self._seed = per_row, length, seed
        self.num_tokens = self._planes.shape[1]
        self.num_targets = int((self._planes[1] > 0).sum())

    def windows(self, first: int, count: int) -> NDArray[np.int64]:
        """Rows [first, first + count) of the endless order: (count, 3, L), of pairs (count, 2, 3, L)."""
        return self._padded(endless(np.arange(first, first + count), self.num_rows, self._seed))

    def rows(self, first: int, count: int) -> NDArray[np.int64]:
        """As `windows`, but in order, and none behind the last."""
        return self._padded(np.arange(first, min(first + count, self.num_rows)))

    def sample(self, most: int) -> NDArray[np.int64]:
        """Rows that stand for all, each at most once: the first ones have the longest examples (`packed_rows`)."""
        return self.windows(0, min(most, self.num_rows))

    @property
    def in_order(self) -> NDArray[np.int64]:
        """Every row once, of the same shape: padded to the longest they may be gigabytes."""
        return self.rows(0, self.num_rows)

    @property
    def fingerprint(self) -> str:
        """Names what stands in the rows and where, SHA-256 in hexadecimal: other data has another one."""
        content = hashlib.sha256(self._starts.data)
        content.update(self._planes.data)
        return content.hexdigest()

    def _padded(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        rows = np.zeros((len(order), self._per_row, _PLANES, self._length), np.int64)
        rows[:, :, 2] = PADDING
        for row, number in zip(rows, order, strict=True):
            for side in range(self._per_row):
                start, end = self._starts[number * self._per_row + side :][:2]
                row[side, :, : end - start] = self._planes[:, start:end]
        return rows[:, 0] if self._per_row == 1 else rows


def packed_rows(turns: Sequence[Turns], length: int, seed: int, packing: bool = True) -> TurnRows:
    """Conversations in windows of `length` tokens, (N, 3, length); without `packing` one in each.

    A conversation is never divided: each goes to the fullest window that has room, the longest first (best-fit
    decreasing; Ding et al. 2024, arXiv:2404.10830). Which conversations meet, and in which order they stand,
    follows from the seed: any of them may begin a window, as all do in a chat. One that alone is longer than a
    window is cut off on the right if something to learn is left, else skipped. UserError if nothing is left.
    """
    skipped = {TOO_LONG: 0, NOTHING_COUNTS: 0}
    examples: list[_Sequence] = []
    num_cut = 0
    for number, turn in enumerate(turns):
        planes = _planes(turn, number)
        if not planes[1].any():
            skipped[NOTHING_COUNTS] += 1
        elif not planes[1, :length].any():
            skipped[TOO_LONG] += 1
        else:
            num_cut += planes.shape[1] > length
            examples.append(planes[:, :length])
    _check_some(examples, turns, length, skipped)
    windows = _packed(examples, len(turns), length, seed) if packing else examples
    return TurnRows(windows, length, seed, per_row=1, num_examples=len(examples), skipped=skipped, num_cut=num_cut)


def preference_rows(pairs: Sequence[tuple[Turns, Turns]], length: int, seed: int) -> TurnRows:
    """Pairs of (chosen, rejected), (N, 2, 3, L): L is that of the longest, at most `length`.

    A pair of which one does not fit whole is skipped: half an answer is not what was judged. UserError if none
    fits.
    """
    skipped = {TOO_LONG: 0, NOTHING_COUNTS: 0}
    sequences: list[_Sequence] = []
    for number, pair in enumerate(pairs):
        planes = [_planes(turn, number) for turn in pair]
        if why := _why_not(planes, length):
            skipped[why] += 1
        else:
            sequences += planes
    _check_some(sequences, pairs, length, skipped)
    return _paired(sequences, seed, skipped)


def kto_rows(judged: Sequence[tuple[Turns, bool]], length: int, seed: int) -> TurnRows:
    """Answers with whether they were liked, each beside its prompt with another example's answer: (N, 2, 3, L).

    The second, cut off where it is too long, is for the estimate of how far the policy has gone from the
    reference (Ethayarajh et al. 2024, arXiv:2402.01306); the seed says whose answer it is. Else as
    `preference_rows`; UserError unless two fit.
    """
    skipped = {TOO_LONG: 0, NOTHING_COUNTS: 0}
    examples: list[_Sequence] = []
    for number, (turn, is_desirable) in enumerate(judged):
        planes = _planes(turn, number)
        planes[1] *= _DESIRABLE if is_desirable else _UNDESIRABLE
        if why := _why_not([planes], length):
            skipped[why] += 1
        else:
            examples.append(planes)
    _check_some(examples, judged, length, skipped, least=2)
    order = permuted(np.arange(len(examples)), len(examples), (seed,))
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)
    sequences = [
        sequence
        for example, place in zip(examples, other, strict=True)
        for sequence in (example, _exchanged(example, examples[place])[:, :length])
    ]
    return _paired(sequences, seed, skipped)


def _planes(turn: Turns, number: int) -> _Sequence:
    planes = np.stack([turn.ids, turn.counts.astype(np.int64), np.full(len(turn), number)])
    planes[1, :1] = 0  # nothing stands before the first token that could predict it
    return planes


def _why_not(sequences: Sequence[_Sequence], length: int) -> str | None:
    if any(not sequence[1].any() for sequence in sequences):
        return NOTHING_COUNTS
    return TOO_LONG if any(sequence.shape[1] > length for sequence in sequences) else None


def _exchanged(example: _Sequence, other: _Sequence) -> _Sequence:
    """The prompt of one example and the answer of the other, with the number and the judgement of the first."""
    prompt, answer = example[:, : _begin_of_answer(example)], other[:, _begin_of_answer(other) :].copy()
    answer[1] = (answer[1] > 0) * example[1].max()
    answer[2] = example[2, 0]
    return np.concatenate([prompt, answer], axis=1)


def _begin_of_answer(example: _Sequence) -> int:
    return int((example[1] > 0).argmax())


def _paired(sequences: Sequence[_Sequence], seed: int, skipped: Mapping[str, int]) -> TurnRows:
    longest = max(sequence.shape[1] for sequence in sequences)
    return TurnRows(sequences, longest, seed, per_row=2, num_examples=len(sequences) // 2, skipped=skipped)


def _check_some(
    found: Sequence[Any], examples: Sequence[Any], length: int, skipped: Mapping[str, int], least: int = 1
) -> None:
    if len(found) < least:
        reasons = ", ".join(f"{count:,} {why}" for why, count in skipped.items() if count)
        raise UserError(
            f"of {len(examples):,} examples {len(found)} fit into {length} tokens ({reasons or 'too few'}); "
            "choose a longer context, or give more examples"
        )


def _packed(examples: Sequence[_Sequence], num_turns: int, length: int, seed: int) -> list[_Sequence]:
    """The examples, numbered below `num_turns`, joined into windows of at most `length` tokens."""
    order = permuted(np.arange(len(examples)), len(examples), (seed,))
    ranks = permuted(np.arange(num_turns), num_turns, (seed, 1))
    windows = _best_fit([examples[place] for place in order], length)
    return [np.concatenate(sorted(window, key=lambda planes: ranks[planes[2, 0]]), axis=1) for window in windows]


def _best_fit(examples: Sequence[_Sequence], length: int) -> list[list[_Sequence]]:
    """Which examples share a window of at most `length` tokens, the longest first."""
    windows: list[list[_Sequence]] = []
    with_room: dict[int, list[int]] = {}  # the windows, by how many tokens they have room for
    rooms: list[int] = []  # the keys, in order
    for example in sorted(examples, key=lambda planes: -planes.shape[1]):
        size = example.shape[1]
        place = bisect_left(rooms, size)
        if place == len(rooms):
            windows.append([])
            number, room = len(windows) - 1, length
        else:
            room = rooms[place]
            number = with_room[room].pop()
            if not with_room[room]:
                del with_room[room], rooms[place]
        windows[number].append(example)
        if (left := room - size) not in with_room:
            insort(rooms, left)
        with_room.setdefault(left, []).append(number)
    return windows
