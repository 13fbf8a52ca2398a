"""Text to tokens: stage the corpus, hold a part out, train the tokenizer, encode the shards; all cached."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from groundup import data
from groundup.data.holdout import Pieces, split
from groundup.data.sources import fingerprint_sources
from groundup.data.store import DocumentStore
from groundup.errors import UserError
from groundup.files import cache_folder, fingerprint
from groundup.pipeline.display import Display
from groundup.plan.choose import Corpus
from groundup.recipe import DataRecipe, Recipe
from groundup.run import Run
from groundup.seeds import derive
from groundup.shape import family
from groundup.tokenizer import Tokenizer

# Enough to know the bytes a token within a per cent.
_RATE_SAMPLE_BYTES = 256 << 10


@dataclass(frozen=True)
class Text:
    """A staged corpus and its two sides; the held-out side may come from sources of its own."""

    store: DocumentStore
    train: Pieces
    held_out_store: DocumentStore
    held_out: Pieces

    @property
    def sides(self) -> tuple[tuple[DocumentStore, Pieces], tuple[DocumentStore, Pieces]]:
        """(store, pieces) of the text to train on and of the held-out text."""
        return (self.store, self.train), (self.held_out_store, self.held_out)

    @property
    def train_bytes(self) -> int:
        """Bytes to train on."""
        return int((self.train[:, 1] - self.train[:, 0]).sum())

    @property
    def held_out_bytes(self) -> int:
        """Bytes never trained on."""
        return int((self.held_out[:, 1] - self.held_out[:, 0]).sum())


@dataclass(frozen=True)
class Tokens:
    """The shards of both sides."""

    train: data.Shards
    held_out: data.Shards


def open_tokens(run: Run) -> Tokens:
    """The shards of a prepared run."""
    return Tokens(data.Shards.open(run.shards / "train"), data.Shards.open(run.shards / "held-out"))


def stage_text(recipe: Recipe, run: Run, display: Display) -> Text:
    """Read the sources once, or find them in the cache, and hold a part out."""
    options = recipe.data
    store = _staged(options.sources, options, recipe.seed, run.folder / "corpus", display)
    if options.validation:
        whole = options.model_copy(update={"limit_bytes": None})
        held_out_store = _staged(options.validation, whole, recipe.seed, run.folder / "validation", display)
        return Text(store, _everything(store), held_out_store, _everything(held_out_store))
    train, held_out = split(store, options.holdout, options.holdout_bytes, seed=derive(recipe.seed, "holdout"))
    return Text(store, train, store, held_out)


def make_tokenizer(recipe: Recipe, text: Text, run: Run, display: Display) -> Tokenizer:
    """The recipe's own tokenizer file, one from the cache, or one trained on a sample of the training text."""
    options = recipe.tokenizer
    special_tokens = special_tokens_of(recipe)
    if options.file is not None:
        return own_tokenizer(Path(options.file), special_tokens, run)
    assert options.vocabulary_size is not None, "the planner has chosen the vocabulary"
    key = [text.store.sha256, _digest(text.train), options.model_dump(), recipe.seed, *special_tokens[1:]]
    folder = cache_folder() / "tokenizers" / fingerprint(key)
    with _locked(folder):
        if not (folder / "tokenizer.json").is_file():
            with display.stage("training the tokenizer", 1.0) as progress:
                documents = list(
                    data.sample(
                        text.store, options.sample_bytes, derive(recipe.seed, "tokenizer"), _excluded(text)
                    )
                )
                Tokenizer.train(
                    documents,
                    options.vocabulary_size,
                    options.pattern,
                    special_tokens=special_tokens,
                    progress=progress,
                ).save(folder)
    _link(run.tokenizer, folder)
    return Tokenizer.load(folder)


def special_tokens_of(recipe: Recipe) -> tuple[str, ...]:
    """The end of text, and what the family needs beside it."""
    return ("<|endoftext|>", *family(recipe.model.family).special_tokens)


def own_tokenizer(file: Path, special_tokens: tuple[str, ...], run: Run) -> Tokenizer:
    """The tokenizer that the recipe names; UserError where it lacks a special token that the family needs."""
    tokenizer = Tokenizer.load(file)
    tokenizer.end_of_text  # noqa: B018 - raises UserError where there is no such token
    for token in special_tokens[1:]:
        if token not in tokenizer.special_tokens:
            raise UserError(
                f"tokenizer.file={file} has no special token {token}, which the family needs; train one with "
                f"`groundup tokenizer train --special '{token}'`, or leave tokenizer.file unset"
            )
    tokenizer.save(run.tokenizer)
    return tokenizer


def describe(recipe: Recipe, text: Text, tokenizer: Tokenizer) -> Corpus:
    """What the planner needs to know of the text, measured on samples."""
    seed = derive(recipe.seed, "rate")
    sample = list(data.sample(text.store, _RATE_SAMPLE_BYTES, seed))
    num_tokens = sum(len(tokenizer.encode_array(piece)) + 1 for piece in sample)
    return Corpus(
        train_bytes=text.train_bytes,
        bytes_per_token=sum(map(len, sample)) / num_tokens,
        compressibility=data.compressibility(text.store, seed),
    )


def encode_text(text: Text, tokenizer: Tokenizer, run: Run, display: Display) -> Tokens:
    """The shards of both sides, from the cache where nothing has changed."""
    sides = [[store.sha256, _digest(pieces)] for store, pieces in text.sides]
    key = [*sides, tokenizer.fingerprint]
    folder = cache_folder() / "shards" / fingerprint(key)
    with _locked(folder):
        shards = Tokens(
            *(
                _encoded(store, pieces, tokenizer, folder / name, display)
                for name, (store, pieces) in zip(("train", "held-out"), text.sides, strict=True)
            )
        )
    _link(run.shards, folder)
    return shards


def _encoded(
    store: DocumentStore, pieces: Pieces, tokenizer: Tokenizer, folder: Path, display: Display
) -> data.Shards:
    if (folder / "manifest.json").is_file():
        return data.Shards.open(folder)
    total = float((pieces[:, 1] - pieces[:, 0]).sum())
    with display.stage(f"encoding the {folder.name} text", total) as progress:
        return data.encode(store, pieces, tokenizer, folder, name=folder.name, progress=progress)


def _staged(
    sources: list[str], options: DataRecipe, seed: int, own_folder: Path, display: Display
) -> DocumentStore:
    """The store of `sources`: in the cache where its content can be told beforehand, else in the run's folder."""
    settings = {"field": options.field, "split": options.split, "limit_bytes": options.limit_bytes, "seed": seed}
    key = fingerprint_sources(sources, **settings)
    folder = cache_folder() / "corpora" / key if key else own_folder
    with _locked(folder):
        if (folder / "manifest.json").is_file():
            return DocumentStore.open(folder)
        with display.stage("reading the text", None) as progress:
            return data.stage(
                sources,
                folder,
                field=options.field,
                split=options.split,
                limit_bytes=options.limit_bytes,
                seed=seed,
                progress=progress,
                warn=display.warn,
            )


def _digest(pieces: Pieces) -> str:
    """A name for which bytes of a store are meant, document by document."""
    return hashlib.sha256(np.ascontiguousarray(pieces).tobytes()).hexdigest()


def _everything(store: DocumentStore) -> Pieces:
    return np.stack([store.offsets[:-1], store.offsets[1:]], axis=1)


def _excluded(text: Text) -> Pieces | None:
    """The ranges of the training store that the tokenizer must not see."""
    return text.held_out if text.held_out_store is text.store else None


def _locked(folder: Path) -> FileLock:
    """A lock on a folder of the cache, so that two builds do not make it at the same time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.with_name(f".{folder.name}.lock"))


def _link(link: Path, folder: Path) -> None:
    """Point a run's name to a folder of the cache."""
    link.unlink(missing_ok=True)
    link.symlink_to(folder.resolve(), target_is_directory=True)
