"""What processes agree on: alone, and two that differ."""

import signal

import pytest

from groundup.parallel.agree import in_group
from groundup.train.agreement import SharedProgress, decide
from groundup.train.progress import TimeProgress
from tests.parallel.processes import run


def test_alone_one_decides_for_itself() -> None:
    assert not in_group()
    assert decide(None, save=True) == (None, True)
    assert decide(signal.SIGTERM, save=False) == (signal.SIGTERM, False)


def _ask(rank: int) -> dict[str, object]:
    # The second process believes that its time is up, the first that it has just begun.
    progress = SharedProgress(TimeProgress(seconds=1000.0, spent_before=2000.0 * rank))
    return {
        "nothing": decide(None, save=False),
        "a signal of one": decide(signal.SIGINT if rank == 1 else None, save=False),
        "the first one's save": decide(None, save=rank == 0),
        "the second one's save": decide(None, save=rank == 1),
        "finished": progress.finished(0),
        "fraction": progress.fraction(0),
    }


def test_two_that_differ_do_the_same() -> None:
    first, second = run(2, _ask)
    assert first == second
    assert first["nothing"] == (None, False)
    assert first["a signal of one"] == (signal.SIGINT, False)
    assert first["the first one's save"] == (None, True)
    assert first["the second one's save"] == (None, False)
    assert first["finished"] is False
    assert first["fraction"] == pytest.approx(0.0, abs=0.1)
