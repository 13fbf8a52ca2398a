import gc
import threading
import time
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def test_batches_are_those_of_the_source_and_read_once() -> None:
    source = _Counting()
    with Prefetch(source, 8) as batches:
        for step in range(10):
            assert (batches.windows(4 * step, 4) == _Counting().windows(4 * step, 4)).all()
    assert source.asked[:5] == [(8 * stretch, 8) for stretch in range(5)]
    assert len(source.asked) <= 6
    assert source.threads == {"prefetch_0"}


@settings(deadline=None)
@given(st.integers(1, 9), st.lists(st.tuples(st.integers(0, 99), st.integers(1, 30)), min_size=1, max_size=9))
def test_whatever_is_asked_gets_its_own_answer(stretch: int, questions: list[tuple[int, int]]) -> None:
    """Batches that grow or are larger than a stretch, and other places in the run."""
    with Prefetch(_Counting(), stretch) as batches:
        for first, count in questions:
            assert (batches.windows(first, count) == _Counting().windows(first, count)).all()


def test_the_next_stretch_is_read_before_it_is_asked_for() -> None:
    source = _Counting()
    with Prefetch(source, 8) as batches:
        batches.windows(0, 4)
        _until_asked(source, 2)
        assert source.asked == [(0, 8), (8, 8)]
        batches.windows(4, 4)
        assert source.asked == [(0, 8), (8, 8)]
        batches.windows(8, 4)
        _until_asked(source, 3)
        assert source.asked == [(0, 8), (8, 8), (16, 8)]


def test_what_lies_behind_is_not_kept() -> None:
    """A run's memory does not grow with its data."""
    read: list[weakref.ref[Windows]] = []

    class Noting(_Counting):
        def windows(self, first: int, count: int) -> Windows:
            windows = super().windows(first, count)
            read.append(weakref.ref(windows))
            return windows

    with Prefetch(Noting(), 4) as batches:
        for step in range(20):
            batches.windows(4 * step, 4)
    gc.collect()
    assert len(read) >= 20
    assert sum(reference() is not None for reference in read) <= 2


def test_an_error_comes_out_as_it_is_where_its_windows_are_asked_for() -> None:
    source = _Counting(broken_from=8)
    with Prefetch(source, 4) as batches:
        batches.windows(0, 4)
        assert batches.windows(4, 4).shape == (4, 3)
        _until_asked(source, 3)
        with pytest.raises(UserError, match=r"^window 8 is gone$"):
            batches.windows(8, 4)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, UserError])
def test_the_thread_ends_with_its_context(error: type[BaseException] | None) -> None:
    before = threading.active_count()
    try:
        with Prefetch(_Counting(), 8) as batches:
            batches.windows(0, 4)
            assert threading.active_count() == before + 1
            if error:
                raise error
    except (KeyboardInterrupt, UserError):
        pass
    assert threading.active_count() == before
