"""From raw text to batches: sources -> staged store -> held-out split -> token shards -> batches."""

from groundup.data.batches import Batches
from groundup.data.corpora import CORPORA, default_corpus
from groundup.data.encode import encode
from groundup.data.sampling import compressibility, sample
from groundup.data.shards import Shards
from groundup.data.sources import fingerprint_sources
from groundup.data.store import DocumentStore, stage

__all__ = [
    "CORPORA",
    "Batches",
    "DocumentStore",
    "Shards",
    "compressibility",
    "default_corpus",
    "encode",
    "fingerprint_sources",
    "sample",
    "stage",
]
