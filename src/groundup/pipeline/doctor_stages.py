"""What `groundup doctor` says of conversations, and of the stages behind pretraining."""

from collections.abc import Iterator
from typing import NamedTuple

from groundup.data.conversations import read_conversations, read_judged, read_preferences, read_prompts
from groundup.data.survey import survey
from groundup.data.turn_rows import TurnRows, kto_rows, packed_rows, preference_rows
from groundup.errors import UserError
from groundup.pipeline.tuning.examples import encode_judged, encode_pair
from groundup.pipeline.tuning.job import Start, open_start
from groundup.recipe import Recipe
from groundup.recipe_stages import DpoRecipe, RolloutRecipe, SftRecipe, TuneRecipe
from groundup.tokenizer.turns import encode_conversation, encode_prompt

# So many examples are encoded to learn what counts in them.
_LOOK_EXAMPLES = 1000
_MOST_ERRORS = 5
# With more left out, something is wrong with the data or the context.
_MOST_LEFT_OUT = 0.5


class Finding(NamedTuple):
    """One sentence, and whether all is well."""

    good: bool
    sentence: str


def dialogues(source: str, asking: bool | None = None) -> Iterator[Finding]:
    """The findings for conversations or preferences, and with `asking` for prompts.

    By default the records tell: they are prompts if they would teach nothing otherwise.
    """
    found, only_asks = survey(source, bool(asking)), False
    if asking is None and not found.num_useful:
        prompts = survey(source, asking=True)
        only_asks = prompts.num_useful > 0
        found = prompts if only_asks else found
    count = sum(found.shapes.values())
    shapes = ", ".join(f"{number:,} of the shape {shape}" for shape, number in found.shapes.items())
    if count:
        yield Finding(True, f"{source} is readable: {shapes}; {found.num_turns / count:.1f} turns each.")
    if only_asks:
        yield Finding(True, "They only ask: prompts for ppo, grpo and reject, from which no other stage learns.")
    for why, places in found.skipped.items():
        sentence = f"{len(places):,} examples are {why}; training leaves them out (first: {places[0]})."
        yield Finding(len(places) < _MOST_LEFT_OUT * count, sentence)
    for error in found.errors[:_MOST_ERRORS]:
        yield Finding(False, f"{error}.")
    if len(found.errors) > _MOST_ERRORS:
        yield Finding(False, f"{len(found.errors) - _MOST_ERRORS:,} more lines are no examples.")
    if not count and not found.errors:
        yield Finding(False, f"{source} holds no examples; name another source.")


def stage(recipe: Recipe) -> Iterator[Finding]:
    """The findings for a stage: its data, and what of it a model would learn from."""
    settings: TuneRecipe = getattr(recipe, recipe.stage)
    yield from stage_data(settings)
    if settings.model is None or not settings.data:
        lacking = "model to start from" if settings.model is None else "data"
        yield Finding(False, f"The stage {recipe.stage} has no {lacking}; name it in the recipe.")
        return
    try:
        yield from _counted(settings, open_start(settings))
    except UserError as error:
        yield Finding(False, f"{error}.")


def stage_data(settings: TuneRecipe) -> Iterator[Finding]:
    """The findings for all that a stage reads."""
    for source in [*settings.data, *settings.validation]:
        yield from dialogues(source, asking=isinstance(settings, RolloutRecipe))


def _counted(settings: TuneRecipe, start: Start) -> Iterator[Finding]:
    context = min(settings.context or start.model.shape.context, start.model.shape.context)
    if isinstance(settings, RolloutRecipe):
        prompts = read_prompts(settings.data, _LOOK_EXAMPLES)
        lengths = [len(encode_prompt(start.tokenizer, prompt.messages)) for prompt in prompts]
        fitting = sum(length + settings.tokens <= context for length in lengths)
        yield Finding(
            fitting > _MOST_LEFT_OUT * len(lengths),
            f"{fitting:,} of {len(lengths):,} prompts leave room for {settings.tokens} tokens in {context:,}.",
        )
        return
    rows = _rows(settings, start, context + 1)
    left_out = sum(rows.skipped.values())
    reasons = "".join(f"; {count:,} are left out as {why}" for why, count in rows.skipped.items())
    reasons += f"; {rows.num_cut:,} are cut off at their end" if rows.num_cut else ""
    yield Finding(
        left_out <= _MOST_LEFT_OUT * (rows.num_examples + left_out),
        f"Of {rows.num_examples + left_out:,} examples in {context:,} tokens {rows.num_targets:,} of "
        f"{rows.num_tokens:,} tokens are learnt{reasons}; no batch is without any.",
    )


def _rows(settings: TuneRecipe, start: Start, length: int) -> TurnRows:
    """Those of the first examples, as the stage makes them; UserError where there is nothing to learn."""
    tokenizer, data = start.tokenizer, settings.data
    if isinstance(settings, SftRecipe):
        conversations = read_conversations(data, _LOOK_EXAMPLES)
        turns = [encode_conversation(tokenizer, example.messages, example.tools) for example in conversations]
        return packed_rows(turns, length, seed=0, packing=settings.packing)
    if isinstance(settings, DpoRecipe) and settings.loss == "kto":
        judged = read_judged(data, _LOOK_EXAMPLES)
        return kto_rows([encode_judged(tokenizer, one) for one in judged], length, seed=0)
    pairs = [encode_pair(tokenizer, pair) for pair in read_preferences(data, _LOOK_EXAMPLES)]
    return preference_rows(pairs, length, seed=0)
