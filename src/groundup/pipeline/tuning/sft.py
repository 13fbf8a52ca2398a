"""Supervised fine-tuning: the loss of the assistant's turns, of conversations packed into windows."""

import math
from typing import Any

from groundup.clock import Clock
from groundup.data.conversations import Conversation, Examples, read_conversations
from groundup.data.turn_rows import TurnRows, packed_rows
from groundup.objective import OBJECTIVES, Setting
from groundup.pipeline.tuning.examples import encoded, read_parts, say_rows
from groundup.pipeline.tuning.finish import save_policy
from groundup.pipeline.tuning.job import TuneJob
from groundup.pipeline.tuning.lesson import Lesson, learn
from groundup.recipe_stages import SftRecipe
from groundup.tokenizer.turns import encode_conversation


def carry_on(job: TuneJob, clock: Clock) -> dict[str, Any]:
    """Take the run from wherever it stands to its model; the outcome."""
    train_examples, held_out_examples = read_parts(job, read_conversations)
    rows, held_out = _rows(job, train_examples), _rows(job, held_out_examples)
    say_rows(job, rows, held_out, "windows" if job.settings_of(SftRecipe).packing else "conversations")
    clock.lap("read")
    model = job.arranged(job.start.model.to(job.device))
    objective = OBJECTIVES["supervised"](Setting())
    figures = learn(job, Lesson(model, job.arranged, objective, objective, rows, held_out, "tok"), clock)
    figures |= {"examples": len(train_examples), "held_out_examples": len(held_out_examples)}
    if job.is_first:
        save_policy(job, model, figures)
    clock.lap("finish")
    before, after = figures["loss_before"], figures["loss"]
    job.display.say(
        f"done: held-out loss {before:.3f} -> {after:.3f} nats a token, perplexity {_perplexity(before)} -> "
        f"{_perplexity(after)}",
        style="bold",
    )
    job.display.say(f"try     groundup chat {job.run.folder}")
    return figures


def _rows(job: TuneJob, conversations: Examples[Conversation]) -> TurnRows:
    tokenizer = job.start.tokenizer
    turns = encoded(
        job.display,
        conversations,
        lambda example: encode_conversation(tokenizer, example.messages, example.tools),
    )
    return packed_rows(turns, job.context + 1, job.seed("order"), job.settings_of(SftRecipe).packing)


def _perplexity(loss: float) -> str:
    return f"{math.exp(min(loss, 700.0)):,.1f}"
