from dataclasses import replace

import pytest

from groundup.plan.energy import energy_wh
from groundup.plan.hardware import Hardware


def _board_watts(hardware: Hardware, name: str) -> float:
    """What the board adds in an hour."""
    board = replace(hardware, name=name, device="cuda")
    return energy_wh(board, 3600) - energy_wh(hardware, 3600)


@pytest.mark.parametrize(
    ("name", "watts"),
    [
        ("Tesla V100-SXM2-32GB", 300),
        ("NVIDIA A100-SXM4-80GB", 400),
        ("NVIDIA H100 80GB HBM3", 700),
        ("NVIDIA L4", 72),
        ("NVIDIA GeForce RTX 4090", 450),
        ("AMD Instinct MI300X", 750),
        ("NVIDIA L40S", 350),
    ],
)
def test_boards_take_what_their_makers_say(hardware: Hardware, name: str, watts: float) -> None:
    assert _board_watts(hardware, name) == pytest.approx(watts)


def test_energy_grows_with_time_and_cores(hardware: Hardware) -> None:
    assert energy_wh(hardware, 7200) == pytest.approx(2 * energy_wh(hardware, 3600))
    assert energy_wh(replace(hardware, threads=16), 60) > energy_wh(hardware, 60)
    assert energy_wh(hardware, 0) == 0
