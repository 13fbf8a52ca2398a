"""A machine and a corpus to plan for."""

import pytest

from groundup.plan.choose import Corpus
from groundup.plan.hardware import Hardware


@pytest.fixture(scope="session")
def hardware() -> Hardware:
    """About two cores of a server of 2024."""
    return Hardware(
        name="a processor",
        device="cpu",
        threads=2,
        memory_bytes=16 << 30,
        flops_fp32=2e11,
        flops_bf16=6e11,
        memory_bandwidth=3e10,
    )


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """100 MB of English."""
    return Corpus(train_bytes=1e8, bytes_per_token=3.6, compressibility=2.33)
