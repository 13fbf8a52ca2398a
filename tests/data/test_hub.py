import json
import sys
from pathlib import Path

import pytest

from groundup.data.sources import read
from groundup.errors import UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local data set with the splits train and test, as the hub lays them out."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    root = tmp_path / "dataset"
    root.mkdir()
    for split, texts in {"train": ["one", "zwölf", " "], "test": ["held"]}.items():
        lines = [json.dumps({"text": text, "n": number}) for number, text in enumerate(texts)]
        (root / f"{split}.jsonl").write_text("\n".join(lines))
    return root


def test_a_local_data_set_is_streamed(folder: Path) -> None:
    assert [part.data for part in read([f"hf:{folder}"])] == [b"one", "zwölf".encode()]
    assert [part.data for part in read([f"hf:{folder}:test"])] == [b"held"]


def test_a_wrong_field_names_those_that_are_there(folder: Path) -> None:
    with pytest.raises(UserError, match=r"row 1: no field 'body'; the fields are: n, text"):
        list(read([f"hf:{folder}"], field="body"))
    with pytest.raises(UserError, match="field 'n' is int, not text"):
        list(read([f"hf:{folder}"], field="n"))


def test_a_wrong_split_or_name_is_one_line(folder: Path) -> None:
    for source in (f"hf:{folder}:nosuch", "hf:nobody/there-is-no-such-data-set"):
        with pytest.raises(UserError, match="cannot be read") as raised:
            list(read([source]))
        assert "\n" not in str(raised.value)


def test_a_name_is_needed() -> None:
    with pytest.raises(UserError, match="hf:: names no data set"):
        list(read(["hf:"]))


def test_a_missing_package_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'groundup\[hub\]'"):
        list(read([f"hf:{folder}"]))
