"""How much electricity a run takes, and how much CO2 that means: estimates from what the parts are built for."""

from dataclasses import dataclass
from functools import cache

from groundup.errors import UserError, nearest
from groundup.plan.cluster.devices import Cluster, device_in
from groundup.plan.figures import Figure
from groundup.plan.hardware import Hardware
from groundup.plan.tables import read_table

_UNKNOWN_BOARD_WATTS = 350
# Server processors are built for 4 to 8 W a core, those of laptops and desktops for 8 to 15 W.
_CORE_WATTS = 8
_MEMORY_AND_BOARD_WATTS = 10
# What a data centre takes for each watt of its computers: the average answer of its operators (Uptime Institute's
# survey of 2024). The largest clouds state about 1.1.
PUE = 1.56


@dataclass(frozen=True)
class Region:
    """Where electricity comes from: grams of CO2 equivalent a kWh, averaged over `year`."""

    name: str
    label: str
    grams_per_kwh: float
    year: int
    source: str


def energy_wh(hardware: Hardware, seconds: float) -> float:
    """Watt-hours of `seconds` at full load; right within a factor of about two."""
    return full_watts(hardware) * seconds / 3600.0


def full_watts(hardware: Hardware) -> float:
    """What the machine takes at full load, by what its parts are built for."""
    watts: float = _MEMORY_AND_BOARD_WATTS + _CORE_WATTS * hardware.threads
    if hardware.device.startswith("cuda"):
        board = device_in(hardware.name)
        watts += board.watts if board else _UNKNOWN_BOARD_WATTS
    return watts


def energy_kwh(cluster: Cluster, seconds: float, pue: float = PUE) -> float:
    """Kilowatt-hours that a data centre takes for `seconds` of all devices at the power they are built for.

    The devices' hosts and network are not counted; that devices rarely take their full power makes up for a part.
    """
    if not 1 <= pue < 10:
        raise UserError(f"a power usage effectiveness of {pue:g} cannot be; it is at least 1, mostly 1.1 to 1.6")
    return cluster.count * cluster.device.watts * seconds / 3.6e6 * pue


def co2_kg(kwh: float, region: str = "world") -> float:
    """Kilograms of CO2 equivalent for electricity of a country, or of the world's average."""
    return kwh * find_region(region).grams_per_kwh / 1000.0


def co2_figure(kwh: float, region: str) -> Figure:
    """`co2_kg`, with what it follows from."""
    where = find_region(region)
    return Figure("co2_kg", f"CO2 ({where.label})", co2_kg(kwh, region), "kg", formula="E g / 1000",
                  values={"E": kwh, "g": where.grams_per_kwh}, source=f"{where.source}, {where.year}")  # fmt: skip


def find_region(name: str) -> Region:
    """The region of that name or country code; UserError with the nearest known name otherwise."""
    wanted = "-".join(name.lower().split())
    if wanted not in _regions():
        known = {region.name for region in _regions().values()}
        raise UserError(f"unknown region '{name}'{nearest(wanted, known)}")
    return _regions()[wanted]


@cache
def _regions() -> dict[str, Region]:
    regions: dict[str, Region] = {}
    for row in read_table("regions.csv"):
        region = Region(row["name"], row["label"], float(row["g_per_kwh"]), int(row["year"]), row["source"])
        regions |= dict.fromkeys((row["name"], *row["aliases"].split()), region)
    return regions
