"""What a family learns from, as rows of whole numbers: windows of text, pairs of texts, labelled images.

Each kind is prepared once, when a run is made, and found again when it is trained or continued.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from groundup.data import Batches
from groundup.data.images import ImageRows, read_images
from groundup.data.pairs import PairRows, Pairs, pair_rows, read_pairs
from groundup.data.partners import WithPartners
from groundup.errors import UserError
from groundup.pipeline.display import Display
from groundup.pipeline.prepare import (
    encode_text,
    make_tokenizer,
    open_tokens,
    own_tokenizer,
    special_tokens_of,
    stage_text,
)
from groundup.recipe import Recipe
from groundup.run import Run
from groundup.seeds import derive
from groundup.shape import Shape, family
from groundup.tokenizer import Tokenizer
from groundup.train.prefetch import BatchSource

Windows = npt.NDArray[np.int64]

# Rows that the last evaluation reads, and each one on the way; and from how many the rates of answers are taken.
MOST_EVALUATED, MOST_VALIDATED, MOST_COUNTED = 512, 96, 2048
_TEXT_BYTES, _VOCABULARY = 256 << 20, 4096


class Prepared(NamedTuple):
    """The tokenizer, None for images, and where the data came from, for `plan.json`."""

    tokenizer: Tokenizer | None
    corpus: dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """Rows to train on, in an endless order, and held-out ones (N, ...); rates of answers are taken of `seen`.

    `bytes_per_token` is that of text, where every token of a row is one of the text.
    """

    train: BatchSource
    num_train: int
    held_out: Windows
    bytes_per_token: float | None = None

    @property
    def seen(self) -> Windows:
        """Rows to train on, as many as are worth counting."""
        return self.train.windows(0, min(self.num_train, MOST_COUNTED))

    @property
    def row_tokens(self) -> int:
        """Positions of a row."""
        return int(self.held_out.shape[1]) - 1


def prepare_rows(recipe: Recipe, run: Run, display: Display) -> Prepared:
    """Read the sources and make tokenizer and shards; UserError for data that the family cannot learn from."""
    return _KINDS[family(recipe.model.family).examples].prepare(recipe, run, display)


def is_prepared(run: Run) -> bool:
    """Whether what a run of text keeps in the cache is still there."""
    if family(run.recipe.model.family).examples != "text":
        return True
    return (run.tokenizer / "tokenizer.json").is_file() and (run.shards / "train" / "manifest.json").is_file()


def open_rows(recipe: Recipe, run: Run, shape: Shape, tokenizer: Tokenizer | None) -> Rows:
    """The rows of a run that is prepared."""
    return _KINDS[family(recipe.model.family).examples].open(recipe, run, shape, tokenizer)


def _prepare_text(recipe: Recipe, run: Run, display: Display) -> Prepared:
    recipe.data.limit_bytes = recipe.data.limit_bytes or _TEXT_BYTES
    recipe.tokenizer.vocabulary_size = recipe.tokenizer.vocabulary_size or _VOCABULARY
    text = stage_text(recipe, run, display)
    tokenizer = make_tokenizer(recipe, text, run, display)
    tokens = encode_text(text, tokenizer, run, display)
    manifest = text.store.manifest
    about = {key: manifest[key] for key in ("sources", "documents", "bytes", "sha256", "attribution")}
    return Prepared(tokenizer, about | {"train_tokens": tokens.train.num_tokens})


def _open_text(recipe: Recipe, run: Run, shape: Shape, tokenizer: Tokenizer | None) -> Rows:
    assert tokenizer is not None
    seed = derive(recipe.seed, "batches")
    shards, held_out = open_tokens(run).train, open_tokens(run).held_out
    windows, held_windows = Batches(shards, seed, shape.context), Batches(held_out, seed, shape.context)
    count = min(MOST_EVALUATED, held_windows.num_windows)
    train: BatchSource = windows
    held: BatchSource = held_windows
    if recipe.model.options.get("next_sentence"):
        train = WithPartners(windows, windows.num_windows, seed)
        held = WithPartners(held_windows, held_windows.num_windows, seed)
    lengths = tokenizer.byte_lengths[held_out.read(0, held_out.num_tokens)]
    return Rows(train, windows.num_windows, held.windows(0, count), float(lengths.mean()))


def _prepare_pairs(recipe: Recipe, run: Run, display: Display) -> Prepared:
    train, held_out = pairs_of(recipe)
    options, special = recipe.tokenizer, special_tokens_of(recipe)
    if options.file is not None:
        tokenizer = own_tokenizer(Path(options.file), special, run)
    else:
        texts = [text.encode() for pair in train.pairs for text in pair]
        size = options.vocabulary_size = options.vocabulary_size or _VOCABULARY
        with display.stage("training the tokenizer", 1.0) as progress:
            tokenizer = Tokenizer.train(texts, size, options.pattern, special_tokens=special, progress=progress)
        tokenizer.save(run.tokenizer)
    about = {
        "sources": recipe.data.sources,
        "documents": len(train.pairs) + len(held_out.pairs),
        "bytes": sum(len(text.encode()) for pair in train.pairs for text in pair),
        "fields": [train.source_field, train.target_field],
    }
    return Prepared(tokenizer, about)


def _open_pairs(recipe: Recipe, run: Run, shape: Shape, tokenizer: Tokenizer | None) -> Rows:
    assert tokenizer is not None
    del run
    train, held_out = (_encoded(recipe, pairs, tokenizer, shape) for pairs in pairs_of(recipe))
    return Rows(train, train.num_rows, held_out.windows(0, min(MOST_EVALUATED, held_out.num_rows)))


def _encoded(recipe: Recipe, pairs: Pairs, tokenizer: Tokenizer, shape: Shape) -> PairRows:
    return pair_rows(pairs.pairs, tokenizer, shape.context, derive(recipe.seed, "batches"))


def pairs_of(recipe: Recipe) -> tuple[Pairs, Pairs]:
    """Those to train on, and those held out."""
    options = recipe.data
    if not options.sources:
        raise UserError(
            f"the family {recipe.model.family} learns from pairs of texts, and no file was given; name one with "
            "two fields a line, such as pairs.jsonl with `en` and `de`"
        )
    fields = {"source_field": options.source_field, "target_field": options.target_field}
    pairs = read_pairs(options.sources, **fields)
    if options.validation:
        return pairs, read_pairs(options.validation, **fields)
    return pairs.divided(options.holdout, derive(recipe.seed, "holdout"))


def _prepare_images(recipe: Recipe, run: Run, display: Display) -> Prepared:
    del run, display
    train, held_out = _images(recipe)
    about = {"sources": recipe.data.sources, "documents": train.num_rows + held_out.num_rows}
    return Prepared(None, about)


def _open_images(recipe: Recipe, run: Run, shape: Shape, tokenizer: Tokenizer | None) -> Rows:
    del run, shape, tokenizer
    train, held_out = _images(recipe)
    return Rows(train, train.num_rows, held_out.windows(0, min(4 * MOST_EVALUATED, held_out.num_rows)))


def _images(recipe: Recipe) -> tuple[ImageRows, ImageRows]:
    options, seed = recipe.data, derive(recipe.seed, "batches")
    if not options.sources:
        raise UserError(
            f"the family {recipe.model.family} learns from images; name an IDX file such as train-images.gz"
        )
    images = read_images(options.sources, seed)
    if options.validation:
        return images, read_images(options.validation, seed)
    return images.divided(max(options.holdout, 0.1), derive(recipe.seed, "holdout"))


class _Kind(NamedTuple):
    prepare: Callable[[Recipe, Run, Display], Prepared]
    open: Callable[[Recipe, Run, Shape, Tokenizer | None], Rows]


_KINDS = {
    "text": _Kind(_prepare_text, _open_text),
    "pairs": _Kind(_prepare_pairs, _open_pairs),
    "images": _Kind(_prepare_images, _open_images),
}
