from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.plan.candidates import ladder
from groundup.plan.flops import train_flops_per_token
from groundup.plan.hardware import Hardware
from groundup.plan.speed import step_seconds
from groundup.recipe import ModelRecipe

LADDER = ladder(ModelRecipe(), vocabulary_size=2048, context=256)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_is_never_faster_than_the_machine(hardware: Hardware, precision: str) -> None:
    for shape in LADDER:
        products = 8 * shape.context * train_flops_per_token(shape) / hardware.flops(precision)
        assert step_seconds(shape, 8, hardware, precision) > products


@given(index=st.integers(0, len(LADDER) - 2), batch_size=st.integers(1, 512))
def test_larger_steps_take_longer(index: int, batch_size: int) -> None:
    hardware = Hardware("a processor", "cpu", 2, 16 << 30, 2e11, 6e11, 3e10)
    seconds = step_seconds(LADDER[index], batch_size, hardware, "fp32")
    assert step_seconds(LADDER[index + 1], batch_size, hardware, "fp32") > seconds
    assert seconds < step_seconds(LADDER[index], 2 * batch_size, hardware, "fp32") < 2 * seconds


def test_a_better_machine_is_faster(hardware: Hardware) -> None:
    seconds = step_seconds(LADDER[5], 8, hardware, "fp32")
    for better in ({"flops_fp32": 4e11}, {"memory_bandwidth": 6e10}):
        assert seconds / 2 < step_seconds(LADDER[5], 8, replace(hardware, **better), "fp32") < seconds
