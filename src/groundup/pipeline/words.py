"""The work of `groundup words`: from text to a folder of word vectors, stopped and continued at will."""

import shlex
import tempfile
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from groundup.data.sources import STANDARD_INPUT
from groundup.errors import UserError
from groundup.pipeline.training_text import total_bytes
from groundup.pipeline.word_bars import WordBars
from groundup.seeds import derive
from groundup.train.interrupt import Interrupt
from groundup.words import folder
from groundup.words.cooccurrence import count_cooccurrences, shuffle
from groundup.words.glove import Glove
from groundup.words.settings import GloveSettings, Settings, TextSettings, Word2VecSettings
from groundup.words.text import word_lists
from groundup.words.vocabulary import Vocabulary, read_words
from groundup.words.word2vec import Word2Vec

_DEFAULT_OUT = Path("words")


def settings(model: str, options: dict[str, Any]) -> Settings:
    """The settings of `model` with those options that are not None.

    Raises:
        UserError: an option is not for this model, or its value is out of bounds.
    """
    kind = GloveSettings if model == "glove" else Word2VecSettings
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if name not in kind.model_fields:
            raise UserError(f"{name} = {value} is not for --model {model}; leave it out")
    if given.get("hierarchical_softmax") and "negative" in given:
        raise UserError("--hs has a tree in the place of noise: leave out --negative or --hs")
    try:
        return kind.model_validate({"model": model, **given})
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{'.'.join(map(str, first['loc']))} = {first['input']}: {first['msg']}") from None


def check_out(out: Path | None) -> Path:
    """Where to write; UserError, before anything is spent, if something is there already."""
    chosen = out or _DEFAULT_OUT
    if chosen.exists():
        raise UserError(f"{chosen} exists already; choose another --out, or continue it with --resume")
    chosen.parent.mkdir(parents=True, exist_ok=True)
    return chosen


def train(text: TextSettings, chosen: Settings, out: Path, bars: WordBars) -> dict[str, Any]:
    """Learn the vectors of the words of `text` and write the folder `out`; the figures, as JSON can write them.

    Ctrl-C saves what there is; figures["finished"] and ["signal"] tell.
    """
    return _Work(text, chosen, out, bars).run(None)


def resume(out: Path | None, bars: WordBars) -> dict[str, Any]:
    """Go on with a folder whose training was stopped.

    Raises:
        UserError: it is finished, damaged, or its text cannot be read again or is not what it was.
    """
    place = out or _DEFAULT_OUT
    about = folder.read_about(place)
    if STANDARD_INPUT in about.text.sources and not about.figures["finished"]:
        raise UserError(f"{place} cannot be continued: its text came from standard input; train anew")
    return _Work(about.text, about.settings, place, bars).run(about)


class _Work:
    def __init__(self, text: TextSettings, chosen: Settings, out: Path, bars: WordBars) -> None:
        self._text, self._settings, self._out, self._bars = text, chosen, out, bars

    def run(self, before: folder.About | None) -> dict[str, Any]:
        """From the text, or from what was saved `before`, to the folder."""
        state = None if before is None else folder.read_state(self._out)
        with tempfile.TemporaryDirectory(prefix=f".{self._out.name}.", dir=self._out.parent) as temporary:
            learner, vocabulary = self._prepare(Path(temporary))
            if state is not None:
                if not folder.read_vocabulary(self._out).equals(vocabulary):
                    raise UserError(
                        f"{self._out}: its text is not what it was, so it cannot be continued; train anew"
                    )
                learner.restore(state)
            figures = self._learn(learner, before)
            figures |= {"vocabulary_size": len(vocabulary), "tokens": vocabulary.num_tokens}
            state = None if learner.finished or STANDARD_INPUT in self._text.sources else learner.state()
            about = folder.About(self._settings, self._text, figures)
            folder.save(self._out, about, vocabulary, learner.vectors, state)
            return figures | {"resumable": state is not None}

    def _prepare(self, temporary: Path) -> tuple[Word2Vec | Glove, Vocabulary]:
        with self._bars.reading(total_bytes(self._text.sources)) as on_bytes:
            vocabulary, ids = read_words(word_lists(self._text, on_bytes), self._text.min_count, temporary)
        if isinstance(self._settings, Word2VecSettings):
            return Word2Vec(self._settings, vocabulary, ids), vocabulary
        with self._bars.counting(len(ids)) as on_places:
            size, window = len(vocabulary), self._settings.window
            pairs = count_cooccurrences(ids, size, window, temporary, on_places=on_places)
        records = shuffle(pairs, size, temporary, derive(self._settings.seed, "words, order of records"))
        if not records.stat().st_size:
            raise UserError("no two known words stand together; give longer documents or a smaller --min-count")
        return Glove(self._settings, size, records), vocabulary

    def _learn(self, learner: Word2Vec | Glove, before: folder.About | None) -> dict[str, Any]:
        began, done_before = time.monotonic(), learner.tally.done
        with (
            Interrupt() as interrupt,
            self._bars.learning(learner.total, done_before, learner.unit) as on_progress,
        ):
            learner.train(lambda: interrupt.signal is not None, on_progress)
        seconds = time.monotonic() - began
        return {
            "out": str(self._out),
            "model": self._settings.model,
            "dimension": self._settings.dimension,
            "finished": learner.finished,
            "signal": interrupt.signal,
            "share_done": learner.tally.done / learner.total,
            "loss": learner.tally.loss,
            f"{learner.unit}_per_second": (learner.tally.done - done_before) / seconds,
            "seconds": seconds + (before.figures["seconds"] if before else 0.0),
        }


def stopped(figures: dict[str, Any]) -> str:
    """What to tell of a training that was stopped: that it was saved, and how to go on or why that cannot be."""
    saved = f"stopped at {figures['share_done']:.0%}; the vectors so far are in {figures['out']}"
    if figures["resumable"]:
        return f"{saved}; continue: groundup words train --resume --out {shlex.quote(figures['out'])}"
    return f"{saved}; it cannot be continued, as its text came from standard input"
