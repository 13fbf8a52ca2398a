import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from groundup.seeds import derive

_SEEDS = st.integers(0, 2**31 - 1)


@given(_SEEDS, st.text())
def test_seeds_have_63_bits(seed: int, purpose: str) -> None:
    assert 0 <= derive(seed, purpose) < 2**63


@given(_SEEDS, _SEEDS, st.text(), st.text())
def test_another_seed_or_purpose_gives_another(first: int, second: int, purpose: str, other: str) -> None:
    same = (first, purpose) == (second, other)
    assert (derive(first, purpose) == derive(second, other)) == same


def test_other_processes_derive_the_same() -> None:
    """Python's own hash, which differs from one process to the next, has no part in it."""
    command = [sys.executable, "-c", "from groundup.seeds import derive; print(derive(7, 'weights'))"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(answer.stdout) == derive(7, "weights")


def test_all_bits_are_used() -> None:
    """Over many seeds each of the 63 bits is set about half of the time."""
    derived = [derive(seed, "batches") for seed in range(1000)]
    for bit in range(63):
        assert 400 < sum(number >> bit & 1 for number in derived) < 600
