"""`groundup words`: train, evaluate, export; and `groundup neighbours`, `groundup analogy`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from groundup.cli.answers import JsonOption

app = typer.Typer(name="words", rich_markup_mode=None)

_Vectors = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="A folder of word vectors, or a word2vec file: .bin, .txt, .vec.")
]
_Method = Annotated[Literal["add", "mul"], typer.Option(help="3CosAdd or 3CosMul.")]
_Count = Annotated[int, typer.Option("--count", min=1, help="How many words to show.")]


@app.command()
def train(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="SOURCE", help="Files, folders, globs, '-', corpora (wiki-en, ...) or hf:NAME."),
    ] = None,
    model: Annotated[Literal["skipgram", "cbow", "glove"], typer.Option(help="What is learnt.")] = "cbow",
    dim: Annotated[int | None, typer.Option(min=1, help="Numbers in a vector. [100; glove 50]")] = None,
    window: Annotated[
        int | None, typer.Option(min=1, help="Words to each side that count as context. [5; glove 15]")
    ] = None,
    negative: Annotated[
        int | None, typer.Option(min=1, help="Words of noise for each prediction. [5; not for glove]")
    ] = None,
    hs: Annotated[
        bool, typer.Option("--hs", help="Hierarchical softmax: a tree in the place of noise; not for glove.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the text. [5; glove 25]")] = None,
    min_count: Annotated[int, typer.Option(min=1, help="Words that are rarer get no vector.")] = 5,
    sample: Annotated[
        float | None,
        typer.Option(min=0, help="Words more frequent than this are thinned out. [0.001; not for glove]"),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="The learning rate at the start. [skipgram 0.025, else 0.05]")
    ] = None,
    x_max: Annotated[
        float | None, typer.Option(help="The count from which a pair has its full weight. [100; only for glove]")
    ] = None,
    pattern: Annotated[
        str, typer.Option(help="What a word is: words, whitespace or a regular expression.")
    ] = "words",
    keep_case: Annotated[bool, typer.Option("--keep-case", help="Do not turn text into lower case.")] = False,
    field: Annotated[str, typer.Option(help="The field of .jsonl and .parquet that is the text.")] = "text",
    split: Annotated[
        Literal["none", "blank-lines", "endoftext"], typer.Option(help="Where a document ends in a text file.")
    ] = "none",
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="With 1 the vectors are the same each time. Default: one a processor."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides, with one thread, every number.")] = 0,
    out: Annotated[Path | None, typer.Option(help="The folder to write. Default: words.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a folder that was stopped; give only --out and --json.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Learn word vectors from text."""
    import os

    from rich.console import Console

    from groundup.errors import UserError
    from groundup.pipeline import word_bars, word_screens, words
    from groundup.words.settings import TextSettings

    bars = word_bars.WordBars(Console(stderr=True))
    if resume:
        if sources:
            raise UserError("--resume goes on with the text it began with; leave out the sources")
        figures = words.resume(out, bars)
    else:
        if not sources:
            raise UserError(
                "no text to learn from; name files, folders, a corpus such as wiki-en, or - for standard input"
            )
        options = {
            "dimension": dim, "window": window, "negative": negative, "hierarchical_softmax": hs or None,
            "epochs": epochs, "sample": sample, "lr": lr, "most": x_max, "seed": seed,
            "threads": threads or os.cpu_count(),
        }  # fmt: skip
        chosen = words.settings(model, options)
        text = TextSettings(
            sources=sources, field=field, split=split, pattern=pattern, lower=not keep_case, min_count=min_count
        )
        figures = words.train(text, chosen, words.check_out(out), bars)
    if as_json:
        print(json.dumps(figures, ensure_ascii=False))
    else:
        word_screens.show_training(figures, Console())
    if figures["signal"] is None:
        return 0
    print(words.stopped(figures), file=sys.stderr)
    return 128 + int(figures["signal"])


@app.command()
def evaluate(
    vectors: _Vectors,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Pairs `word word score`, or questions like Google's `a b c d`."),
    ],
    method: _Method = "add",
    as_json: JsonOption = False,
) -> int:
    """Say how well vectors agree with people: Spearman on word similarity, accuracy on analogies."""
    from rich.console import Console

    from groundup.pipeline import word_screens
    from groundup.words import WordVectors
    from groundup.words.evaluation import evaluate, read_file

    tasks = [read_file(file) for file in files]
    loaded = WordVectors.load(vectors)
    rows = [evaluate(loaded, task, method) for task in tasks]
    if as_json:
        print(json.dumps({"tasks": rows}, ensure_ascii=False))
    else:
        word_screens.show_evaluation(rows, Console())
    return 0


@app.command()
def export(
    vectors: _Vectors,
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Ends with .bin: binary; otherwise text.")],
) -> int:
    """Write vectors in word2vec's text or binary format, which gensim and others read."""
    from groundup.words import WordVectors

    loaded = WordVectors.load(vectors)
    loaded.save(out)
    print(f"{len(loaded.words):,} words in {out}", file=sys.stderr)
    return 0


def neighbours(
    vectors: _Vectors,
    words: Annotated[list[str], typer.Argument(metavar="WORD", help="One word, or several: near all of them.")],
    count: _Count = 10,
    as_json: JsonOption = False,
) -> int:
    """Show the words whose vectors are nearest."""
    from groundup.words import WordVectors

    found = WordVectors.load(vectors).neighbours(words, count)
    return _give({"words": words}, "neighbours", found, "cosine", as_json)


def analogy(
    vectors: _Vectors,
    a: Annotated[str, typer.Argument(metavar="A")],
    b: Annotated[str, typer.Argument(metavar="B")],
    c: Annotated[str, typer.Argument(metavar="C")],
    count: _Count = 10,
    method: _Method = "add",
    as_json: JsonOption = False,
) -> int:
    """A is to B as C is to what?"""
    from groundup.words import WordVectors

    found = WordVectors.load(vectors).analogy(a, b, c, count, method)
    return _give({"a": a, "b": b, "c": c, "method": method}, "answers", found, "score", as_json)


def _give(
    question: dict[str, Any], name: str, found: Sequence[tuple[str, float]], score: str, as_json: bool
) -> int:
    if as_json:
        rows = [{"word": word, score: value} for word, value in found]
        print(json.dumps({**question, name: rows}, ensure_ascii=False))
    else:
        for word, value in found:
            print(f"{value:7.4f}  {word}")
    return 0
