"""The examples of a stage: read, told what is wrong with them, and divided into those to learn from and the rest."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from groundup.data.conversations import Examples, Preference
from groundup.data.turn_rows import TurnRows
from groundup.errors import UserError
from groundup.pipeline.display import Display
from groundup.pipeline.tuning.job import TuneJob
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.turns import Turns, encode_answer

Read = Callable[[Sequence[str], int | None], Examples]
AnyExample = TypeVar("AnyExample")


def read_parts(job: TuneJob, read: Read) -> tuple[Examples, Examples]:
    """Examples to learn from, and held-out ones: a file of their own, or a share that the seed chooses."""
    settings = job.settings
    examples = read(settings.data, settings.limit)
    if left_out := examples.told_skipped():
        job.display.warn(left_out)
    if settings.validation:
        return examples, read(settings.validation, None)
    return examples.divided(settings.holdout, job.seed("held out"))


def encoded(
    display: Display, name: str, examples: Sequence[AnyExample], encode: Callable[[AnyExample], Turns]
) -> list[Turns]:
    """All of them as tokens, behind a bar; what a template refuses is named with its place."""
    turns = []
    with display.stage(f"encoding {name}", float(len(examples))) as progress:
        for number, example in enumerate(examples):
            try:
                turns.append(encode(example))
            except UserError as error:
                raise UserError(f"{getattr(example, 'where', name)}: {error}") from None
            progress(number + 1.0)
    return turns


def both_answers(tokenizer: Tokenizer, pairs: Iterable[Preference]) -> list[tuple[Turns, Turns]]:
    """The chosen and the rejected answer of each pair, each behind its prompt."""
    return [
        (encode_answer(tokenizer, pair.prompt, pair.chosen), encode_answer(tokenizer, pair.prompt, pair.rejected))
        for pair in pairs
    ]


def say_rows(job: TuneJob, train: TurnRows, held_out: TurnRows, unit: str) -> None:
    """How much there is to learn from."""
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in train.skipped.items() if count)
    job.display.say(
        f"{train.num_rows:,} {unit} of up to {job.context:,} tokens to learn from, {train.num_targets:,} of their "
        f"{train.num_tokens:,} tokens count; {held_out.num_rows:,} held out"
        + (f"; left out: {left_out}" if left_out else "")
    )
