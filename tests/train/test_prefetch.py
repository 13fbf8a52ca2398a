import threading
import time

import numpy as np
import pytest

from groundup.errors import UserError
from groundup.train.prefetch import Prefetch, Windows


class _Counting:
    """Windows that hold their own numbers; notes what it was asked for, and on which thread."""

    def __init__(self, broken_from: int | None = None):
        self.asked: list[tuple[int, int]] = []
        self.threads: set[str] = set()
        self._broken_from = broken_from

    def windows(self, first: int, count: int) -> Windows:
        self.threads.add(threading.current_thread().name)
        self.asked.append((first, count))
        if self._broken_from is not None and first >= self._broken_from:
            raise UserError(f"window {first} is gone")
        return np.arange(first, first + count)[:, None] * np.ones(3, np.int64)


def _until_asked(source: _Counting, times: int) -> None:
    while len(source.asked) < times:
        time.sleep(0.001)


def test_batches_are_those_of_the_source_and_computed_once() -> None:
    source = _Counting()
    with Prefetch(source) as batches:
        for step in range(5):
            assert (batches.windows(4 * step, 4) == _Counting().windows(4 * step, 4)).all()
    assert source.asked[:5] == [(4 * step, 4) for step in range(5)]
    assert len(source.asked) <= 6
    assert len(source.threads) == 2  # the first here, the others on the thread


def test_the_next_batch_is_there_before_it_is_asked_for() -> None:
    source = _Counting()
    with Prefetch(source) as batches:
        batches.windows(0, 4)
        _until_asked(source, 2)
        assert source.asked == [(0, 4), (4, 4)]


@pytest.mark.parametrize("ask", [(4, 6), (0, 4), (100, 4), (4, 2)])
def test_another_question_gets_its_own_answer(ask: tuple[int, int]) -> None:
    """A batch that has grown, or another place in the run."""
    with Prefetch(_Counting()) as batches:
        batches.windows(0, 4)
        for _ in range(2):
            assert (batches.windows(*ask) == _Counting().windows(*ask)).all()
            first, count = ask
            ask = (first + count, count)


def test_an_error_comes_out_as_it_is_where_its_batch_is_asked_for() -> None:
    source = _Counting(broken_from=8)
    with Prefetch(source) as batches:
        batches.windows(0, 4)
        assert batches.windows(4, 4).shape == (4, 3)
        _until_asked(source, 3)
        with pytest.raises(UserError, match=r"^window 8 is gone$"):
            batches.windows(8, 4)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, UserError])
def test_the_thread_ends_with_its_context(error: type[BaseException] | None) -> None:
    before = threading.active_count()
    try:
        with Prefetch(_Counting()) as batches:
            batches.windows(0, 4)
            assert threading.active_count() == before + 1
            if error:
                raise error
    except (KeyboardInterrupt, UserError):
        pass
    assert threading.active_count() == before
