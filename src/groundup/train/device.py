"""Which device trains, and with how many threads."""

import torch

from groundup.errors import UserError
from groundup.processor import cores_for


def choose_device(wanted: str) -> str:
    """The device for `train.device`: the named one if it is there, or the best one for 'auto'."""
    available = ["cpu"]
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if wanted == "auto":
        return available[0]
    if wanted.partition(":")[0] not in available:
        raise UserError(f"train.device='{wanted}' is not on this machine, which has: {', '.join(available)}")
    return wanted


def set_threads(wanted: int | None, processes: int = 1) -> int:
    """Use `wanted` threads, or one for each of `cores_for`; returns how many."""
    torch.set_num_threads(wanted or cores_for(processes))
    return torch.get_num_threads()


def synchronise(device: str) -> None:
    """Wait until the device has done what it was given, so that a clock reads true."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()
