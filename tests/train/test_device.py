import psutil
import pytest
import torch

from groundup.errors import UserError
from groundup.processor import cores_for
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


def test_one_process_keeps_to_omp_num_threads_and_many_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = cores_for()
    assert 1 <= cores <= (psutil.cpu_count() or 1)
    assert cores_for(cores + 1) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cores_for() == 1
    assert cores_for(2) == max(1, cores // 2)
    for ignored in ("", "0", "many", str(cores + 5)):
        monkeypatch.setenv("OMP_NUM_THREADS", ignored)
        assert cores_for() == cores


@pytest.mark.skipif(not hasattr(psutil.Process, "cpu_affinity"), reason="cores cannot be taken away here")
def test_cores_taken_away_are_not_counted() -> None:
    """As by `taskset` or a container."""
    before = psutil.Process().cpu_affinity()
    try:
        psutil.Process().cpu_affinity(before[:1])
        assert cores_for() == 1
    finally:
        psutil.Process().cpu_affinity(before)


def test_the_processor_needs_no_waiting() -> None:
    synchronise("cpu")
