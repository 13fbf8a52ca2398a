"""How much electricity a run takes: an estimate from the power that the busy parts are built for."""

import re

from groundup.plan.hardware import Hardware

# Watts at full load, by what the device's name contains (makers' figures for the whole board).
_BOARD_WATTS = {
    "V100": 300,
    "A100": 400,
    "H100": 700,
    "H200": 700,
    "B200": 1000,
    "L4": 72,
    "4090": 450,
    "MI300X": 750,
}
_UNKNOWN_BOARD_WATTS = 350
# Server processors are built for 4 to 8 W a core, those of laptops and desktops for 8 to 15 W.
_CORE_WATTS = 8
_MEMORY_AND_BOARD_WATTS = 10


def energy_wh(hardware: Hardware, seconds: float) -> float:
    """Watt-hours of `seconds` at full load; right within a factor of about two."""
    watts = _MEMORY_AND_BOARD_WATTS + _CORE_WATTS * hardware.threads
    if hardware.device.startswith("cuda"):
        words = re.split(r"[^A-Za-z0-9]+", hardware.name)
        known = (board for part, board in _BOARD_WATTS.items() if part in words)
        watts += next(known, _UNKNOWN_BOARD_WATTS)
    return watts * seconds / 3600.0
