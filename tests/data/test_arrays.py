from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.data.arrays import ArrayWriter


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.lists(st.integers(0, 2**16 - 1))), st.sampled_from(["uint16", "uint32", "int64"]))
def test_numpy_reads_and_maps_what_was_appended(tmp_path: Path, pieces: list[list[int]], dtype: str) -> None:
    path = tmp_path / "a.npy"
    with ArrayWriter(path, dtype) as writer:
        for piece in pieces:
            writer.append(piece)
    values = np.load(path)
    assert values.dtype == dtype and values.tolist() == list(chain(*pieces)) and writer.length == len(values)
    assert np.load(path, mmap_mode="r" if len(values) else None).tolist() == values.tolist()


def test_a_value_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    with ArrayWriter(tmp_path / "a.npy", "uint16") as writer, pytest.raises(OverflowError):
        writer.append([65536])
