"""Demonstrations: always the same, checkable by a program, and about topics that are not mixed up."""

import json
from typing import Any

import pytest

from groundup.data import demo
from groundup.data.conversations import read_conversations, read_preferences, read_prompts
from groundup.data.demo import follows, pleasant_words
from groundup.errors import UserError


@pytest.fixture(scope="module", params=["wiki-en", "python"])
def records(request: pytest.FixtureRequest) -> Any:
    """The records of a demonstration, made from each of the corpora that are the default somewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "default_corpus", lambda: request.param)
        demo._corpus.cache_clear()
        yield lambda name: [record for _, record in demo.records(f"demo:{name}")]
    demo._corpus.cache_clear()


def test_answers_have_the_form_of_their_kind_and_of_no_other(records: Any) -> None:
    instructions = records("instructions")
    assert len(instructions) == 80_000
    kinds = {record["kind"] for record in instructions}
    assert len(kinds) == 6
    for record in instructions:
        answer = record["output"]
        assert follows(record, answer) and follows(record, f" {answer}\n")
        assert [kind for kind in kinds if follows({"kind": kind}, answer)] == [record["kind"]], answer
        assert not follows(record, answer[:-1]) or record["kind"] == "list"
        assert len(answer.split()) <= 40
        assert record["topic"] in record["instruction"]


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("sentence", "A dog"),
        ("sentence", "A dog.\nA cat."),
        ("sentence", "A dog barks. A cat sleeps."),
        ("sentence", ""),
        ("capitals", "A DOG BARKs."),
        ("list", "- one\n- two"),
        ("list", "- one\n- two\n- two"),
        ("list", "- one\n- two\n- three\n- four"),
        ("json", '{"topic": "dog"}'),
        ("json", '{"topic": "dog", "sentence": 3}'),
        ("json", '{"topic": "dog", "sentence": "A."} or so'),
        ("json", "[" * 10000),
        ("quote", '"A "dog" barks."'),
        ("numbered", "1. A dog barks.\n3. A cat."),
    ],
)
def test_other_answers_do_not_follow(kind: str, answer: str) -> None:
    assert not follows({"kind": kind}, answer)


def test_json_answers_name_their_topic(records: Any) -> None:
    for record in records("instructions"):
        if record["kind"] == "json":
            value = json.loads(record["output"])
            assert value["topic"] == record["topic"] and record["topic"] in value["sentence"]


def test_what_is_chosen_has_more_pleasant_words(records: Any) -> None:
    pairs = records("preferences")
    assert len(pairs) > 300
    for pair in pairs:
        assert pleasant_words(pair["chosen"]) > pleasant_words(pair["rejected"])
        assert all(pair["topic"] in pair[side] for side in ("chosen", "rejected"))
        assert follows(pair, pair["chosen"]) and follows(pair, pair["rejected"])


def test_prompts_ask_about_topics_that_nothing_else_is_about(records: Any) -> None:
    def topics(name: str) -> set[str]:
        return {record["topic"] for record in records(name)}

    assert len(topics("prompts")) > 50
    assert not topics("prompts") & (topics("instructions") | topics("preferences"))
    assert topics("formats") == topics("prompts")
    assert len({record["kind"] for record in records("formats")}) == 6
    assert {record["kind"] for record in records("prompts")} == {"sentence"}


def test_pleasant_words_are_counted_whole() -> None:
    assert pleasant_words("Great art, GREAT! The greatness of artists is unpleasant.") == 3
    assert pleasant_words("") == 0


def test_they_are_read_as_any_data_and_divided_by_topic() -> None:
    examples = read_conversations(["demo:instructions"], limit=4500)
    assert [m["role"] for m in examples[0].messages] == ["user", "assistant"]
    assert len(read_conversations(["demo:instructions"], limit=7)) == 7
    assert examples.items == read_conversations(["demo:instructions"], limit=4500).items
    train, held_out = examples.divided(0.1, seed=0)
    assert 0.1 * len(examples) <= len(held_out) < 0.12 * len(examples)
    assert not set(train.groups) & set(held_out.groups)
    assert len(read_preferences(["demo:preferences"], limit=100)) == 100
    prompt = read_prompts(["demo:formats"])[1]
    assert set(prompt.fields) == {"kind", "topic"} and prompt.fields["topic"] in prompt.messages[0]["content"]
    asked = read_prompts(["demo:instructions"])[0]
    assert follows(asked.fields, asked.fields["output"])


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no demonstration 'demo:prompt'; did you mean 'demo:prompts'\?"):
        read_prompts(["demo:prompt"])
