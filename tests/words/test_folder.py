"""The folder that training writes."""

import resource
from pathlib import Path

import numpy as np
import pytest

from groundup.errors import UserError
from groundup.words import folder
from groundup.words.settings import TextSettings, Word2VecSettings
from groundup.words.vocabulary import Vocabulary


def test_a_full_disk_is_told_in_one_line_and_what_was_there_stays(tmp_path: Path) -> None:
    vocabulary = Vocabulary(["a"], np.array([1]))
    about = folder.About(Word2VecSettings(), TextSettings(sources=["text"]), {"finished": False})
    vectors = np.ones((1, 4), np.float32)
    folder.save(tmp_path / "words", about, vocabulary, vectors, {"inputs": np.ones(3, np.float32)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(UserError, match=r"could not write .*state.safetensors: .*; make room") as error:
            folder.save(tmp_path / "words", about, vocabulary, vectors, {"inputs": np.zeros(4000, np.float32)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)
    assert folder.read_state(tmp_path / "words")["inputs"].tolist() == [1, 1, 1]
