import psutil
import torch

from groundup.recipe import TrainRecipe
from groundup.train.machine import measure, measure_step_seconds

from .conftest import SHAPE


def test_a_machine_is_measured_and_a_step_timed() -> None:
    before = torch.get_num_threads()
    try:
        settings = TrainRecipe(lr=1e-3, device="cpu", threads=1, micro_batch=2)
        hardware = measure(settings)
        seconds = measure_step_seconds(SHAPE, 4, settings, hardware)
    finally:
        torch.set_num_threads(before)
    assert (hardware.device, hardware.threads) == ("cpu", 1)
    assert hardware.name
    assert 0 < hardware.memory_bytes <= psutil.virtual_memory().total
    assert min(hardware.flops_fp32, hardware.flops_bf16, hardware.memory_bandwidth, seconds) > 0
