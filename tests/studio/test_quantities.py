import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.studio.quantities import UNITS, quantity

SPACE = "\N{NO-BREAK SPACE}"
PREFIXES = {"m": 1e-3, "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
SECONDS = {"ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "count", "0"),
        (1500, "count", "1,500"),
        (12_345, "count", "12.3 k"),
        (999_950, "count", "1.00 M"),
        (1_234_567, "count", "1.23 M"),
        (7e9, "count", "7.00 B"),
        (2_361_536, "exact", "2,361,536"),
        (0.35, "seconds", "350 ms"),
        (4.518, "seconds", "4.52 s"),
        (59.96, "seconds", "1 min"),
        (245, "seconds", "4 min 5 s"),
        (0.00004, "milliseconds", "0.04 ms"),
        (0.04234, "milliseconds", "42.3 ms"),
        (1.4502, "milliseconds", "1,450 ms"),
        (3599.7, "seconds", "1 h"),
        (11_520, "seconds", "3 h 12 min"),
        (86_399, "seconds", "1 d"),
        (187_200, "seconds", "2 d 4 h"),
        (1_812_000_000, "bytes", "1.81 GB"),
        (999.7, "bytes", "1.00 kB"),
        (0, "bytes", "0 B"),
        (0.0004, "seconds", "0.4 ms"),
        (0.0042, "seconds", "4.2 ms"),
        (1.62e11, "flops_per_second", "162 GFLOP/s"),
        (0.0042, "energy", "≈ 4.2 mWh"),
        (1940, "energy", "≈ 1.9 kWh"),
        (123.4, "energy", "≈ 120 Wh"),
        (0.9951, "energy", "≈ 1 Wh"),
        (0.6132, "percent", "61.3 %"),
        (0.0001, "percent", "< 0.1 %"),
        (-0.0001, "percent", "0.0 %"),
        (1, "percent", "100 %"),
        (0.112, "signed_percent", "+11.2 %"),
        (-0.0266, "signed_percent", "−2.7 %"),
        (0, "signed_percent", "0.0 %"),
        (3.1e-3, "lr", "3.10e-3"),
        (1.5, "bits", "1.500"),
    ],
)
def test_examples(value: float, unit: str, text: str):
    assert quantity(value, unit).replace(SPACE, " ") == text


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_is_not_a_number_is_a_dash(unit: str, value: float | None):
    assert quantity(value, unit) == "–"


@given(st.floats(0.01, 9e17) | st.integers(0, 10**17), st.sampled_from(["count", "bytes", "flops"]))
def test_three_digits_survive(value: float, unit: str):
    digits, prefix = re.fullmatch(r"([\d.,]+)\s?([mkMGBTPE]?)(?:B|FLOP)?", quantity(value, unit)).groups()
    if unit == "bytes" and prefix == "B":
        prefix = ""
    assert float(digits.replace(",", "")) * PREFIXES[prefix] == pytest.approx(value, rel=5.1e-3)


@given(st.floats(0.1, 1e7))
def test_times_add_up(value: float):
    parts = re.findall(r"([\d.]+)\s(ms|s|min|h|d)", quantity(value, "seconds"))
    assert sum(float(number) * SECONDS[unit] for number, unit in parts) == pytest.approx(value, rel=2.2e-2)
    if len(parts) == 2:
        assert float(parts[1][0]) < {"s": 60, "min": 60, "h": 24}[parts[1][1]]
