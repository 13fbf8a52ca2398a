import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.plan.reading import evaluation_tokens, validation_tokens

_SECONDS = st.floats(1.0, 1e7)
_RATE = st.floats(10.0, 1e7)


@given(_SECONDS, _RATE, st.integers(1, 100))
def test_validations_together_read_for_half_to_all_of_their_share(
    seconds: float, rate: float, validations: int
) -> None:
    """0.4 % of the time, at three times the speed of training; but at least 2,048 tokens each."""
    tokens = validation_tokens(seconds, rate, validations)
    assert tokens == 2 ** (tokens.bit_length() - 1)
    share = validations * tokens / (3 * rate) / seconds
    assert tokens >= 2048
    assert share * (1 + 1e-9) >= 0.002
    assert share <= 0.004 * (1 + 1e-9) or tokens == 2048


def test_runs_alike_measure_alike() -> None:
    assert {validation_tokens(600.0, rate, 8) for rate in (40_000.0, 44_000.0, 50_000.0)} == {32_768}


@pytest.mark.parametrize(("seconds", "rate", "tokens"), [(10, 1e3, 32_768), (3600, 50_000, 1_620_000)])
def test_the_last_evaluation_reads_for_three_thousandths(seconds: float, rate: float, tokens: int) -> None:
    assert evaluation_tokens(seconds, rate) == pytest.approx(tokens)
