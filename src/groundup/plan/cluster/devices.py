"""Devices that can be rented or bought, as their makers state them: a dated table, and clusters of one kind."""

import re
from dataclasses import dataclass
from functools import cache

from groundup.errors import UserError, nearest
from groundup.plan.tables import read_table


@dataclass(frozen=True)
class Device:
    """One accelerator at its best: peak dense FLOP/s, memory in bytes, bandwidths in bytes/s a device.

    `link_bandwidth` (within a node) and `network_bandwidth` (between nodes) count one direction; a node has
    `node_size` devices. `watts` is its power at full load. `source` says where the figures are from, and when they
    were looked up.
    """

    name: str
    label: str
    memory_bytes: int
    flops_bf16: float
    flops_fp32: float
    memory_bandwidth: float
    link_bandwidth: float
    network_bandwidth: float
    node_size: int
    watts: float
    source: str


@dataclass(frozen=True)
class Cluster:
    """`count` devices of one kind."""

    device: Device
    count: int

    @property
    def nodes(self) -> int:
        """Nodes that it takes; the last may be partly used."""
        return -(-self.count // self.device.node_size)

    @property
    def name(self) -> str:
        """As `parse_hardware` reads it: `h100x8`."""
        return f"{self.device.name}x{self.count}"


@cache
def devices() -> dict[str, Device]:
    """All devices by name."""
    return {row["name"]: _device(row) for row in read_table("cluster/devices.csv")}


def parse_hardware(text: str) -> Cluster:
    """`h100x8`, `8xh100`, `a100-80x64`, `tpu-v3-8` (one board), `tpu-v3-8x4` -> Cluster; UserError otherwise."""
    written = text.strip().lower()
    if device := _find(written):
        return Cluster(device, 1)
    after, before = re.fullmatch(r"(.+)x([0-9]+)", written), re.fullmatch(r"([0-9]+)x(.+)", written)
    if after and (device := _find(after[1])):
        return _cluster(text, device, after[2])
    if before and (device := _find(before[2])):
        return _cluster(text, device, before[1])
    name = after[1] if after else before[2] if before else written
    raise UserError(f"unknown hardware '{text}'{nearest(name, devices())}; write h100x8 for eight of them")


def device_in(name: str) -> Device | None:
    """The device that a driver's name for it speaks of: `NVIDIA H100 80GB HBM3` -> h100; None where unknown."""
    words = f"-{'-'.join(re.findall(r'[a-z0-9]+', name.lower()))}-"
    known = sorted({*devices(), *_aliases()}, key=len, reverse=True)  # h100-pcie before h100
    return next((_find(one) for one in known if f"-{one}-" in words), None)


def _find(name: str) -> Device | None:
    return devices().get(_aliases().get(name, name))


def _cluster(text: str, device: Device, count: str) -> Cluster:
    if len(count) > 6 or int(count) < 1:
        raise UserError(f"hardware '{text}' has {count} devices; write a number from 1 to 999999")
    return Cluster(device, int(count))


@cache
def _aliases() -> dict[str, str]:
    return {alias: row["name"] for row in read_table("cluster/devices.csv") for alias in row["aliases"].split()}


def _device(row: dict[str, str]) -> Device:
    return Device(
        name=row["name"],
        label=row["label"],
        memory_bytes=int(float(row["memory_gib"]) * 2**30),
        flops_bf16=float(row["bf16_tflops"]) * 1e12,
        flops_fp32=float(row["fp32_tflops"]) * 1e12,
        memory_bandwidth=float(row["memory_gb_s"]) * 1e9,
        link_bandwidth=float(row["link_gb_s"]) * 1e9,
        network_bandwidth=float(row["network_gb_s"]) * 1e9,
        node_size=int(row["node_size"]),
        watts=float(row["watts"]),
        source=f"{row['source']} ({row['date']})",
    )
