import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.plan.scaling.batch import (
    deepseek_batch,
    deepseek_lr,
    gradient_noise,
    kaplan_critical_batch,
    nanochat_batch,
    step_law_batch,
    step_law_lr,
    trade_off,
)


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.integers(1, 100), st.integers(101, 10_000))
def test_expected_norms_give_back_the_noise(squared: float, trace: float, small: int, large: int) -> None:
    """E |G_B|^2 = |G|^2 + tr(Sigma) / B."""
    noise = gradient_noise(small, squared + trace / small, large, squared + trace / large)
    assert noise.trace == pytest.approx(trace, rel=1e-6)
    assert noise.squared_gradient == pytest.approx(squared, rel=1e-6, abs=1e-6 * trace)


def test_the_estimator_is_unbiased_on_samples() -> None:
    """Gradients of single examples are normal about a known mean with a known covariance."""
    generator = np.random.default_rng(1)
    mean, deviation, width, steps = 0.1, 0.5, 50, 4000
    small, large = 4, 32

    def squared_norms(batch: int) -> float:
        gradients = generator.normal(mean, deviation / batch**0.5, (steps, width))
        return float((gradients**2).sum(axis=1).mean())

    noise = gradient_noise(small, squared_norms(small), large, squared_norms(large))
    assert noise.trace == pytest.approx(width * deviation**2, rel=0.05)
    assert noise.noise_scale == pytest.approx(deviation**2 / mean**2, rel=0.1)


def test_batches_must_differ() -> None:
    with pytest.raises(ValueError, match="smaller than"):
        gradient_noise(8, 1.0, 8, 1.0)


@given(st.floats(1, 1e7), st.floats(1, 1e7))
def test_time_is_traded_for_data_along_a_hyperbola(batch: float, critical: float) -> None:
    """(S / S_min - 1)(E / E_min - 1) = 1 (McCandlish et al. 2018, equation 2.11)."""
    steps, examples = trade_off(batch, critical)
    assert (steps - 1) * (examples - 1) == pytest.approx(1.0)
    assert trade_off(critical, critical) == (2.0, 2.0)


def test_published_rules_at_known_points() -> None:
    assert deepseek_batch(1.0) == 0.2920
    assert deepseek_lr(1e24) / deepseek_lr(1e16) == pytest.approx(0.1)
    assert step_law_batch(100e9) / step_law_batch(10e9) == pytest.approx(10**0.571)
    # OLMo-core's recipe of 3.65B parameters and 10B tokens notes 3.2e-4 by the Step Law.
    assert step_law_lr(3.65e9, 10e9) == pytest.approx(3.2e-4, rel=0.03)
    assert kaplan_critical_batch(1.0) == 2.1e8
    assert kaplan_critical_batch(2.0) == pytest.approx(2.1e8 * 2 ** (-1 / 0.21))
    # nanochat: "if D doubles from d12 to d24, B should grow by 2^0.383, about 1.3".
    assert nanochat_batch(1e9, 1e9) == 2**19
    assert nanochat_batch(2e9, 1e9) / 2**19 == pytest.approx(1.3, abs=0.005)
