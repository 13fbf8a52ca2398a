"""The largest memory that this process has held, and forgetting it, so that one stretch of work is measured."""

import resource
import sys
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# Of Linux, Documentation/filesystems/proc.rst: what to write so that the peak counts from now on.
_RESET_PEAK = "5"


def peak_bytes(device: str = "cpu") -> int:
    """Bytes resident at the peak since the process began, or since `reset_peak`; of a GPU, bytes of its tensors.

    Linux gives its own count (VmHWM), since getrusage counts in what the parent held when it started this process.
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    if _STATUS.is_file():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_peak(device: str = "cpu") -> bool:
    """Count the peak from now on; False where the system does not let a process do that."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True
