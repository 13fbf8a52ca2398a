"""`groundup tokenizer`, through processes, on real text."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiktoken
import tokenizers
from tiktoken.load import load_tiktoken_bpe

from groundup.tokenizer import Tokenizer
from groundup.tokenizer.pretokenize import PATTERNS
from tests.cli.support import GROUNDUP, Result

Cli = Callable[..., Result]


@pytest.fixture(scope="session")
def english(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 kB of Shakespeare."""
    path = tmp_path_factory.mktemp("english") / "english.txt"
    path.write_bytes((shared_data / "pretrain_en" / "tinyshakespeare.txt").read_bytes()[:200_000])
    return path


@pytest.fixture(scope="session")
def chinese(shared_data: Path) -> Path:
    return shared_data / "pretrain_zh" / "luxun.jsonl.xz"


@pytest.fixture(scope="session")
def trained(english: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of 600 ids in a folder."""
    folder = tmp_path_factory.mktemp("trained") / "english"
    run("tokenizer", "train", english, "--vocab-size", "600", "--out", folder)
    return folder


def run(*arguments: str | Path, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    finished = subprocess.run([*GROUNDUP, *map(str, arguments)], input=stdin, capture_output=True, timeout=240)
    assert finished.returncode == 0, finished.stderr.decode()
    return finished


def test_train_on_a_file_and_a_folder(groundup: Cli, english: Path, chinese: Path, tmp_path: Path):
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_bytes(english.read_bytes()[:50_000])
    (texts / "b.jsonl").write_text('{"text": "one two"}\n{"text": "three"}\n')
    (texts / "c.bin").write_bytes(b"\0\1\2")
    options = ["--vocab-size", "700", "--pattern", "gpt2", "--special", "<a>", "--special", "<b>"]
    done = groundup("tokenizer", "train", texts, english, *options, "--out", "made", "--json")
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    documents = [(texts / "a.txt").read_bytes(), b"one two", b"three", english.read_bytes()]
    expected = Tokenizer.train(documents, 700, "gpt2", ("<a>", "<b>"))
    made = Tokenizer.load(tmp_path / "made")
    assert made == expected
    assert outcome["vocabulary_size"] == 700
    assert outcome["merges"] == 700 - 258
    assert outcome["special_tokens"] == {"<a>": 698, "<b>": 699}
    assert outcome["documents"] == 4
    assert outcome["bytes"] == sum(map(len, documents))
    assert outcome["skipped_files"] == [str(texts / "c.bin")]
    measured = sum(map(len, documents)) / sum(len(made.encode_ordinary(document)) for document in documents)
    assert outcome["bytes_per_token"] == pytest.approx(measured, rel=0.01)  # slices cut words


def test_train_ends_with_a_table(groundup: Cli, english: Path, tmp_path: Path):
    done = groundup("tokenizer", "train", english, "--vocab-size", "300")
    assert done.returncode == 0, done.stderr
    rows = dict(line.split("  ", 1) for line in done.stdout.splitlines())
    assert rows["vocabulary"].split() == ["300"]
    assert rows["merges"].split() == ["43"]
    assert rows["written to"].split() == ["tokenizer"]
    assert "MB/s" in rows["time"] or "kB/s" in rows["time"]
    assert Tokenizer.load(tmp_path / "tokenizer").vocabulary_size == 300
    again = groundup("tokenizer", "train", english, "--vocab-size", "300")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "--out" in again.stderr


def test_train_into_one_file(groundup: Cli, english: Path, trained: Path, tmp_path: Path):
    for name in ("made.json", "made.tiktoken"):
        done = groundup("tokenizer", "train", english, "--vocab-size", "600", "--out", name)
        assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.json", "made.tiktoken"]
    expected = Tokenizer.load(trained)
    text = english.read_text("utf-8")[:5000]
    ids = expected.encode_ordinary(text)
    peer = tokenizers.Tokenizer.from_file(str(tmp_path / "made.json"))
    assert peer.encode(text).ids == ids
    ranks = load_tiktoken_bpe(str(tmp_path / "made.tiktoken"))
    encoding = tiktoken.Encoding("made", pat_str=PATTERNS["cl100k"], mergeable_ranks=ranks, special_tokens={})
    assert encoding.encode_ordinary(text) == ids
    done = groundup("tokenizer", "encode", "made.tiktoken", "--pattern", "cl100k", stdin=text.encode())
    assert [int(number) for number in done.stdout.split()] == ids


@pytest.mark.parametrize("model", ["wordpiece", "unigram"])
def test_train_with_the_library(groundup: Cli, english: Path, model: str, tmp_path: Path):
    done = groundup(
        "tokenizer", "train", english, "--vocab-size", "400", "--model", model, "--out", "made", "--json"
    )
    assert done.returncode == 0, done.stderr
    peer = tokenizers.Tokenizer.from_file(str(tmp_path / "made" / "tokenizer.json"))
    assert json.loads(done.stdout)["vocabulary_size"] == peer.get_vocab_size()
    text = "To be or not to be"
    ids = peer.encode(text, add_special_tokens=False).ids
    encoded = groundup("tokenizer", "encode", "made", stdin=text.encode())
    assert [int(number) for number in encoded.stdout.split()] == ids
    decoded = groundup("tokenizer", "decode", "made", stdin=encoded.stdout.encode())
    assert decoded.stdout.lower() == text.lower()
    stats = groundup("tokenizer", "stats", "made", english, "--json")
    (row,) = json.loads(stats.stdout)["tokenizers"]
    assert row["bytes"] == english.stat().st_size


def test_encode_and_decode_a_file(groundup: Cli, english: Path, trained: Path, tmp_path: Path):
    done = groundup("tokenizer", "encode", trained, english, "--out", "ids.npy", "--threads", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    ids = np.load(tmp_path / "ids.npy")
    assert ids.dtype == np.uint16
    assert ids.tolist() == Tokenizer.load(trained).encode_ordinary(english.read_bytes())
    assert run("tokenizer", "decode", trained, tmp_path / "ids.npy").stdout == english.read_bytes()


def test_any_bytes_come_back_through_pipes(trained: Path):
    text = bytes(range(256)) * 3 + "天地 🙂\n\n  x".encode() + b"\xe5\xa4"
    ids = run("tokenizer", "encode", trained, stdin=text).stdout
    assert [int(number) for number in ids.split()] == Tokenizer.load(trained).encode_ordinary(text)
    assert run("tokenizer", "decode", trained, "-", stdin=ids).stdout == text
    assert run("tokenizer", "decode", trained, stdin=b"").stdout == b""


def test_numbers_in_a_file_that_is_read_in_blocks(trained: Path, tmp_path: Path):
    numbers = np.random.default_rng(0).integers(0, 600, size=700_000)
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(map(str, numbers)))
    assert path.stat().st_size > 2 << 20
    expected = Tokenizer.load(trained).decode_bytes(numbers)
    assert run("tokenizer", "decode", trained, path).stdout == expected


def test_special_tokens_become_ids_only_where_allowed(trained: Path):
    text = b"one<|endoftext|>two"
    tokenizer = Tokenizer.load(trained)
    plain = run("tokenizer", "encode", trained, stdin=text).stdout
    assert [int(number) for number in plain.split()] == tokenizer.encode_ordinary(text)
    allowed = run("tokenizer", "encode", trained, "--allow-special", stdin=text).stdout
    assert [int(number) for number in allowed.split()] == tokenizer.encode(text, allowed_special="all")
    assert tokenizer.end_of_text in [int(number) for number in allowed.split()]


def test_stats_compare_tokenizers_on_texts(
    groundup: Cli, english: Path, chinese: Path, trained: Path, tmp_path: Path
):
    done = groundup("tokenizer", "train", chinese, "--vocab-size", "2000", "--out", "chinese", "--pattern", "gpt2")
    assert done.returncode == 0, done.stderr
    arguments = ["tokenizer", "stats", trained, "chinese", english, chinese, "--sample-bytes", "200000"]
    result = groundup(*arguments, "--json", "--html", "page.html")
    assert result.returncode == 0, result.stderr
    rows = {Path(row["name"]).name: row for row in json.loads(result.stdout)["tokenizers"]}
    assert rows["english"]["bytes"] == rows["chinese"]["bytes"] <= 200_000
    for name, row in rows.items():
        own, other = (
            inner["bytes_per_token"]
            for inner in sorted(
                row["by_source"], key=lambda inner: name not in inner["source"].replace("luxun", "chinese")
            )
        )
        assert own > other
    sample = english.read_bytes()[:100_000]
    ids = Tokenizer.load(trained).encode_ordinary(sample)
    assert rows["english"]["by_source"][0]["tokens"] == pytest.approx(len(ids), abs=5)  # it ends at a line
    assert "bytes per token" in (tmp_path / "page.html").read_text("utf-8")
    shown = groundup(*arguments)
    assert "tokens per word" in shown.stdout
    assert f"{rows['chinese']['bytes_per_token']:.3f}" in shown.stdout


def test_show_tells_the_merges(groundup: Cli, trained: Path, tmp_path: Path):
    text = "First Citizen:<|endoftext|>"
    done = groundup("tokenizer", "show", trained, text, "--html", "page.html")
    assert done.returncode == 0, done.stderr
    tokenizer = Tokenizer.load(trained)
    for number in tokenizer.encode(text, allowed_special="all"):
        assert f"{number} " in done.stdout
        assert tokenizer.token_bytes(number).hex(" ") in done.stdout
    last = tokenizer.token_bytes(tokenizer.encode_ordinary("First")[0])
    rank = next(rank for rank, (left, right) in enumerate(tokenizer.merges) if left + right == last)
    assert f"rank {rank}" in done.stdout
    assert "a special token" in done.stdout
    assert "Content-Security-Policy" in (tmp_path / "page.html").read_text("utf-8")
    assert groundup("tokenizer", "show", trained, "-", stdin=text.encode()).stdout == done.stdout


def test_a_run_is_a_tokenizer(groundup: Cli, trained: Path, tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tokenizer").symlink_to(trained)
    done = groundup("tokenizer", "encode", "run", stdin=b"First Citizen")
    assert [int(number) for number in done.stdout.split()] == Tokenizer.load(trained).encode("First Citizen")


def test_a_reader_that_has_had_enough(trained: Path, english: Path):
    command = [*GROUNDUP, "tokenizer", "encode", str(trained), str(english)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_memory_does_not_grow_with_the_text(trained: Path, english: Path, tmp_path: Path):
    peaks = []
    for times in (5, 100):
        text = tmp_path / f"{times}.txt"
        text.write_bytes(english.read_bytes() * times)
        code = (
            "import resource, sys; from groundup.cli.main import main; code = main(); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
        )
        arguments = ["tokenizer", "encode", str(trained), str(text), "--out", str(tmp_path / "ids.npy")]
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 12 << 10, peaks  # KiB; the text has grown by 19 MB


def test_torch_is_not_loaded(trained: Path, english: Path, tmp_path: Path):
    code = (
        "import sys; from groundup.cli.main import main\n"
        f"main(['tokenizer', 'train', {str(english)!r}, '--vocab-size', '260', '--out', 'made'])\n"
        f"main(['tokenizer', 'stats', 'made', {str(english)!r}, '--html', 'page.html'])\n"
        "main(['tokenizer', 'show', 'made', 'text', '--html', 'page.html'])\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


BAD = {
    "no text": (["train", "empty.txt", "--vocab-size", "300"], ["empty.txt", "no text"]),
    "a missing source": (["train", "nowhere.txt", "--vocab-size", "300"], ["nowhere.txt"]),
    "no vocabulary size": (["train", "text.txt"], ["--vocab-size"]),
    "too small a vocabulary": (["train", "text.txt", "--vocab-size", "20"], ["20", "257"]),
    "an unknown pattern": (
        ["train", "text.txt", "--vocab-size", "300", "--pattern", "cl10k"],
        ["cl10k", "cl100k"],
    ),
    "an unknown tie rule": (["train", "text.txt", "--vocab-size", "300", "--ties", "mine"], ["mine", "cs336"]),
    "a pattern for the library": (
        ["train", "text.txt", "--vocab-size", "300", "--model", "wordpiece", "--ties", "raw"],
        ["--ties", "wordpiece"],
    ),
    "a folder that is a file": (["train", "text.txt", "--vocab-size", "300", "--out", "text.txt"], ["text.txt"]),
    "a file in no folder": (["train", "text.txt", "--vocab-size", "300", "--out", "no/a.json"], ["no/a.json"]),
    "no tokenizer": (["encode", "."], ["no tokenizer", "tokenizer.json"]),
    "a text that is no tokenizer": (["encode", "text.txt"], ["text.txt"]),
    "no text to encode": (["encode", "TRAINED", "nowhere.txt"], ["nowhere.txt"]),
    "an array that is a device": (["encode", "TRAINED", "text.txt", "--out", "/dev/null"], ["/dev/null"]),
    "an array in no folder": (["encode", "TRAINED", "text.txt", "--out", "no/ids.npy"], ["no/"]),
    "no ids": (["decode", "TRAINED", "text.txt"], ["text.txt", "Some"]),
    "ids of another vocabulary": (["decode", "TRAINED", "large.npy"], ["99999", "599"]),
    "ids below zero": (["decode", "TRAINED", "negative.npy"], ["-1"]),
    "ids with a fraction": (["decode", "TRAINED", "floats.npy"], ["float64"]),
    "ids in rows": (["decode", "TRAINED", "rows.npy"], ["(2, 3)"]),
    "a torn array": (["decode", "TRAINED", "torn.npy"], ["torn.npy"]),
    "nothing to measure": (["stats", "TRAINED"], ["no text"]),
    "nothing to measure with": (["stats", "text.txt", "--json"], ["text.txt", "tokenizer"]),
    "too long a text": (["show", "TRAINED", "word " * 3000], ["15,000", "10,000"]),
    "no such command": (["trian"], ["trian", "train"]),
    "no command": ([], ["command"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name: str, groundup: Cli, trained: Path, tmp_path: Path):
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "text.txt").write_text("Some words that are enough to go on with.\n" * 50)
    np.save(tmp_path / "large.npy", np.array([1, 99999]))
    np.save(tmp_path / "negative.npy", np.array([1, -1]))
    np.save(tmp_path / "floats.npy", np.array([1.0, 2.0]))
    np.save(tmp_path / "rows.npy", np.zeros((2, 3), np.int64))
    (tmp_path / "torn.npy").write_bytes((tmp_path / "large.npy").read_bytes()[:-3])
    before = sorted(path.name for path in tmp_path.iterdir())
    arguments, expected = BAD[name]
    result = groundup("tokenizer", *(str(trained) if part == "TRAINED" else part for part in arguments))
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    for part in expected:
        assert part in result.stderr
    if "--json" in arguments:
        assert set(json.loads(result.stdout)) == {"error"}
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert Path(os.devnull).is_char_device()
