import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundup.data import DocumentStore, Shards, encode, encode_worker, holdout
from groundup.errors import UserError
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.encode import Ids

from .conftest import MakeStore


def text_of(shards: Shards, tokenizer: Tokenizer) -> list[bytes]:
    """The pieces that the shards hold, decoded."""
    ids = shards.read(0, shards.num_tokens)
    assert ids[-1] == tokenizer.end_of_text
    ends = np.flatnonzero(ids == tokenizer.end_of_text)
    return [
        tokenizer.decode_bytes(piece[piece != tokenizer.end_of_text]) for piece in np.split(ids, ends + 1)[:-1]
    ]


@pytest.fixture
def store(make_store: MakeStore) -> DocumentStore:
    """Over 3 MB: many short documents, one of 2.5 MB in lines, one of 700 kB without line breaks."""
    short = [f"the {number}th quick brown fox é {'jumps ' * (number % 50)}\n".encode() for number in range(1500)]
    long = b"".join(b"%d the lazy dog and 100%% of its \xff raisons\n" % number for number in range(55_000))
    return make_store(*short[:700], long, *short[700:], "quick漢字".encode() * 60_000)


def test_shards_decode_to_the_pieces_whatever_the_number_of_workers(
    store: DocumentStore, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    train, held_out = holdout.split(store, seed=0)
    done: list[int] = []
    one = encode(store, train, tokenizer, tmp_path / "one", name="train", num_workers=1, progress=done.append)
    two = encode(store, train, tokenizer, tmp_path / "two", name="train", num_workers=2)
    held = encode(store, held_out, tokenizer, tmp_path / "held", name="held_out")
    assert one.manifest == two.manifest and len(one.manifest["shards"]) >= 3
    for first in sorted((tmp_path / "one").iterdir()):
        assert first.read_bytes() == (tmp_path / "two" / first.name).read_bytes()
    for shards, pieces in ((one, train), (held, held_out)):
        assert text_of(shards, tokenizer) == [store.read(start, end) for start, end in pieces.tolist()]
        assert shards.num_bytes == int((pieces[:, 1] - pieces[:, 0]).sum())
    assert done == sorted(done) and done[-1] == one.num_bytes
    assert sorted(path.name for path in tmp_path.iterdir()) == ["documents", "held", "one", "store", "two"]


def test_the_manifest_and_the_files(make_store: MakeStore, tokenizer: Tokenizer, tmp_path: Path) -> None:
    store = make_store(b"the quick", b"brown fox")
    shards = encode(store, np.array([[0, 9], [9, 18]]), tokenizer, tmp_path / "s", name="train")
    expected = []
    for document in (b"the quick", b"brown fox"):
        expected += [*tokenizer.encode_ordinary(document), tokenizer.end_of_text]
    ids = np.load(tmp_path / "s/shard-00000.npy", mmap_mode="r")
    assert ids.tolist() == expected and ids.dtype == np.uint16
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["manifest.json", "shard-00000.npy"]
    manifest = json.loads((tmp_path / "s/manifest.json").read_text())
    assert manifest["name"] == "train" and manifest["dtype"] == "uint16"
    assert manifest["tokens"] == shards.num_tokens == len(expected) and manifest["bytes"] == 18
    assert manifest["tokenizer"] == tokenizer.fingerprint and manifest["store"] == store.sha256
    assert manifest["end_of_text"] == tokenizer.end_of_text


@pytest.mark.parametrize(("vocabulary_size", "dtype"), [(65536, np.uint16), (65537, np.uint32)])
def test_the_vocabulary_decides_the_bytes_of_an_id(
    make_store: MakeStore, tokenizer: Tokenizer, tmp_path: Path, vocabulary_size: int, dtype: type
) -> None:
    special_tokens = {"<|endoftext|>": vocabulary_size - 1}
    large = Tokenizer(replace(tokenizer.definition, special_tokens=special_tokens))
    assert large.vocabulary_size == vocabulary_size
    shards = encode(make_store(b"text"), np.array([[0, 4]]), large, tmp_path / "s", name="train")
    ids = shards.read(0, shards.num_tokens)
    assert shards.dtype == ids.dtype == np.load(tmp_path / "s/shard-00000.npy").dtype == dtype
    assert ids.tolist() == [*tokenizer.encode_ordinary(b"text"), vocabulary_size - 1]


def test_long_pieces_are_encoded_in_segments(
    store: DocumentStore, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode_worker, "SEGMENT_BYTES", 10_000)
    seen: list[int] = []

    class Watched(Tokenizer):
        def encode_array(self, text: str | bytes, **options: Any) -> Ids:
            seen.append(len(text))
            return tokenizer.encode_array(text, **options)

    watched = Watched(tokenizer._definition)
    done: list[int] = []
    rows = np.array([[0, store.total_bytes, 1]])
    made = encode_worker.encode_rows(store, rows, watched, tmp_path / "s.npy", "uint16", done.append)
    assert max(seen) <= 10_000 and len(seen) > 300
    assert made["bytes"] == sum(seen) == sum(done) == store.total_bytes
    ids = np.load(tmp_path / "s.npy")
    assert made["tokens"] == len(ids) and (ids == tokenizer.end_of_text).sum() == 1
    assert tokenizer.decode_bytes(ids[:-1]) == store.read(0, store.total_bytes)


def test_a_failing_worker_is_told_and_leaves_nothing(
    make_store: MakeStore, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    store = make_store(b"some text")
    (store.folder / "text.bin").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"an encoding worker failed: .*UserError: .*text\.bin"):
        encode(store, np.array([[0, 9]]), tokenizer, tmp_path / "s", name="train")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["documents", "store"]


def test_no_pieces_is_an_error(make_store: MakeStore, tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train: there is no text to encode"):
        encode(make_store(b"x"), np.empty((0, 2), np.int64), tokenizer, tmp_path / "s", name="train")


def test_a_script_without_a_main_guard_works_and_ctrl_c_leaves_nothing(
    store: DocumentStore, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path / "tokenizer")
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        import numpy as np
        import psutil
        from groundup.data import DocumentStore, encode
        from groundup.tokenizer import Tokenizer

        signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal
        store = DocumentStore.open(Path({str(store.folder)!r}))
        pieces = np.array([[0, store.total_bytes]])

        def interrupt(done):
            children = psutil.Process().children()
            workers = [child.pid for child in children if "groundup.data.encode_worker" in child.cmdline()]
            print(*workers, flush=True)
            os.kill(os.getpid(), signal.SIGINT)

        tokenizer = Tokenizer.load(Path({str(tmp_path / "tokenizer")!r}))
        encode(store, pieces, tokenizer, Path("done"), name="train", num_workers=2)
        encode(store, pieces, tokenizer, Path("interrupted"), name="train", num_workers=2, progress=interrupt)
        """)
    )
    (tmp_path / "random.py").write_text("raise SystemExit('the current folder must not shadow modules')")
    script = script.rename(tmp_path / "documents" / "script.py")
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGINT or "KeyboardInterrupt" in done.stderr
    workers = done.stdout.split("\n")[0].split()
    assert len(workers) == 2
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(int(worker), 0)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"done", "documents", "random.py", "store", "tokenizer"}
    assert Shards.open(tmp_path / "done", verify=True).num_bytes == store.total_bytes
