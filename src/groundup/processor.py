"""What the system says of the processor, without torch."""

import os
import platform
from pathlib import Path

import psutil

_LINUX_FILE = Path("/proc/cpuinfo")


def processor_name() -> str:
    """The processor as the system names it."""
    if _LINUX_FILE.is_file():
        for line in _LINUX_FILE.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores_for(processes: int = 1) -> int:
    """The physical cores that a process may work with: a second thread on a core only waits for its units.

    OMP_NUM_THREADS allows a process that is alone at most so many. So many `processes` on this machine share its
    cores, and torchrun sets OMP_NUM_THREADS to 1 for them whatever the machine has: there it says nothing.
    """
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    if hasattr(psutil.Process, "cpu_affinity"):
        cores = min(cores, len(psutil.Process().cpu_affinity()))
    named = os.environ.get("OMP_NUM_THREADS", "")
    if processes == 1 and named.isdecimal() and int(named):
        cores = min(cores, int(named))
    return max(1, cores // processes)


def bf16_instructions() -> list[str] | None:
    """The processor's instructions for bfloat16 products, as Linux names them; None on other systems."""
    if not _LINUX_FILE.is_file():
        return None
    words = set(_LINUX_FILE.read_text(errors="replace").split())
    return [name for name in ("amx_bf16", "avx512_bf16", "bf16") if name in words]
