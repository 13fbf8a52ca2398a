import json
import random
from dataclasses import astuple, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.plan.calibration import Calibration, Corrections, PastRun, TimedStep, fit_speed
from groundup.plan.candidates import ladder
from groundup.plan.hardware import Hardware
from groundup.plan.speed import WEIGHTS, step_parts, step_seconds
from groundup.recipe import ModelRecipe

RUN = PastRun(("books.txt",), 2.0, 2.1, 1000, 1200)


def timed(hardware: Hardware, weights: dict[str, float], count: int) -> list[TimedStep]:
    """Steps as a machine with these weights would take them."""
    draw = random.Random(1)
    steps = []
    for _ in range(count):
        shape = draw.choice(
            ladder(ModelRecipe(), draw.choice((512, 4096, 32768)), draw.choice((64, 128, 512, 1024)))[:10]
        )
        batch, precision = draw.choice((1, 4, 16)), draw.choice(("fp32", "bf16"))
        seconds = step_seconds(shape, batch, replace(hardware, speed=weights), precision)
        steps.append(TimedStep(shape, batch, precision, "muon", "none", seconds))
    return steps


def test_weights_are_found_again(hardware: Hardware) -> None:
    draw = random.Random(2)
    weights = {name: value * draw.uniform(0.5, 2.0) for name, value in WEIGHTS.items()}
    found = fit_speed(timed(hardware, weights, 60), hardware, prior=0.0)
    for name, value in weights.items():
        assert found[name] == pytest.approx(value, rel=1e-6), name


def test_a_machine_that_is_slower_in_all_is_known_from_few_steps(hardware: Hardware) -> None:
    slower = {name: 1.7 * value for name, value in WEIGHTS.items()}
    fitted = replace(hardware, speed=fit_speed(timed(hardware, slower, 5), hardware))
    for step in timed(hardware, slower, 40):
        assert step_seconds(step.shape, step.batch_size, fitted, step.precision) == pytest.approx(
            step.seconds, rel=1e-6
        )


def test_no_weight_is_negative(hardware: Hardware) -> None:
    steps = timed(hardware, dict(WEIGHTS), 8)
    noisy = [replace(step, seconds=step.seconds * (0.3 if index % 2 else 3.0)) for index, step in enumerate(steps)]
    assert min(fit_speed(noisy, hardware).values()) >= 0


def test_a_stored_calibration_is_read_back(hardware: Hardware) -> None:
    made = Calibration(hardware, "2026-01-01", True, timed(hardware, dict(WEIGHTS), 3), [RUN])
    assert Calibration.from_json(json.loads(json.dumps(made.as_json()))) == made


def test_without_timed_steps_the_defaults_hold(hardware: Hardware) -> None:
    assert Calibration(hardware, "2026-01-01").calibrated() == hardware


def test_a_step_of_the_same_kind_replaces_the_older_one(hardware: Hardware) -> None:
    first, second = timed(hardware, dict(WEIGHTS), 2)
    known = Calibration(hardware, "2026-01-01").with_step(first).with_step(second)
    again = replace(first, seconds=9.0)
    assert list(known.with_step(again).steps) == [second, again]


@given(count=st.integers(1, 30))
def test_past_misses_draw_the_expectation_towards_them(count: int) -> None:
    hardware = Hardware("a processor", "cpu", 2, 16 << 30, 2e11, 6e11, 3e10)
    known = Calibration(hardware, "2026-01-01")
    assert known.corrections(RUN.sources) == Corrections()
    factors = []
    for _ in range(count):
        known = known.with_run(RUN)
        factors.append(astuple(known.corrections(RUN.sources)))
    assert factors == sorted(factors)
    assert 1.0 < factors[-1][0] < 2.1 / 2.0
    assert 1.0 < factors[-1][1] < 1.2
    assert known.corrections(("other.txt",)).loss == 1.0


def test_parts_follow_what_they_are_made_of(hardware: Hardware) -> None:
    shape = ladder(ModelRecipe(), 4096, 1024)[5]
    parts = step_parts(shape, 4, hardware, "bf16")
    twice = step_parts(shape, 8, hardware, "bf16")
    fixed = {"weights", "orthogonal", "layers", "step"}
    for name, amount in parts.items():
        assert twice[name] == pytest.approx(amount if name in fixed else 2 * amount), name
    assert parts["scores"] == 0.0  # T 1,024 takes the fused kernel
