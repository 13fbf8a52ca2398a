"""What devices cost to rent: dated ranges, never a single price, and what hours of them add up to."""

import math
from dataclasses import dataclass
from functools import cache

from groundup.errors import UserError
from groundup.plan.cluster.devices import Cluster, Device
from groundup.plan.tables import read_table


@dataclass(frozen=True)
class Price:
    """US dollars an hour for one device: a range over providers and what is usual in it; from when and where."""

    low: float
    high: float
    typical: float
    date: str
    source: str


@dataclass(frozen=True)
class Cost:
    """US dollars: the range that a range of prices gives, and what is usual in it."""

    low: float
    high: float
    typical: float


def price(device: Device, usd_per_hour: float | None = None) -> Price:
    """What an hour of `device` costs; `usd_per_hour` is the user's own price, which then is all there is."""
    if usd_per_hour is not None:
        return own_price(usd_per_hour)
    known = _prices()
    if device.name not in known:
        raise UserError(f"no price of {device.name} is known; give US dollars an hour for one device with --price")
    return known[device.name]


def own_price(usd_per_hour: float) -> Price:
    """The user's own price; UserError where it is none."""
    if not (math.isfinite(usd_per_hour) and usd_per_hour > 0):
        raise UserError(f"--price {usd_per_hour:g} is no price; give US dollars an hour for one device")
    return Price(usd_per_hour, usd_per_hour, usd_per_hour, "now", "given with --price")


def cost(cluster: Cluster, seconds: float, usd_per_hour: float | None = None) -> Cost:
    """What `seconds` of all devices of `cluster` cost."""
    rate = price(cluster.device, usd_per_hour)
    hours = cluster.count * seconds / 3600.0
    return Cost(hours * rate.low, hours * rate.high, hours * rate.typical)


@cache
def _prices() -> dict[str, Price]:
    return {row["device"]: _price(row) for row in read_table("prices.csv")}


def _price(row: dict[str, str]) -> Price:
    low, high = float(row["low"]), float(row["high"])
    typical = float(row["typical"]) if row["typical"] else math.sqrt(low * high)
    return Price(low, high, typical, row["date"], row["source"])
