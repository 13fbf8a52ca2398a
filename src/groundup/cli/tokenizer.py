"""`groundup tokenizer`: train, encode, decode, stats, show."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from groundup.files import write_atomically

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(name="tokenizer", rich_markup_mode=None)

_Tokenizer = Annotated[
    Path, typer.Argument(metavar="TOKENIZER", help="A tokenizer's folder or file, or a run's folder.")
]
_Pattern = Annotated[
    str | None,
    typer.Option(
        help="How text is cut, for files that do not say it (.tiktoken): a name or a regular expression."
    ),
]
_Threads = Annotated[int | None, typer.Option(min=1, help="Threads to work with. Default: one a processor.")]


@app.command()
def train(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE", help="Files, folders, globs, '-', corpora (wiki-en, ...) or hf:NAME."),
    ],
    vocabulary_size: Annotated[int, typer.Option("--vocab-size", help="256 bytes, merges and special tokens.")],
    pattern: Annotated[
        str, typer.Option(help="How text is cut: gpt2, cl100k, o200k, qwen2 or a regular expression.")
    ] = "cl100k",
    special: Annotated[
        list[str] | None,
        typer.Option(metavar="TOKEN", help="A special token; may be repeated; '' for none. [<|endoftext|>]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A folder, or a .json or .tiktoken file. Default: a new folder tokenizer.")
    ] = None,
    min_frequency: Annotated[int, typer.Option(min=0, help="Learn no pair that is rarer.")] = 0,
    ties: Annotated[
        Literal["hf", "raw", "cs336"], typer.Option(help="Which of equally frequent pairs is merged first.")
    ] = "hf",
    model: Annotated[
        Literal["bpe", "wordpiece", "unigram"],
        typer.Option(help="The last two are trained by the package tokenizers."),
    ] = "bpe",
    threads: _Threads = None,
    field: Annotated[str, typer.Option(help="The field of .jsonl and .parquet that is the text.")] = "text",
    split: Annotated[
        Literal["none", "blank-lines", "endoftext"], typer.Option(help="Where a document ends in a text file.")
    ] = "none",
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")] = False,
) -> int:
    """Learn a tokenizer from text."""
    from groundup.pipeline import token_bars, token_screens, tokenizing

    console = _errors()
    outcome = tokenizing.train(
        sources,
        tokenizing.check_out(out),
        token_bars.TrainingBars(console),
        vocabulary_size=vocabulary_size,
        pattern=pattern,
        special_tokens=None if special is None else list(filter(None, special)),
        min_frequency=min_frequency,
        ties=ties,
        model=model,
        threads=threads,
        field=field,
        split=split,
    )
    if as_json:
        print(json.dumps(outcome, ensure_ascii=False))
    else:
        token_screens.show_training(outcome, _output())
    return 0


@app.command()
def encode(
    tokenizer: _Tokenizer,
    file: Annotated[str, typer.Argument(metavar="[FILE|-]", help="The text. Default: standard input.")] = "-",
    out: Annotated[
        Path | None, typer.Option(help="A .npy file for the ids. Default: numbers on standard output.")
    ] = None,
    allow_special: Annotated[
        bool, typer.Option("--allow-special", help="Special tokens in the text become their ids.")
    ] = False,
    pattern: _Pattern = None,
    threads: _Threads = None,
) -> int:
    """Turn text into ids, in memory that does not grow with it."""
    from groundup.pipeline import token_bars, token_streams, tokenizing

    loaded = tokenizing.load(tokenizer, pattern)
    bar = token_bars.bytes_bar(_errors(), "encoding", token_streams.size_of(file))
    with token_streams.opened(file) as opened, bar as on_bytes:
        blocks = token_streams.encode(loaded, token_streams.chunks(opened, on_bytes), allow_special, threads)
        if out is None:
            for line in token_streams.lines_of_ids(blocks):
                sys.stdout.write(line)
            sys.stdout.flush()
            return 0
        num_tokens = token_streams.save_ids(blocks, out, loaded.vocabulary_size)
    print(f"{num_tokens:,} ids in {out}", file=sys.stderr)
    return 0


@app.command()
def decode(
    tokenizer: _Tokenizer,
    ids: Annotated[
        str, typer.Argument(metavar="[ids.npy|-]", help="A .npy file, or numbers between white space. Default: -.")
    ] = "-",
    pattern: _Pattern = None,
) -> int:
    """Turn ids into the bytes that they stand for, on standard output."""
    from groundup.pipeline import token_bars, token_streams, tokenizing

    loaded = tokenizing.load(tokenizer, pattern)
    with token_bars.bytes_bar(_errors(), "decoding", token_streams.size_of(ids)) as on_bytes:
        for piece in token_streams.decode(loaded, token_streams.read_ids(ids, on_bytes)):
            sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
    return 0


@app.command()
def stats(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="TOKENIZER|SOURCE", help="One tokenizer or several, and texts to compare on."),
    ],
    sample_bytes: Annotated[
        int, typer.Option(min=1, help="Read at most this much text, the same share of each source.")
    ] = 10_000_000,
    html: Annotated[Path | None, typer.Option(help="Write a page as well.")] = None,
    pattern: _Pattern = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Compare what tokenizers make of texts: bytes per token, fertility, use of the vocabulary."""
    from groundup.pipeline import token_bars, token_screens, tokenizing

    tokenizers, sources = tokenizing.tokenizers_and_sources(arguments, pattern)
    total = tokenizing.sample_size(sources, sample_bytes)
    with token_bars.bytes_bar(_errors(), "measuring", total) as on_bytes:
        rows = tokenizing.compare(tokenizers, sources, sample_bytes, on_bytes)
    if html is not None:
        from groundup.studio.tokens import render_comparison

        write_atomically(html, render_comparison(rows))
    if as_json:
        print(json.dumps({"tokenizers": rows}, ensure_ascii=False))
    else:
        token_screens.show_comparison(rows, _output())
    return 0


@app.command()
def show(
    tokenizer: _Tokenizer,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A short text; - reads standard input.")],
    html: Annotated[
        Path | None, typer.Option(help="Write a page in which the merges can be stepped through.")
    ] = None,
    pattern: _Pattern = None,
) -> int:
    """Show how a text becomes tokens, merge by merge."""
    from groundup.pipeline import token_screens, tokenizing

    given = sys.stdin.buffer.read() if text == "-" else text.encode("utf-8", "surrogateescape")
    pieces, definition = tokenizing.trace_text(tokenizer, pattern, given)
    if html is not None:
        from groundup.studio.tokens import render_trace

        write_atomically(html, render_trace(str(tokenizer), pieces, definition))
    token_screens.show_trace(pieces, _output())
    return 0


def _errors() -> "Console":
    from rich.console import Console

    return Console(stderr=True)


def _output() -> "Console":
    from rich.console import Console

    return Console()
