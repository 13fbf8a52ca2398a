import subprocess
import sys

import pytest

_KEPT_BYTES = """
import sys
import psutil
from groundup.train.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
resident = psutil.Process().memory_info
before = resident().rss
block = bytearray(64 << 20)
assert resident().rss - before > 60 << 20
del block
print(resident().rss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it acts on the GNU C library alone")
def test_freed_blocks_stay_with_the_process() -> None:
    kept = {}
    for mode in ("default", "keep"):
        command = [sys.executable, "-c", _KEPT_BYTES, mode]
        kept[mode] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert kept["default"] < 8 << 20
    assert kept["keep"] > 56 << 20
