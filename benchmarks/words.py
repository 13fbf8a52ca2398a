"""Word vectors beside gensim: words a second and Spearman's correlation, at equal settings on the same words.

    python benchmarks/words.py                                  skip-gram and CBOW, 10 MB of books, 1 and 2 threads
    python benchmarks/words.py --megabytes 50 --kinds skipgram skipgram-hs cbow cbow-hs --repeats 3

All in one process, contenders in turns, a seed for each repeat. Both get the words and the vocabulary that
groundup read, in sentences of 1,000 words; only training is timed. gensim trains from lists in memory and
from a file (its `corpus_file`); the ratio is to the quicker of the two.
"""

import argparse
import lzma
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gensim
import numpy as np
from numpy.typing import NDArray

from groundup.processor import processor_name
from groundup.words import WordVectors
from groundup.words.evaluation import Pairs, read_file, similarity
from groundup.words.settings import TextSettings, Word2VecSettings
from groundup.words.text import word_lists
from groundup.words.vocabulary import read_words
from groundup.words.word2vec import Word2Vec

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
BOOKS = SHARED / "pretrain_en" / "books_train.jsonl.xz"
SETS = ("EN-WS-353-ALL", "EN-MEN-TR-3k", "EN-SIMLEX-999")
SENTENCE = 1000
OURS, LISTS, FILE = "groundup", "gensim, lists", "gensim, file"
Outcome = tuple[float, float, WordVectors]
"""Words a second of the clock and a second of processor time, and the vectors."""


class Text:
    """The same words for all contenders."""

    def __init__(self, folder: Path, megabytes: float) -> None:
        source = folder / "books.jsonl"
        size = 0
        with lzma.open(BOOKS) as books, source.open("wb") as file:
            while size < megabytes * 1e6 and (line := books.readline()):
                size += file.write(line)
        self.megabytes = size / 1e6
        settings = TextSettings(sources=[str(source)])
        self.vocabulary, self.ids = read_words(word_lists(settings, lambda _: None), 5, folder)
        self.sentences = [
            [self.vocabulary.words[word] for word in sentence.tolist()] for sentence in _sentences(self.ids)
        ]
        self.file = folder / "sentences.txt"
        self.file.write_text("".join(" ".join(sentence) + "\n" for sentence in self.sentences), "utf-8")


def _sentences(ids: NDArray[np.int32]) -> Iterator[NDArray[np.int32]]:
    for document in np.split(ids, np.flatnonzero(ids < 0)):
        words = document[document >= 0]
        yield from (words[begin : begin + SENTENCE] for begin in range(0, len(words), SENTENCE))


def _timed(train: Callable[[], object]) -> NDArray[np.float64]:
    """Seconds of the clock and of all threads' processor time."""
    began = np.array([time.perf_counter(), time.process_time()])
    train()
    return np.array([time.perf_counter(), time.process_time()]) - began


def ours(text: Text, kind: str, threads: int, seed: int, epochs: int) -> Outcome:
    model, tree = _kind(kind)
    settings = Word2VecSettings.model_validate(
        {"model": model, "hierarchical_softmax": tree, "threads": threads, "seed": seed, "epochs": epochs}
    )
    learner = Word2Vec(settings, text.vocabulary, text.ids)
    seconds = _timed(lambda: learner.train(lambda: False, lambda _: None))
    return *(learner.total / seconds), WordVectors(text.vocabulary.words, learner.vectors)


def theirs(source: str) -> Callable[[Text, str, int, int, int], Outcome]:
    def run(text: Text, kind: str, threads: int, seed: int, epochs: int) -> Outcome:
        model, tree = _kind(kind)
        lr = Word2VecSettings.model_validate({"model": model}).first_lr
        learner = gensim.models.Word2Vec(
            vector_size=100, window=5, min_count=1, sample=1e-3, workers=threads, seed=seed, alpha=lr,
            min_alpha=lr * 1e-4, sg=int(model == "skipgram"), hs=int(tree), negative=0 if tree else 5,
        )  # fmt: skip
        given: dict[str, Any] = (
            {"corpus_file": str(text.file)} if source == FILE else {"corpus_iterable": text.sentences}
        )
        learner.build_vocab(**given)
        assert len(learner.wv) == len(text.vocabulary)
        words = {"total_words": learner.corpus_total_words} if source == FILE else {}
        seconds = _timed(
            lambda: learner.train(**given, **words, total_examples=learner.corpus_count, epochs=epochs)
        )
        speeds = epochs * text.vocabulary.num_tokens / seconds
        return *speeds, WordVectors(learner.wv.index_to_key, learner.wv.vectors)

    return run


def _kind(kind: str) -> tuple[str, bool]:
    model, _, tree = kind.partition("-")
    return model, bool(tree)


CONTENDERS = {OURS: ours, LISTS: theirs(LISTS), FILE: theirs(FILE)}


def load() -> str:
    return f"load {os.getloadavg()[0]:.2f}"


def measure(text: Text, kind: str, arguments: argparse.Namespace, sets: dict[str, Pairs]) -> None:
    """Print the rows of one kind of model."""
    speeds: dict[tuple[str, int], list[tuple[float, float]]] = {}
    agreement: dict[str, list[list[float]]] = {name: [] for name in CONTENDERS}
    loads = [load()]
    for seed in range(1, arguments.repeats + 1):
        for threads in arguments.threads:
            for name, run in CONTENDERS.items():
                speed, own_speed, vectors = run(text, kind, threads, seed, arguments.epochs)
                speeds.setdefault((name, threads), []).append((speed, own_speed))
                agreement[name].append([similarity(vectors, pairs)["spearman"] for pairs in sets.values()])
                loads.append(load())
    medians = {key: np.median(measured, axis=0) for key, measured in speeds.items()}
    print("| model | | threads | clock | ratio | processor time | ratio |\n|---|---|---|---|---|---|---|")
    for (name, threads), median in medians.items():
        ratio = median / np.maximum(medians[LISTS, threads], medians[FILE, threads])
        cells = " | ".join(
            f"{speed / 1000:,.0f} | {share:.2f}" for speed, share in zip(median, ratio, strict=True)
        )
        print(f"| {kind} | {name} | {threads} | {cells} |", flush=True)
    for name in CONTENDERS:
        columns = zip(*agreement[name], strict=True)
        means = [f"{statistics.mean(column):.3f} ± {statistics.pstdev(column):.3f}" for column in columns]
        print(f"Spearman, {kind}, {name}: {', '.join(f'{s} {c}' for s, c in zip(sets, means, strict=True))}")
    print(f"{loads[0]} before, {', '.join(loads[1:])}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=10)
    parser.add_argument("--kinds", nargs="+", default=["skipgram", "cbow"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    print(f"{processor_name()}, {os.cpu_count()} processors, Python {platform.python_version()}, ", end="")
    print(f"gensim {version('gensim')}, {time.strftime('%Y-%m-%d %H:%M')}, {load()}.")
    sets = {
        name: pairs
        for name in SETS
        if isinstance(pairs := read_file(SHARED / "embeddings" / f"{name}.txt"), Pairs)
    }
    with tempfile.TemporaryDirectory() as folder:
        text = Text(Path(folder), arguments.megabytes)
        print(
            f"{text.megabytes:.1f} MB, {text.vocabulary.num_tokens:,} words, {len(text.vocabulary):,} different, ",
            end="",
        )
        print(
            f"{arguments.epochs} epochs, {arguments.repeats} seeds, medians: thousands of words a second of "
            "the clock, and of all threads' processor time, which other work on the machine disturbs less.\n",
            flush=True,
        )
        for kind in arguments.kinds:
            measure(text, kind, arguments, sets)


if __name__ == "__main__":
    main()
