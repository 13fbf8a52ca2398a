import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.plan.cluster.devices import Cluster, devices, parse_hardware
from groundup.plan.money import cost, price


@pytest.mark.parametrize("name", sorted(devices()))
def test_every_device_has_a_dated_range(name: str) -> None:
    known = price(devices()[name])
    assert 0 < known.low < known.typical <= known.high
    assert re.fullmatch(r"20\d\d-\d\d", known.date)
    assert known.source


@pytest.mark.parametrize(
    ("name", "low", "high"),
    # Mercatus, cloud GPU pricing of May 2026.
    [("h100", 1.99, 5.00), ("h200", 2.50, 7.00), ("a100", 0.80, 3.00)],
)
def test_ranges_are_those_of_the_source(name: str, low: float, high: float) -> None:
    assert (price(devices()[name]).low, price(devices()[name]).high) == (low, high)


def test_the_users_price_is_all_there_is() -> None:
    own = price(devices()["h100"], 1.5)
    assert own.low == own.high == own.typical == 1.5
    assert "--price" in own.source


@pytest.mark.parametrize("usd", [0.0, -1.0, math.nan, math.inf])
def test_no_price_is_refused(usd: float) -> None:
    with pytest.raises(UserError, match="is no price"):
        price(devices()["h100"], usd)


def test_what_published_runs_cost() -> None:
    """llm.c: GPT-2 124M: 94.3 minutes on 8 A100, about 20 dollars; GPT-2 1558M: 24 hours on 8 H100, about 672."""
    small = cost(parse_hardware("a100x8"), 94.3 * 60)
    assert small.low < 20 < small.high
    large = cost(parse_hardware("h100x8"), 24 * 3600)
    assert large.low < 672 < large.high
    assert cost(parse_hardware("h100x8"), 24 * 3600, 3.5).typical == pytest.approx(672)


@given(
    st.sampled_from(sorted(devices())), st.integers(1, 5000), st.floats(0.01, 1e9), st.none() | st.floats(0.01, 99)
)
def test_a_bill_is_hours_times_devices_times_the_price(
    name: str, count: int, usd: float, own: float | None
) -> None:
    cluster = Cluster(devices()[name], count)
    seconds = 3600 * usd / (count * price(cluster.device, own).typical)
    bill = cost(cluster, seconds, own)
    assert bill.typical == pytest.approx(usd)
    assert bill.low <= bill.typical * (1 + 1e-12)
    assert bill.typical <= bill.high * (1 + 1e-12)
