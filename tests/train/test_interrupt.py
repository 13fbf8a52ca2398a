import os
import signal
import threading
import time

import pytest

from groundup.train.interrupt import Interrupt

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _handlers() -> list[object]:
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_noted_and_the_second_acts(number: signal.Signals) -> None:
    before = _handlers()
    caught: list[int] = []
    previous = signal.signal(number, lambda received, frame: caught.append(received))
    try:
        with Interrupt() as interrupt:
            assert interrupt.signal is None
            os.kill(os.getpid(), number)
            assert (interrupt.signal, caught) == (number, [])
            os.kill(os.getpid(), number)
            assert caught == [number]
    finally:
        signal.signal(number, previous)
    assert _handlers() == before


def test_a_second_ctrl_c_stops_at_once() -> None:
    # A process that a shell started in the background ignores SIGINT; a person's terminal does not.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    with Interrupt() as interrupt, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.signal == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, previous)


def test_handlers_come_back_after_an_error() -> None:
    before = _handlers()
    with pytest.raises(RuntimeError), Interrupt():
        assert _handlers() != before
        raise RuntimeError
    assert _handlers() == before


def test_another_thread_leaves_signals_alone() -> None:
    before, found = _handlers(), []

    def work() -> None:
        with Interrupt() as interrupt:
            found.append((interrupt.signal, _handlers()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(None, before)]


def test_what_comes_at_once_is_the_same_signal_and_what_comes_later_is_not() -> None:
    caught: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda received, frame: caught.append(received))
    try:
        with Interrupt(echo_seconds=0.3) as interrupt:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGTERM)
            assert (interrupt.signal, caught) == (signal.SIGTERM, [])
            time.sleep(0.35)
            os.kill(os.getpid(), signal.SIGTERM)
            assert caught == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, previous)
