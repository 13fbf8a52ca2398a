"""The text that a tokenizer learns from, streamed, with a sample of it to measure on."""

from collections.abc import Iterator, Sequence
from itertools import chain

from groundup.data.formats import COMPRESSED, PARQUET
from groundup.data.sources import read, resolve
from groundup.data.text import Part, Split
from groundup.pipeline.token_streams import OnBytes
from groundup.tokenizer.pretokenize import PATTERNS, resolve_pattern
from groundup.tokenizer.stream import whole_parts

_SLICE_BYTES = 16 << 10
_SAMPLE_BYTES = 2 << 20


class TrainingText:
    """The documents of `sources`, streamed once; a fair sample of them stays in `sample`.

    A document of more than 8 MiB comes in parts that no piece crosses, so that the merges are those of the whole;
    if `pattern` is none of ours, each part is cut after a line break.
    """

    def __init__(self, sources: Sequence[str], field: str, split: Split, pattern: str, on_bytes: OnBytes) -> None:
        self.num_bytes = self.num_documents = 0
        self.total_bytes = total_bytes(sources)
        self.sample: list[bytes] = []
        self._reading = read(sources, field=field, split=split)
        self._can_cut = resolve_pattern(pattern) in PATTERNS.values()
        self._on_bytes = on_bytes
        self._stride = 1
        self._slices = self._sampled_bytes = 0

    @property
    def skipped(self) -> list[str]:
        """Files found in folders that are not text."""
        return self._reading.skipped

    def __iter__(self) -> Iterator[bytes]:
        parts = self._parts()
        for part in parts:
            if part.ends_document or not self._can_cut:
                yield part.data
            else:
                yield from whole_parts(chain([part.data], _rest_of_document(parts)), (), cuts=True)

    def _parts(self) -> Iterator[Part]:
        for part in self._reading:
            yield part
            self.num_bytes += len(part.data)
            self.num_documents += part.ends_document
            self._keep(part.data)
            self._on_bytes(len(part.data))

    def _keep(self, data: bytes) -> None:
        """Every n-th slice of the text; n doubles whenever that is too much."""
        for start in range(0, len(data), _SLICE_BYTES):
            if self._slices % self._stride == 0:
                self.sample.append(data[start : start + _SLICE_BYTES])
                self._sampled_bytes += len(self.sample[-1])
            self._slices += 1
            if self._sampled_bytes > _SAMPLE_BYTES:
                del self.sample[1::2]
                self._sampled_bytes = sum(map(len, self.sample))
                self._stride *= 2


def _rest_of_document(parts: Iterator[Part]) -> Iterator[bytes]:
    for part in parts:
        yield part.data
        if part.ends_document:
            return


def total_bytes(sources: Sequence[str]) -> int | None:
    """The bytes of all files together; None where the bytes of text in them are not known."""
    total = 0
    for item in (item for source in sources for item in resolve(source)):
        if item.path is None or item.path.suffix.lower() in (*COMPRESSED, PARQUET) or not item.path.is_file():
            return None
        total += item.path.stat().st_size
    return total
