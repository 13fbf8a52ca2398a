"""Every code path gives the same: the C++ for each instruction set, plain Python, tiktoken, `tokenizers`."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import tiktoken
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.tokenizer import Tokenizer, native
from groundup.tokenizer.pretokenize import PATTERNS, as_bytes, as_text, splitter

from .conftest import Running
from .strategies import LONG_BYTES, LONG_TEXT

Trained = Callable[[str], Tokenizer]
Run = Callable[[str], Running]
OWN = r"\p{Lu}?\p{Ll}+|[\p{L}\p{M}]{1,4}|\p{N}|\s+(?=\S)|[^\s\p{L}\p{N}]{2}"  # cut in Python: leaves gaps, too


def ends_of_pieces(number: int, text: bytes) -> list[int]:
    """Where the C++ ends pieces by the pattern of this number."""
    ends = np.empty(len(text), np.uint32)
    return ends[: native.module.split(number, text, ends)].tolist()


def ends_by_regex(pattern: str, text: bytes) -> list[int]:
    lengths = [len(as_bytes(piece)) for piece in splitter(pattern)(as_text(text))]
    return np.cumsum(lengths, dtype=np.int64).tolist()


def test_the_patterns_of_the_native_code_are_all_patterns() -> None:
    assert set(native.PATTERNS) == set(PATTERNS)


@pytest.mark.parametrize("pattern", native.PATTERNS)
def test_native_pieces_are_those_of_the_pattern(
    pattern: str, instruction_sets: list[str], running: Run, real_texts: dict[str, str]
) -> None:
    number, expression = native.PATTERNS.index(pattern), PATTERNS[pattern]

    def check(text: bytes) -> None:
        expected = ends_by_regex(expression, text)
        for name in instruction_sets:
            with running(name):
                assert ends_of_pieces(number, text) == expected, name

    for real in real_texts.values():
        check(real.encode())
    # Every character of the planes that hold any but private ones, beside each other and beside what decides.
    random = Random(0)
    points = [*range(0xD800), *range(0xE000, 0x323B0), *range(0xE0000, 0xE0200)]
    random.shuffle(points)
    check(
        "".join(chr(point) + random.choice(["", "", "a", "B", " ", "1", "\n", "'s"]) for point in points).encode()
    )

    @settings(max_examples=150, deadline=None)
    @given(LONG_TEXT.map(str.encode) | LONG_BYTES)
    def on_any_text(text: bytes) -> None:
        check(text)

    on_any_text()


@pytest.mark.parametrize("pattern", [*PATTERNS, "own"])
def test_all_paths_give_the_ids_of_tiktoken_and_hugging_face(
    pattern: str,
    trained: Trained,
    code_paths: list[str],
    running: Run,
    real_texts: dict[str, str],
    hugging_face: Callable[[Tokenizer], tokenizers.Tokenizer],
    tiktoken_encoding: Callable[[Tokenizer], tiktoken.Encoding],
) -> None:
    first = trained(OWN if pattern == "own" else pattern)
    peer, tik = hugging_face(first), tiktoken_encoding(first)
    tokenizer_of = {}
    for path in code_paths:
        with running(path):
            tokenizer_of[path] = Tokenizer(first.definition)

    def check(text: str) -> None:
        expected = peer.encode(text).ids
        if pattern != "own":  # tiktoken drops what the pattern leaves out
            assert expected == tik.encode_ordinary(text)
        for path, tokenizer in tokenizer_of.items():
            with running(path):
                assert tokenizer.encode_ordinary(text) == expected, path

    for text in real_texts.values():
        check(text[:30_000] if pattern == "own" else text)

    @settings(max_examples=80, deadline=None)
    @given(LONG_TEXT)
    def on_any_text(text: str) -> None:
        check(text)

    on_any_text()


@pytest.mark.parametrize("pattern", [*PATTERNS, "own"])
def test_all_paths_agree_on_any_bytes_and_give_them_back(
    pattern: str, trained: Trained, code_paths: list[str], running: Run
) -> None:
    definition = trained(OWN if pattern == "own" else pattern).definition
    tokenizer_of = {}
    for path in code_paths:
        with running(path):
            tokenizer_of[path] = Tokenizer(definition)

    @settings(max_examples=150, deadline=None)
    @given(LONG_BYTES | st.binary() | st.text().map(lambda text: text.encode()[1:-1]))
    def on_any_bytes(document: bytes) -> None:
        with running("plain"):
            expected = tokenizer_of["plain"].encode_ordinary(document)
        for path, tokenizer in tokenizer_of.items():
            with running(path):
                assert tokenizer.encode_ordinary(document) == expected, path
                assert tokenizer.decode_bytes(expected) == document, path
                assert tokenizer.decode_bytes(np.array(expected, np.uint32)) == document, path
                assert tokenizer.decode(expected) == document.decode(errors="replace"), path

    on_any_bytes()


def test_vocabularies_too_large_for_the_native_tables_are_encoded_plainly(
    trained: Trained, texts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = trained("cl100k")
    expected = tokenizer.encode_ordinary(texts["english"])
    monkeypatch.setattr(native, "MOST_TOKENS", 1000)
    large = Tokenizer(tokenizer.definition)
    assert type(large._encoder).__name__ == "PlainEncoder"
    assert large.encode_ordinary(texts["english"]) == expected


def test_ids_may_be_any_31_bits(code_path: str, trained: Trained, texts: dict[str, str]) -> None:
    definition = trained("cl100k").definition
    numbers = {token: (1 << 31) - 1 - 7 * number for token, number in definition.ids.items()}
    sparse = Tokenizer(replace(definition, vocabulary=numbers))
    for text in texts.values():
        ids = sparse.encode_ordinary(text)
        ordinary = trained("cl100k").encode_ordinary(text)
        assert ids == [(1 << 31) - 1 - 7 * number for number in ordinary]
        assert sparse.decode(ids) == text


def test_many_threads_share_a_tokenizer(code_path: str, trained: Trained, texts: dict[str, str]) -> None:
    tokenizer = Tokenizer(trained("cl100k").definition)
    pieces = [text[start : start + 7000] for text in texts.values() for start in range(0, len(text), 7000)]
    expected = [Tokenizer(tokenizer.definition).encode_ordinary(piece) for piece in pieces]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(tokenizer.encode_ordinary, pieces * 3)) == expected * 3
        assert list(pool.map(tokenizer.decode, expected * 3)) == pieces * 3
    assert tokenizer.encode_batch(pieces, threads=8) == expected


def groundup(arguments: list[str], path: str) -> subprocess.CompletedProcess[str]:
    """The command line where the environment chooses the path; at its end it tells which it took."""
    code = """
import sys
from groundup.cli.main import main
status = main()
if not status:
    from groundup.tokenizer import native
    print(native.instructions, native.module is None)
sys.exit(status)
"""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"GROUNDUP_TOKENIZER": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def files(trained: Trained, texts: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    trained("o200k").save(folder / "tokenizer")
    (folder / "text").write_bytes(texts["chinese"].encode() + b"\xff and \xc3")
    return folder


@pytest.mark.parametrize("path", ["plain", "portable", "avx2", "avx512"])
def test_the_environment_chooses_the_path(path: str, code_paths: list[str], files: Path, trained: Trained) -> None:
    if path not in code_paths:
        pytest.skip(f"{path} is not here")
    out = files / f"{path}.npy"
    arguments = ["tokenizer", "encode", str(files / "tokenizer"), str(files / "text"), "--out", str(out)]
    done = groundup(arguments, path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{path} {path == 'plain'}"
    assert np.load(out).tolist() == trained("o200k").encode_ordinary((files / "text").read_bytes())


def test_another_word_in_the_environment_is_refused_in_one_line(files: Path) -> None:
    arguments = [
        "tokenizer",
        "encode",
        str(files / "tokenizer"),
        str(files / "text"),
        "--out",
        str(files / "no.npy"),
    ]
    done = groundup(arguments, "nonsense")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "GROUNDUP_TOKENIZER=nonsense" in done.stderr
    assert not done.stdout


def test_without_a_compiler_it_is_installed_without_the_native_part(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    root = Path(__file__).resolve().parents[2]
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(root / name, tmp_path / name)
    shutil.copytree(
        root / "src",
        tmp_path / "src",
        ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so", "*.pyd"),
    )
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        ".",
        "--no-build-isolation",
        "--no-deps",
        "--wheel-dir",
        "wheels",
    ]
    run = subprocess.run(
        build,
        cwd=tmp_path,
        env=os.environ | {"CC": "/bin/false", "CXX": "/bin/false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    (wheel,) = (tmp_path / "wheels").iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    assert {"groundup/tokenizer/native.py", "groundup/tokenizer/unicode16.txt"} <= set(names)
    assert not [name for name in names if name.endswith((".so", ".pyd"))]
    show = (
        "from groundup.tokenizer import Tokenizer, native; t = Tokenizer.train(['a b a b'], 260); "
        "print('/wheel/groundup/' in native.__file__, native.instructions, t.decode(t.encode('a b c')))"
    )
    zipfile.ZipFile(wheel).extractall(tmp_path / "wheel")
    environment = os.environ | {"PYTHONPATH": "wheel"}
    environment.pop("GROUNDUP_TOKENIZER", None)
    run = subprocess.run(
        [sys.executable, "-c", show], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["True", "plain", "a", "b", "c"]
