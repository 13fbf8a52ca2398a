from dataclasses import replace

from groundup.plan.hardware import Hardware


def test_bfloat16_has_to_win_clearly(hardware: Hardware) -> None:
    assert replace(hardware, flops_fp32=1e12, flops_bf16=1.2e12).precision == "fp32"
    assert replace(hardware, flops_fp32=1e12, flops_bf16=0.1e12).precision == "fp32"
    assert replace(hardware, flops_fp32=1e12, flops_bf16=2e12).precision == "bf16"


def test_each_precision_has_its_throughput(hardware: Hardware) -> None:
    assert (hardware.flops("fp32"), hardware.flops("bf16")) == (hardware.flops_fp32, hardware.flops_bf16)
