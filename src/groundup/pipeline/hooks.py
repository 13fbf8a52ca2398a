"""What happens beside the training loop: held-out text is measured, samples are written, a bar moves."""

import math
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import torch.distributed as dist
from torch import nn

from groundup.data import Shards
from groundup.errors import UserError
from groundup.evaluate.bits import evaluate_tokens
from groundup.model.decoder import Decoder
from groundup.parallel.divided import is_divided
from groundup.pipeline.display import Display, TrainingBar
from groundup.pipeline.pace import Pace
from groundup.plan.choose import Plan
from groundup.plan.hardware import Hardware
from groundup.recipe import Recipe
from groundup.seeds import derive
from groundup.serve.generate import generate_text
from groundup.serve.sampling import Sampling
from groundup.tokenizer import Tokenizer
from groundup.train.checkpoints import TrainState
from groundup.train.compile import eager
from groundup.train.metrics import MetricsWriter
from groundup.train.trainer import StepReport, Validation

if TYPE_CHECKING:
    from groundup.parallel.many import ManyDevices

# In how many stretches, spread over the held-out text, a part of it is measured.
_STRETCHES = 8
# With a time budget, samples may take this share of the training time.
_SAMPLING_SHARE = 0.003


class RunHooks:
    """The trainer's hooks for a run: `validate`, `on_step` and `on_validation`."""

    def __init__(
        self,
        *,
        recipe: Recipe,
        plan: Plan,
        hardware: Hardware,
        tokenizer: Tokenizer,
        held_out: Shards,
        border: int | None,
        by_clock: bool,
        samples: MetricsWriter,
        display: Display,
        bar: TrainingBar,
        devices: "ManyDevices | None" = None,
    ):
        self._recipe, self._plan, self._hardware, self._devices = recipe, plan, hardware, devices
        self._tokenizer, self._samples, self._display, self._bar = tokenizer, samples, display, bar
        assert recipe.train.validation_tokens is not None, "the planner fills it in"
        self._tokens = held_out_tokens(held_out, recipe.train.validation_tokens, plan.shape.context)
        if devices is not None and len(self._tokens) <= plan.shape.context:
            raise UserError(
                f"the held-out text has {len(self._tokens)} tokens, too few for a window of model.context="
                f"{plan.shape.context}, which many devices measure whole; give a longer data.validation, a larger "
                "data.holdout_bytes or a shorter context"
            )
        self._border = border
        self._prompts = _prompts(recipe, tokenizer, self._tokens)
        self._bytes_per_token = float(tokenizer.byte_lengths[self._tokens].mean())
        self._flops_per_token = plan.flops / plan.tokens
        seconds = _SAMPLING_SHARE * plan.train_seconds if by_clock else math.inf
        self._sampling = SamplingTime(seconds, recipe.sample.tokens, len(self._prompts))
        self._pace = Pace()

    def validate(self, model: nn.Module) -> Validation:
        """Bits per byte of the held-out text, or of a part spread over it; many devices measure it together."""
        if self._devices is not None:
            return self._validate_together(self._devices)
        result = evaluate_tokens(
            cast(Decoder, model),
            self._tokens,
            self._tokenizer.byte_lengths,
            device=self._hardware.device,
            precision=self._plan.precision,
            end_of_text=self._border,
        )
        return Validation(result.loss, result.bits_per_byte)

    def _validate_together(self, devices: "ManyDevices") -> Validation:
        """Whole windows only, and the ends of documents are counted as the text's tokens are."""
        context = self._plan.shape.context
        count = (len(self._tokens) - 1) // context
        starts = context * np.arange(count)[:, None]
        windows = self._tokens[starts + np.arange(context + 1)].astype(np.int64)
        loss, num_targets = devices.evaluate(windows, self._plan.micro_batch)
        num_bytes = int(self._tokenizer.byte_lengths[windows[:, 1:]].sum())
        return Validation(loss, loss * num_targets / math.log(2) / num_bytes)

    def on_step(self, report: StepReport) -> None:
        """Move the bar."""
        loss = self._pace.smooth(report.loss)
        self._bar.update(
            fraction=report.fraction,
            loss=loss,
            bits_per_byte=loss / math.log(2) / self._bytes_per_token,
            rate=report.tokens_per_second,
            utilisation=report.tokens_per_second
            * self._flops_per_token
            / (self._plan.devices * self._hardware.flops(self._plan.precision)),
            left=self._pace.seconds_left(report.fraction),
        )

    def on_validation(self, model: nn.Module, state: TrainState, validation: Validation, last: bool) -> None:
        """Say the figures and let the model write, as far as there is time for it; at the end in any case."""
        self._display.say(
            f"step {state.step:,}  {state.tokens:,} tokens  {state.seconds:.0f} s  held-out: "
            f"{validation.bits_per_byte:.3f} bits per byte, loss {validation.loss:.3f}"
        )
        if self._devices is not None and not _has_whole_model(self._devices):
            return
        share = min(1.0, state.seconds / self._plan.train_seconds)
        for number, prompt in enumerate(self._prompts):
            if not last and not self._sampling.allows(len(self._prompts) - number, share):
                break
            self._write_sample(cast(Decoder, model), state, prompt, math.inf if last else share)

    def _write_sample(self, model: Decoder, state: TrainState, prompt: str, share: float) -> None:
        """What follows a prompt; cut off where the time for samples up to `share` of the run is used up."""
        options = self._recipe.sample
        seed = derive(self._recipe.seed, "samples")
        sampling = Sampling(options.temperature, options.top_k)
        with eager():
            pieces = generate_text(model, self._tokenizer, prompt, options.tokens, sampling, seed)
            text = "".join(self._sampling.limited(pieces, share))
        self._samples.write(step=state.step, tokens=state.tokens, prompt=prompt, text=text)
        self._display.sample(prompt, text)


def _has_whole_model(devices: "ManyDevices") -> bool:
    """Whether this process, the first one, can compute with the model alone."""
    layout = devices.grid.layout
    divided = any(map(is_divided, devices.model.parameters()))
    return dist.get_rank() == 0 and layout.context == layout.pipeline == 1 and not divided


def held_out_tokens(shards: Shards, limit: int, context: int) -> npt.NDArray[np.integer]:
    """Up to `limit` tokens (N,), as a few stretches spread evenly over the held-out text."""
    if shards.num_tokens <= limit:
        return shards.read(0, shards.num_tokens)
    length = max(context + 1, limit // _STRETCHES)
    starts = np.linspace(0, shards.num_tokens - length, max(1, limit // length)).astype(int)
    return np.concatenate([shards.read(int(start), length) for start in starts])


def _prompts(recipe: Recipe, tokenizer: Tokenizer, tokens: npt.NDArray[np.integer]) -> list[str]:
    """The recipe's prompts; or a new document, and the opening of one that is held out, in the text's language."""
    if recipe.sample.prompts is not None:
        return recipe.sample.prompts
    ends = np.flatnonzero(tokens == tokenizer.end_of_text)
    start = int(ends[0]) + 1 if len(ends) and ends[0] + 6 < len(tokens) else 0
    opening = tokenizer.decode(int(token) for token in tokens[start : start + 6])
    return ["", opening.replace("\ufffd", "").strip().replace("\n", " ")]


class SamplingTime:
    """Keeps what is generated within `seconds` of a run, spread evenly over it, the samples at its end included.

    At first nothing is known of the model's speed, and its text is cut off where the time is over. From then on
    there is text when there is time for all of it: `num_samples` of `tokens` each.
    """

    def __init__(self, seconds: float, tokens: int, num_samples: int):
        self._seconds, self._tokens, self._num_samples = seconds, tokens, num_samples
        self._spent = 0.0
        self._pieces = 0

    def allows(self, samples: int, share: float) -> bool:
        """Whether there is time for so many samples when `share` of the run is over."""
        if not self._pieces:
            return True
        sample_seconds = self._tokens * self._spent / self._pieces
        for_all = self._seconds - self._num_samples * sample_seconds
        return self._spent + samples * sample_seconds <= share * for_all

    def limited(self, pieces: Iterable[str], share: float) -> Iterator[str]:
        """The pieces of a text, about one a token, while there is time left of that up to `share` of the run."""
        before = time.monotonic()
        for piece in pieces:
            yield piece
            now = time.monotonic()
            self._spent, self._pieces, before = self._spent + now - before, self._pieces + 1, now
            if self._spent > share * self._seconds:
                return
