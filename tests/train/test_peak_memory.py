import mmap

import psutil

from groundup.train.peak_memory import peak_bytes, reset_peak

SIZE = 200_000_000


def touch(num_bytes: int) -> None:
    """Hold so much memory for a moment; given back at once, whatever the allocator is told to keep."""
    with mmap.mmap(-1, num_bytes) as block:
        for place in range(0, num_bytes, mmap.PAGESIZE):
            block[place] = 1


def test_the_peak_is_kept_when_the_memory_is_given_back() -> None:
    before = psutil.Process().memory_info().rss
    touch(SIZE)
    # Linux counts pages in small batches.
    assert peak_bytes() >= before + 0.99 * SIZE > psutil.Process().memory_info().rss


def test_the_peak_counts_anew() -> None:
    touch(SIZE)
    high = peak_bytes()
    if reset_peak():
        assert psutil.Process().memory_info().rss * 0.99 <= peak_bytes() < high - 0.9 * SIZE
        touch(2 * SIZE)
        assert peak_bytes() > high
    else:
        assert peak_bytes() >= high
