"""The examples of a stage: read, divided into those to learn from and held-out ones, and made into rows."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from groundup.data.conversations import Examples, Preference
from groundup.data.turn_rows import TurnRows, preference_rows
from groundup.errors import UserError
from groundup.pipeline.display import Display
from groundup.pipeline.tuning.job import TuneJob
from groundup.tokenizer.turns import Turns, encode_answer

Read = Callable[[Sequence[str], int | None], Examples[Any]]
AnyExample = TypeVar("AnyExample")
AnyTurns = TypeVar("AnyTurns")


def read_parts(job: TuneJob, read: Read) -> tuple[Examples[Any], Examples[Any]]:
    """Examples to learn from, and held-out ones: a file of their own, or a share that the seed chooses."""
    settings = job.settings
    examples = read(settings.data, settings.limit)
    if left_out := examples.told_skipped():
        job.display.warn(left_out)
    if settings.validation:
        return examples, read(settings.validation, None)
    return examples.divided(settings.holdout, job.seed("held out"))


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


def pair_rows(job: TuneJob, pairs: Examples[Preference]) -> TurnRows:
    """Both answers of each pair, each behind its prompt."""
    tokenizer = job.start.tokenizer

    def encode(pair: Preference) -> tuple[Turns, Turns]:
        chosen, rejected = (encode_answer(tokenizer, pair.prompt, side) for side in (pair.chosen, pair.rejected))
        return chosen, rejected

    return preference_rows(encoded(job.display, pairs, encode), job.context + 1, job.seed("order"))


def say_rows(job: TuneJob, train: TurnRows, held_out: TurnRows, unit: str) -> None:
    """How much there is to learn from."""
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in train.skipped.items() if count)
    job.display.say(
        f"{train.num_rows:,} {unit} of up to {job.context:,} tokens to learn from, {train.num_targets:,} of their "
        f"{train.num_tokens:,} tokens count; {held_out.num_rows:,} held out"
        + (f"; left out: {left_out}" if left_out else "")
    )
