from dataclasses import replace

import pytest

from groundup.plan.hardware import Hardware


def test_bfloat16_has_to_win_clearly(hardware: Hardware) -> None:
    assert replace(hardware, flops_fp32=1e12, flops_bf16=1.2e12).precision == "fp32"
    assert replace(hardware, flops_fp32=1e12, flops_bf16=0.1e12).precision == "fp32"
    assert replace(hardware, flops_fp32=1e12, flops_bf16=2e12).precision == "bf16"


def test_each_precision_has_its_throughput(hardware: Hardware) -> None:
    assert (hardware.flops("fp32"), hardware.flops("bf16")) == (hardware.flops_fp32, hardware.flops_bf16)


@pytest.mark.parametrize("flops_bf16", [1e11, 9e11])
def test_what_the_processor_has_counts_more_than_what_was_measured(flops_bf16: float) -> None:
    """A busy machine measures anything."""
    measured = Hardware("", "cpu", 2, 1 << 30, 2e11, flops_bf16, 5e10)
    assert replace(measured, has_bf16=True).precision == "bf16"
    assert replace(measured, has_bf16=False).precision == "fp32"
