"""The examples of a stage: read, divided into those to learn from and held-out ones, and made into rows."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from groundup.data.conversations import Examples, Judged, Preference
from groundup.data.turn_rows import TurnRows, preference_rows
from groundup.errors import UserError
from groundup.files import write_json
from groundup.pipeline.display import Display
from groundup.pipeline.tuning.job import TuneJob
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.turns import Turns, encode_answer

Read = Callable[[Sequence[str], int | None], Examples[Any]]
AnyExample = TypeVar("AnyExample")
AnyTurns = TypeVar("AnyTurns")


def read_parts(job: TuneJob, read: Read, least: int = 1) -> tuple[Examples[Any], Examples[Any]]:
    """Examples to learn from, and held-out ones: a file of their own, or a share that the seed chooses.

    That share is at least so many examples.
    """
    settings = job.settings
    examples = read(settings.data, settings.limit)
    if left_out := examples.told_skipped():
        job.display.warn(left_out)
    if settings.validation:
        return examples, read(settings.validation, None)
    return examples.divided(settings.holdout, job.seed("held out"), least)


def encoded(
    display: Display, examples: Sequence[AnyExample], encode: Callable[[AnyExample], AnyTurns]
) -> list[AnyTurns]:
    """All of them as tokens, behind a bar; what a template refuses is named with its place."""
    turns = []
    with display.stage(f"encoding {len(examples):,} examples", float(len(examples))) as progress:
        for number, example in enumerate(examples):
            try:
                turns.append(encode(example))
            except UserError as error:
                raise UserError(f"{getattr(example, 'where', number)}: {error}") from None
            progress(number + 1.0)
    return turns


def pair_rows(job: TuneJob, pairs: Examples[Preference], length: int) -> TurnRows:
    """Both answers of each pair, each behind its prompt, where these have up to `length` tokens."""
    turns = encoded(job.display, pairs, partial(encode_pair, job.start.tokenizer))
    return preference_rows(turns, length, job.seed("order"))


def encode_pair(tokenizer: Tokenizer, pair: Preference) -> tuple[Turns, Turns]:
    """The chosen and the rejected answer."""
    chosen, rejected = (
        encode_answer(tokenizer, pair.prompt, side, pair.tools) for side in (pair.chosen, pair.rejected)
    )
    return chosen, rejected


def encode_judged(tokenizer: Tokenizer, judged: Judged) -> tuple[Turns, bool]:
    """An answer, and whether it was liked."""
    return encode_answer(tokenizer, judged.prompt, judged.answer, judged.tools), judged.desirable


def check_unchanged(job: TuneJob, train: str, held_out: str) -> None:
    """UserError if the run began with examples of other fingerprints; the first session notes them.

    Steps are stretches of one order of the examples, and tables go by their numbers: with others both would mean
    something else.
    """
    file = job.run.folder / "examples.json"
    found = {"train": train, "held_out": held_out}
    known = job.run.read_json(file)
    if known and known != found:
        sources = ", ".join([*job.settings.data, *job.settings.validation])
        raise UserError(f"the data of this run has changed since it began; put back {sources}, or begin a new run")
    if not known and job.is_first:
        write_json(file, found)


def say_rows(job: TuneJob, train: TurnRows, held_out: TurnRows, unit: str) -> None:
    """How much there is to learn from."""
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in train.skipped.items() if count)
    job.display.say(
        f"{train.num_rows:,} {unit} of up to {job.context:,} tokens to learn from, {train.num_targets:,} of their "
        f"{train.num_tokens:,} tokens count; {held_out.num_rows:,} held out"
        + (f"; left out: {left_out}" if left_out else "")
    )
    if train.num_cut:
        job.display.warn(
            f"{train.num_cut:,} examples have more than {job.context:,} tokens; their ends are cut off"
        )
