import math
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.pipeline.hooks import SamplingTime

TOKENS, SAMPLES, VALIDATIONS = 16, 2, 8


class _Clock:
    """Moves when a token is made."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def tokens(self, seconds: float) -> Iterator[str]:
        for _ in range(TOKENS):
            self.now += seconds
            yield "x"


def _run(clock: _Clock, sampling: SamplingTime, token_seconds: float) -> list[list[int]]:
    """The lengths of the samples at each validation of a run but the last."""
    written: list[list[int]] = []
    for validation in range(1, VALIDATIONS):
        share = validation / VALIDATIONS
        written.append([])
        for number in range(SAMPLES):
            if not sampling.allows(SAMPLES - number, share):
                break
            written[-1].append(len(list(sampling.limited(clock.tokens(token_seconds), share))))
    return written


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.floats(1e-4, 1.0), st.floats(1e-3, 1e3))
def test_samples_keep_to_their_time(monkeypatch: pytest.MonkeyPatch, token_seconds: float, seconds: float) -> None:
    """Whatever a token costs: at most a token more than there is time for, with room left for those at the end."""
    clock = _Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    sampling = SamplingTime(seconds, TOKENS, SAMPLES)
    written = _run(clock, sampling, token_seconds)
    at_the_end = SAMPLES * TOKENS * token_seconds
    first = sum(written[0]) * token_seconds
    assert first <= seconds / VALIDATIONS + token_seconds * 1.01
    assert clock.now <= max(first, seconds - at_the_end) * 1.01
    assert all(lengths in ([], [TOKENS] * SAMPLES) for lengths in written[1:])
    if 1.01 * (VALIDATIONS + 1) * at_the_end <= seconds:
        assert written == [[TOKENS] * SAMPLES] * (VALIDATIONS - 1)


def test_without_a_limit_there_are_all(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    written = _run(clock, SamplingTime(math.inf, TOKENS, SAMPLES), 1e3)
    assert written == [[TOKENS] * SAMPLES] * (VALIDATIONS - 1)


def test_the_thinned_out_ones_are_spread_over_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time for four times all of them, the end included: a part of one, then whole ones as time allows."""
    clock = _Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    written = _run(clock, SamplingTime(4 * SAMPLES * TOKENS * 0.01, TOKENS, SAMPLES), 0.01)
    assert written[0] == [TOKENS]
    whole = [number for number, lengths in enumerate(written) if number and lengths]
    assert len(whole) == 2
    assert whole[0] >= 2
    assert whole[1] - whole[0] >= 2
