import math
import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.plan.figures import Column, Figure, Unit, Value
from groundup.studio.values import cell, exact, heading, result, written

UNITS: tuple[Unit, ...] = get_args(Unit)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def shown(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (7_241_732_096, "count", "7.24 B"),
        (175_181_291_520, "", "175,181,291,520"),
        (3.27, "", "3.27"),
        (3e-4, "", "0.0003"),
        (1.5e-7, "", "1.5e-7"),
        (True, "", "yes"),
        ("qwen3", "", "qwen3"),
        (0.4521, "share", "45.2 %"),
        (80e9, "bytes", "80.0 GB"),
        (3.35e12, "bytes/s", "3.35 TB/s"),
        (0.00042, "seconds", "0.42 ms"),
        (1.4e11, "tokens", "140 B tokens"),
        (1.59e6, "tokens/s", "1.59 M tokens/s"),
        (20, "steps", "20 steps"),
        (3.2e15, "flops", "3.20 PFLOP"),
        (5.76e23, "flops", "5.76e23 FLOP"),
        (9.89e14, "flops/s", "989 TFLOP/s"),
        (0.8312, "bits per byte", "0.831 bits per byte"),
        (2.57, "nats per token", "2.570 nats per token"),
        (0.0042, "usd", "$0.0042"),
        (0.5, "usd", "$0.50"),
        (0.998, "usd", "$1.00"),
        (2.5, "usd/h", "$2.50/h"),
        (99.999, "usd", "$100"),
        (1234, "usd", "$1,234"),
        (1.234e6, "usd", "$1.23 M"),
        (-20, "usd", "−$20.00"),
        (19_900, "kwh", "≈ 20 MWh"),
        (0.35, "kg", "350 g"),
        (7900, "kg", "7.90 t"),
        (700, "watts", "700 W"),
        (358_400, "watts", "358 kW"),
    ],
)
def test_examples(value: Value, unit: Unit, text: str) -> None:
    assert shown(written(value, unit)) == text


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_a_dash(unit: Unit, value: float | None) -> None:
    assert written(value, unit) == cell(value, unit) == "–"


@given(st.sampled_from(UNITS), st.floats(0.1, 1e12) | st.integers(0, 10**12))
def test_every_unit_says_itself_in_the_cell_or_above_it(unit: Unit, value: float) -> None:
    column = Column("name", "label", unit)
    whole = written(value, unit)
    assert whole in (cell(value, unit), f"{cell(value, unit)} {unit}")
    if unit:
        assert (f"({unit})" in heading(column)) == (whole != cell(value, unit))


def test_a_heading_does_not_say_its_unit_twice() -> None:
    assert heading(Column("tokens", "training tokens", "tokens")) == "training tokens"
    assert heading(Column("speed", "throughput", "tokens/s")) == "throughput (tokens/s)"


@given(FINITE)
def test_a_number_put_into_a_formula_keeps_six_digits(value: float) -> None:
    assert float(exact(value).replace(",", "")) == pytest.approx(value, rel=5.1e-6, abs=0)


@given(st.integers())
def test_a_whole_number_put_into_a_formula_is_in_full(value: int) -> None:
    assert re.fullmatch(r"-?\d{1,3}(,\d{3})*", exact(value))
    assert int(exact(value).replace(",", "")) == value


def test_an_interval_is_said_in_the_unit_of_its_figure() -> None:
    figure = Figure("loss", "loss", 1.8316, "bits per byte", low=1.685, high=None)
    assert result(figure) == "1.832 bits per byte (1.685 to –)"
