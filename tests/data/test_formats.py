import gzip
import json
import lzma
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from groundup.data.formats import NotTextError, read_file, read_standard_input
from groundup.errors import UserError

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
DAMAGEABLE = [ending for ending in COMPRESS if ending]


def documents_of(path: Path, field: str = "text") -> list[bytes]:
    parts = list(read_file(path, field=field))
    assert all(part.ends_document for part in parts)
    return [part.data for part in parts]


@pytest.fixture(params=COMPRESS)
def compression(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("name", ["prose.txt", "code.py", "README", "v1.2.md", "UPPER.TXT"])
def test_a_text_file_is_one_document(tmp_path: Path, name: str, compression: str) -> None:
    data = "Zwölf Boxkämpfer\r\n".encode() + b"\xff\xc3 not UTF-8\n"
    path = tmp_path / (name + compression)
    path.write_bytes(COMPRESS[compression](data))
    assert documents_of(path) == [data]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.b.JSONL"])
def test_json_lines(tmp_path: Path, name: str, compression: str) -> None:
    path = tmp_path / (name + compression)
    lines = ['{"text": "caf\\u00e9\\n", "id": 1}', "", '{"id": 2, "text": "漢字"}', '{"text": null}']
    path.write_bytes(COMPRESS[compression]("\n".join(lines).encode()))
    assert documents_of(path) == ["café\n".encode(), "漢字".encode(), b""]


def test_json_lines_keep_invalid_utf8_and_lone_surrogates(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "x\xff\xe9y"}\n{"text": "\\ud83d"}\n')
    assert documents_of(path) == [b"x\xff\xe9y", b"\xed\xa0\xbd"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_json_lines_give_back_any_text(tmp_path: Path, texts: list[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    assert documents_of(path, "body") == [text.encode() for text in texts]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())]
)
def test_parquet_of_several_row_groups(tmp_path: Path, kind: pa.DataType) -> None:
    values = [f"row {number} é" for number in range(300)] + [None]
    path = tmp_path / "a.parquet"
    column = (
        pa.array(values).cast(kind) if not pa.types.is_dictionary(kind) else pa.array(values).dictionary_encode()
    )
    parquet.write_table(pa.table({"id": list(range(301)), "text": column}), path, row_group_size=100)
    assert documents_of(path) == [value.encode() if value else b"" for value in values]


def test_a_wrong_field_names_those_that_are_there(tmp_path: Path) -> None:
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"title": "x", "body": "y"}\n')
    table = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"title": ["x"], "body": ["y"]}), table)
    for path in (lines, table):
        with pytest.raises(
            UserError, match=r"no field 'text'; the fields are: body, title; .*--set data.field=NAME"
        ):
            documents_of(path)


def test_a_field_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"text": "x"}\n{"text": 3}\n')
    with pytest.raises(UserError, match=r"a\.jsonl, line 2: field 'text' is int, not text"):
        documents_of(lines)


@pytest.mark.parametrize("line", ["{text: 1}", "", "[1, 2]", '"only a string"'])
def test_a_malformed_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "fine"}}\n\n{line or chr(123)}\n')
    with pytest.raises(UserError, match=r"a\.jsonl, line 3: not (a )?JSON"):
        documents_of(path)


@pytest.mark.parametrize("ending", DAMAGEABLE)
@pytest.mark.parametrize("harm", ["truncated", "garbled", "another format"])
def test_damaged_archives_are_user_errors(tmp_path: Path, ending: str, harm: str) -> None:
    whole = COMPRESS[ending](b"".join(b"%d and so on\n" % number for number in range(5000)))
    middle = len(whole) // 2
    damaged = {
        "truncated": whole[:-10],
        "garbled": whole[:middle]
        + bytes(byte ^ 0xFF for byte in whole[middle : middle + 50])
        + whole[middle + 50 :],
        "another format": b"plain text all along",
    }[harm]
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=f"a.txt{ending}: damaged or truncated {ending} file"):
        documents_of(path)


@pytest.mark.parametrize("ending", DAMAGEABLE)
def test_several_compressed_streams_in_a_row_are_one_text(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(COMPRESS[ending](b"one " * 9000) + COMPRESS[ending](b"two"))
    assert documents_of(path) == [b"one " * 9000 + b"two"]


def test_damaged_parquet_is_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(UserError, match="not a readable parquet file"):
        documents_of(path)
    parquet.write_table(pa.table({"text": ["some text"] * 1000}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="not a readable parquet file"):
        documents_of(path)


def test_compressed_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet.gz"
    path.write_bytes(gzip.compress(b"x"))
    with pytest.raises(UserError, match="decompress this file first"):
        documents_of(path)


def test_a_byte_order_mark_is_dropped(tmp_path: Path, compression: str) -> None:
    for name, content in (("a.txt", b"text"), ("a.jsonl", b'{"text": "text"}')):
        path = tmp_path / (name + compression)
        path.write_bytes(COMPRESS[compression](b"\xef\xbb\xbf" + content))
        assert documents_of(path) == [b"text"]


def test_binary_files_are_refused(tmp_path: Path, compression: str) -> None:
    path = tmp_path / f"a.bin{compression}"
    path.write_bytes(COMPRESS[compression](b"x" * 8000 + b"\0"))
    with pytest.raises(NotTextError, match="a binary file"):
        documents_of(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_told_how_to_convert(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("Plain English text.\n".encode(encoding))
    with pytest.raises(NotTextError, match="UTF-16 text; convert it first: iconv -f UTF-16 -t UTF-8"):
        documents_of(path)


def test_utf16_of_chinese_is_recognised_by_its_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("漢字".encode("utf-16"))
    with pytest.raises(NotTextError, match="UTF-16"):
        documents_of(path)


def test_standard_input_is_text_that_can_be_split(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = BytesIO(b"\xef\xbb\xbfone\n\ntwo\xff\n")
    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": stream}))
    assert [part.data for part in read_standard_input("blank-lines")] == [b"one\n", b"two\xff\n"]
    assert not stream.closed


def test_binary_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": BytesIO(b"\x7fELF\0")}))
    with pytest.raises(UserError, match="standard input: a binary file"):
        list(read_standard_input("none"))
