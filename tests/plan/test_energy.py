from dataclasses import replace

import pytest

from groundup.errors import UserError
from groundup.plan.cluster.devices import parse_hardware
from groundup.plan.energy import PUE, co2_kg, energy_kwh, energy_wh, find_region
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


@pytest.mark.parametrize(("gpu_hours", "tonnes"), [(184_320, 31.22), (368_640, 62.44), (1_720_320, 291.42)])
def test_llama_2s_carbon_is_what_its_authors_state(gpu_hours: float, tonnes: float) -> None:
    """Touvron et al. 2023, table 2: 7B, 13B and 70B on A100 of 400 W. They do not state which electricity."""
    kwh = energy_kwh(parse_hardware("a100"), gpu_hours * 3600, pue=1.1)
    assert co2_kg(kwh, "united-states") / 1000 == pytest.approx(tonnes, rel=0.06)


def test_energy_of_a_cluster() -> None:
    """8 boards of 700 W for an hour: 5.6 kWh, and the cooling."""
    eight = parse_hardware("h100x8")
    assert energy_kwh(eight, 3600, pue=1.0) == pytest.approx(5.6)
    assert energy_kwh(eight, 3600) == pytest.approx(5.6 * PUE)
    with pytest.raises(UserError, match="at least 1"):
        energy_kwh(eight, 3600, pue=0.9)


@pytest.mark.parametrize(
    ("region", "grams"),
    # Ember for 2023, as Our World in Data and Statista show it.
    [("world", 481), ("china", 582), ("cn", 582), ("FR", 56), ("Germany", 381), ("india", 713), ("norway", 30),
     ("Canada", 170), ("australia", 549), ("South Africa", 708)],
)  # fmt: skip
def test_regions(region: str, grams: float) -> None:
    assert find_region(region).grams_per_kwh == grams
    assert co2_kg(2.0, region) == pytest.approx(2 * grams / 1000)
    assert find_region(region).year >= 2022


def test_an_unknown_region_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown region 'frence'; did you mean 'france'"):
        co2_kg(1.0, "frence")
