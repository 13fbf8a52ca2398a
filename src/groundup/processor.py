"""What the system says of the processor, without torch."""

import platform
from pathlib import Path

_LINUX_FILE = Path("/proc/cpuinfo")


def processor_name() -> str:
    """The processor as the system names it."""
    if _LINUX_FILE.is_file():
        for line in _LINUX_FILE.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def bf16_instructions() -> list[str] | None:
    """The processor's instructions for bfloat16 products, as Linux names them; None on other systems."""
    if not _LINUX_FILE.is_file():
        return None
    words = set(_LINUX_FILE.read_text(errors="replace").split())
    return [name for name in ("amx_bf16", "avx512_bf16", "bf16") if name in words]
