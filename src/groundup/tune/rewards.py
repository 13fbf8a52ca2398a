"""Who judges answers: a reward model, a function of a Python file, a program, or a demonstration's rule.

What goes wrong in a judge is told in one line with the place of the prompt, so that the run can be continued when
it is mended.
"""

import importlib.util
import inspect
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from groundup.data.conversations import Prompt
from groundup.data.demo import pleasant_words
from groundup.errors import UserError, nearest
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.turns import encode_answer, stop_ids
from groundup.tune.judging_program import run_program
from groundup.tune.reward_folder import LoadedReward, load_reward

_ROWS_AT_ONCE = 32
_FUNCTION = "reward"
_DEMOS: dict[str, Callable[[str], float]] = {"pleasant": pleasant_words}


class Reward(Protocol):
    """Somebody who judges."""

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """A finite number for each answer, the higher the better; UserError names the prompt that failed."""
        ...


def open_reward(spec: str, device: str = "cpu") -> Reward:
    """The judge called `spec`: a reward model's folder, FILE.py[:FUNCTION], an executable or demo:pleasant.

    A function is called as `reward(prompt, completion, **fields)`: the text of the last message, the answer, and
    of the prompt's other fields and `messages` those that it has parameters for. A program gets one JSON object a
    line with the same names on its standard input, and gives a number a line. UserError where there is no such
    judge.
    """
    if spec.startswith("demo:"):
        name = spec.removeprefix("demo:")
        if name not in _DEMOS:
            raise UserError(f"no reward '{spec}'{nearest(spec, [f'demo:{known}' for known in _DEMOS])}")
        return RuleReward(_DEMOS[name])
    file, colon, function = spec.partition(".py:")
    if colon or spec.endswith(".py"):
        path = Path(f"{file}.py" if colon else spec)
        return FunctionReward(str(path), _read_function(path, function or _FUNCTION))
    path = Path(spec)
    if path.is_dir():
        # Adapters stay beside the weights, which others may hold too (`reference.share_equal`).
        return ModelReward(load_reward(path, merge=False), device)
    if not path.is_file():
        raise UserError(
            f"no reward '{spec}'; give a reward model's folder, FILE.py[:FUNCTION] or an executable file"
        )
    if not os.access(path, os.X_OK):
        raise UserError(f"{spec} is not executable; make it so with chmod +x, or give FILE.py")
    return ProgramReward(path)


class ModelReward:
    """A reward model, which reads prompt and answer in its own template; `about` is what is said of it.

    Of what is longer than its context it reads the end.
    """

    def __init__(self, loaded: LoadedReward, device: str = "cpu"):
        self.model, self._tokenizer = loaded.model.to(device).eval(), loaded.tokenizer
        self.about, self._device = loaded.about, device

    def reads(self, tokenizer: Tokenizer) -> bool:
        """Whether ids that were written with this tokenizer and its template are those that it has learnt from."""
        own = self._tokenizer
        same_template = tokenizer.usage.chat_template == own.usage.chat_template
        return tokenizer == own and same_template and stop_ids(tokenizer) == stop_ids(own)

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """The normalised reward of each answer; what is spelt like a special token is left out of it."""
        return self.score_ids(prompts, [self._encode(*both) for both in zip(prompts, answers, strict=True)])

    def _encode(self, prompt: Prompt, answer: str) -> npt.NDArray[np.int64]:
        message = {"role": "assistant", "content": _without_special(answer, self._tokenizer)}
        return encode_answer(self._tokenizer, prompt.messages, [message]).ids

    @torch.no_grad()
    def score_ids(self, prompts: Sequence[Prompt], rows: Sequence[npt.NDArray[np.int64]]) -> list[float]:
        """The normalised reward of each row of ids, the prompt's and the answer's, as they were written."""
        rows = [ids[-self.model.shape.context :] for ids in rows]
        # Those of similar length are read together, so that there is little padding.
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        scores = [0.0] * len(rows)
        for first in range(0, len(order), _ROWS_AT_ONCE):
            part = order[first : first + _ROWS_AT_ONCE]
            ids_BT = torch.zeros(len(part), len(rows[part[-1]]), dtype=torch.int64)
            for place, number in enumerate(part):
                ids_BT[place, : len(rows[number])] = torch.from_numpy(rows[number])
            last_B = torch.tensor([len(rows[number]) - 1 for number in part])
            found_B = self.model(ids_BT.to(self._device), last_B.to(self._device)).float().tolist()
            for number, score in zip(part, found_B, strict=True):
                scores[number] = _checked(score, "the reward model", prompts[number])
        return scores


class RuleReward:
    """A rule that looks at nothing but the answer."""

    def __init__(self, rule: Callable[[str], float]):
        self._rule = rule

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """What the rule gives for each answer."""
        del prompts
        return [float(self._rule(answer)) for answer in answers]


class FunctionReward:
    """A Python function, called for each answer."""

    def __init__(self, name: str, function: Callable[..., Any]):
        self._name, self._function = name, function
        self._parameters, self._takes_all = _parameters(function)

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """What the function gives for each answer."""
        return [self._score(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]

    def _score(self, prompt: Prompt, answer: str) -> float:
        told = _told(prompt, answer)
        question, completion = told.pop("prompt"), told.pop("completion")
        fields = {name: value for name, value in told.items() if self._takes_all or name in self._parameters}
        try:
            value = self._function(question, completion, **fields)
        except (Exception, SystemExit) as error:  # somebody else's program: it can fail in any way
            raise _failure(self._name, prompt, f"{type(error).__name__}: {error}") from None
        return _checked(value, self._name, prompt)


class ProgramReward:
    """An executable file, started once for each set of answers."""

    def __init__(self, file: Path):
        self._file = file.resolve()

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """The number on each line that the program writes."""
        if not answers:
            return []
        asked = zip(prompts, answers, strict=True)
        # Parquet holds dates and the like, which JSON has no numbers for.
        objects = (json.dumps(_told(*both), ensure_ascii=False, default=str) for both in asked)
        try:
            written, failure = run_program(self._file, "".join(f"{line}\n" for line in objects).encode())
        except OSError as error:
            raise UserError(f"cannot run {self._file}: {error.strerror}; give an executable file") from None
        if failure is None and len(written) != len(answers):
            failure = f"it wrote {len(written)} lines for {len(answers)} answers"
        if failure is not None:
            raise _failure(str(self._file), prompts[min(len(written), len(prompts) - 1)], failure)
        return [_checked(line, str(self._file), prompt) for line, prompt in zip(written, prompts, strict=True)]


def _told(prompt: Prompt, answer: str) -> dict[str, Any]:
    """What a function or program is told of an answer; a field of the data cannot hide the answer itself."""
    question = prompt.messages[-1]["content"]
    return {**prompt.fields, "messages": prompt.messages, "prompt": question, "completion": answer}


def _without_special(text: str, tokenizer: Tokenizer) -> str:
    """A text in which nothing would become a special token: words must not end the turn that they stand in."""
    special = tokenizer.special_tokens.keys() - tokenizer.usage.spoken_tokens
    spelt = re.compile("|".join(map(re.escape, special)))
    while (less := spelt.sub("", text)) != text:
        text = less
    return text


def _checked(value: Any, name: str, prompt: Prompt) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise _failure(name, prompt, f"{value!r:.80} is not a number") from None
    if not math.isfinite(number):
        raise _failure(name, prompt, f"{number} is not finite")
    return number


def _failure(name: str, prompt: Prompt, reason: str) -> UserError:
    one_line = " ".join(reason.split())
    return UserError(
        f"{name} could not judge the answer to {prompt.where}: {one_line}; mend it, then use --resume"
    )


def _read_function(file: Path, name: str) -> Callable[..., Any]:
    if not file.is_file():
        raise UserError(f"no reward file '{file}'; give a Python file with a function {name}(prompt, completion)")
    specification = importlib.util.spec_from_file_location(f"groundup_reward_{file.stem}", file)
    assert specification is not None and specification.loader is not None, "it ends in .py"
    module = importlib.util.module_from_spec(specification)
    try:
        with _importable(module, file.parent):
            specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # somebody else's program: it can fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{file} cannot be read as Python: {reason}; mend it") from None
    function = getattr(module, name, None)
    if not callable(function):
        own = [known for known, value in vars(module).items() if callable(value) and not known.startswith("_")]
        raise UserError(f"{file} has no function '{name}'{nearest(name, own) if own else '; write one'}")
    return function


@contextmanager
def _importable(module: ModuleType, folder: Path) -> Iterator[None]:
    """As Python has it for a program: the module is known by its name, and finds those beside it."""
    sys.modules[module.__name__] = module
    sys.path.insert(0, str(folder.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(folder.resolve()))


def _parameters(function: Callable[..., Any]) -> tuple[frozenset[str], bool]:
    """The names of its parameters, and whether it takes others by name too; none where they cannot be known."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # written in C
        return frozenset(), False
    takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    return frozenset(parameter.name for parameter in parameters), takes_all
