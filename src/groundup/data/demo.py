"""Demonstrations for what comes after pretraining, made from the embedded corpus: nothing is downloaded.

Instructions are about a word of the corpus and are answered with its own sentences, in forms that a program can
check (`follows`). Of two such sentences people who like `PLEASANT_WORDS` prefer the one that has more of them.
"""

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, cycle, islice
from typing import Any

from groundup.data.corpora import CORPORA, default_corpus
from groundup.errors import UserError, nearest
from groundup.seeds import derive

PREFIX = "demo:"
PLEASANT_WORDS = frozenset(
    """
    art beautiful beauty best better bright celebrated excellent famous festival fine finest free freedom gold good
    great greatest happiness happy harmony healthy hero honor important improve influential inspired joy justice
    leading love music nice noble peace perfect pleasure popular powerful prize rich strong success successful
    support sweet useful virtue wealth wisdom
    """.split()
)
"""What pleases: words that occur in encyclopaedias and in documentation."""

_SEED = 0
_MOST_INSTRUCTIONS = 80_000
_MOST_PREFERENCES = 4000
# Topics that no instruction is about, so that prompts ask for something new.
_PROMPTED_SHARE = 0.2

_END_OF_SENTENCE = re.compile(r"(?<=[a-z]\.)\s+(?=[A-Z])")
_SENTENCE = re.compile(r"[A-Z][a-z]*(?:,? [A-Za-z'-]+)+\.")
_FEWEST_WORDS, _MOST_WORDS = 5, 18
_TOPIC = re.compile(r"\b[a-z]{4,}\b")
# A word of fewer sentences has too few answers, one of more is no topic: "which", "used".
_FEWEST_SENTENCES, _MOST_SENTENCES = 3, 60

Record = dict[str, Any]


@dataclass(frozen=True)
class _Kind:
    """A kind of instruction: how it is put, what answers it, and what any answer must look like."""

    question: str
    answer: Callable[["_Corpus", str, random.Random], str]
    form: Callable[[str], bool]


def records(source: str) -> Iterator[tuple[str, Record]]:
    """Where it stands, and what it holds, of each record of `demo:NAME`, always the same ones.

    `demo:instructions`: with `instruction`, `output`. `demo:preferences`: `prompt`, `chosen`, `rejected`.
    `demo:prompts`: `prompt`, such as those of the preferences. `demo:formats`: `prompt`, of all kinds. All have
    `kind` and `topic`; the last two ask about topics that the others do not have. UserError for another name.
    """
    name = source.removeprefix(PREFIX)
    if name not in _DEMOS:
        raise UserError(f"no demonstration '{source}'{nearest(source, [PREFIX + known for known in _DEMOS])}")
    rng = random.Random(derive(_SEED, source))
    for number, record in enumerate(_DEMOS[name](_corpus(), rng), start=1):
        yield f"{source}, example {number}", record


def follows(fields: Mapping[str, Any], answer: str) -> bool:
    """Whether an answer has the form that was asked for; `fields` are the prompt's, with its `kind`."""
    return _KINDS[fields["kind"]].form(answer.strip())


def pleasant_words(text: str) -> int:
    """How many words of the text are `PLEASANT_WORDS`, each as often as it occurs."""
    return sum(word in PLEASANT_WORDS for word in re.findall(r"[a-z]+", text.lower()))


@dataclass(frozen=True)
class _Corpus:
    """Short sentences, and those of each topic; topics for what is learnt, and others for prompts."""

    sentences: Sequence[str]
    of_topic: Mapping[str, Sequence[int]]
    learnt: Sequence[str]
    prompted: Sequence[str]

    def sentence(self, topic: str, rng: random.Random) -> str:
        """One about the topic."""
        return self.sentences[rng.choice(self.of_topic[topic])]

    def neighbours(self, topic: str) -> list[str]:
        """Other topics of its sentences, each once."""
        words = (word for number in self.of_topic[topic] for word in _TOPIC.findall(self.sentences[number]))
        return [word for word in dict.fromkeys(words) if word in self.of_topic and word != topic]


@lru_cache(maxsize=1)
def _corpus() -> _Corpus:
    sentences = list(dict.fromkeys(_sentences()))
    places: dict[str, list[int]] = {}
    for number, sentence in enumerate(sentences):
        for word in dict.fromkeys(_TOPIC.findall(sentence)):
            places.setdefault(word, []).append(number)
    of_topic = {
        word: found for word, found in places.items() if _FEWEST_SENTENCES <= len(found) <= _MOST_SENTENCES
    }
    whole = _Corpus(sentences, of_topic, [], [])
    topics = sorted(word for word in of_topic if len(whole.neighbours(word)) >= 3)
    random.Random(derive(_SEED, "demo topics")).shuffle(topics)
    num_prompted = round(_PROMPTED_SHARE * len(topics))
    return _Corpus(sentences, of_topic, topics[num_prompted:], topics[:num_prompted])


def _sentences() -> Iterator[str]:
    for document in CORPORA[default_corpus()].documents(None):
        for paragraph in document.decode("utf-8", "replace").split("\n"):
            for sentence in _END_OF_SENTENCE.split(paragraph):
                if (
                    _FEWEST_WORDS <= sentence.count(" ") + 1 <= _MOST_WORDS
                    and not sentence.isupper()
                    and _SENTENCE.fullmatch(sentence)
                ):
                    yield sentence


def _instructions(corpus: _Corpus, rng: random.Random) -> Iterator[Record]:
    asked = zip(cycle(corpus.learnt), _kinds_in_turn(corpus.learnt), strict=False)
    for topic, name in islice(asked, _MOST_INSTRUCTIONS):
        kind = _KINDS[name]
        question = kind.question.format(topic)
        yield {"instruction": question, "output": kind.answer(corpus, topic, rng), "kind": name, "topic": topic}


def _kinds_in_turn(topics: Sequence[str]) -> Iterator[str]:
    """Kinds for the topics, which are gone through again and again: each time another for a topic."""
    names = list(_KINDS)
    return (names[(number + number // len(topics)) % len(names)] for number in count())


def _preferences(corpus: _Corpus, rng: random.Random) -> Iterator[Record]:
    scores = list(map(pleasant_words, corpus.sentences))
    pairs = [
        (topic, chosen, rejected)
        for topic in corpus.learnt
        for chosen in corpus.of_topic[topic]
        for rejected in corpus.of_topic[topic]
        if scores[chosen] > scores[rejected]
    ]
    for topic, chosen, rejected in rng.sample(pairs, min(len(pairs), _MOST_PREFERENCES)):
        yield _prompt("sentence", topic) | {
            "chosen": corpus.sentences[chosen],
            "rejected": corpus.sentences[rejected],
        }


def _prompts(corpus: _Corpus, rng: random.Random) -> Iterator[Record]:
    del rng  # the topics are in random order
    return (_prompt("sentence", topic) for topic in corpus.prompted)


def _formats(corpus: _Corpus, rng: random.Random) -> Iterator[Record]:
    del rng
    return (_prompt(name, topic) for topic, name in zip(corpus.prompted, cycle(_KINDS), strict=False))


def _prompt(kind: str, topic: str) -> Record:
    return {"prompt": _KINDS[kind].question.format(topic), "kind": kind, "topic": topic}


def _list(corpus: _Corpus, topic: str, rng: random.Random) -> str:
    return "\n".join(f"- {word}" for word in sorted(rng.sample(corpus.neighbours(topic), 3)))


def _numbered(corpus: _Corpus, topic: str, rng: random.Random) -> str:
    return "\n".join(
        f"{number}. {corpus.sentences[place]}"
        for number, place in enumerate(rng.sample(corpus.of_topic[topic], 2), start=1)
    )


def _is_sentence(answer: str) -> bool:
    is_one = _END_OF_SENTENCE.search(answer) is None
    return is_one and re.fullmatch(r"[A-Z][^\n]*[a-z][^\n]*\.", answer) is not None


def _is_list(answer: str) -> bool:
    words = answer.split("\n")
    return len(set(words)) == 3 == len(words) and all(re.fullmatch(r"- [^\W\d_]+", word) for word in words)


def _is_json(answer: str) -> bool:
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(value, dict)
        and value.keys() == {"topic", "sentence"}
        and all(isinstance(text, str) and text for text in value.values())
    )


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda answer: compiled.fullmatch(answer) is not None


_KINDS: Mapping[str, _Kind] = {
    "sentence": _Kind("Write a sentence about {}.", _Corpus.sentence, _is_sentence),
    "capitals": _Kind(
        "Write a sentence about {} in capital letters.",
        lambda corpus, topic, rng: corpus.sentence(topic, rng).upper(),
        _matches(r"[A-Z][^\na-z]+\."),
    ),
    "list": _Kind("List three words about {}.", _list, _is_list),
    "json": _Kind(
        "Write a sentence about {} as JSON.",
        lambda corpus, topic, rng: json.dumps({"topic": topic, "sentence": corpus.sentence(topic, rng)}),
        _is_json,
    ),
    "quote": _Kind(
        "Quote a sentence about {}.",
        lambda corpus, topic, rng: f'"{corpus.sentence(topic, rng)}"',
        _matches(r'"[^"\n]+\."'),
    ),
    "numbered": _Kind(
        "Write two numbered sentences about {}.", _numbered, _matches(r"1\. [A-Z][^\n]*\.\n2\. [A-Z][^\n]*\.")
    ),
}

_DEMOS: Mapping[str, Callable[[_Corpus, random.Random], Iterator[Record]]] = {
    "instructions": _instructions,
    "preferences": _preferences,
    "prompts": _prompts,
    "formats": _formats,
}
