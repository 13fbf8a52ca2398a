import psutil
import pytest
import torch

from groundup.errors import UserError
from groundup.train.device import choose_device, set_threads, synchronise


def test_auto_takes_what_is_there() -> None:
    if torch.cuda.is_available():
        assert choose_device("auto") == "cuda"
    elif torch.backends.mps.is_available():
        assert choose_device("auto") == "mps"
    else:
        assert choose_device("auto") == "cpu"
    assert choose_device("cpu") == "cpu"


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match=r"train\.device='tpu' is not on this machine, which has: .*cpu"):
        choose_device("tpu")


def test_threads_are_set() -> None:
    before = torch.get_num_threads()
    try:
        assert set_threads(3) == torch.get_num_threads() == 3
        assert 1 <= set_threads(None) <= (psutil.cpu_count() or 1)
    finally:
        torch.set_num_threads(before)


def test_the_processor_needs_no_waiting() -> None:
    synchronise("cpu")
