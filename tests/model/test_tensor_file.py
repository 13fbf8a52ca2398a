import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from groundup.errors import UserError
from groundup.model.tensor_file import save_tensors


def test_what_was_saved_is_read_again(tmp_path: Path) -> None:
    save_tensors({"a": torch.arange(3)}, tmp_path / "file", {"format": "pt"})
    assert load_file(tmp_path / "file")["a"].tolist() == [0, 1, 2]


def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(UserError, match=r"could not write .*file: .*; make room") as error:
            save_tensors({"a": torch.zeros(1000)}, tmp_path / "file")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)
