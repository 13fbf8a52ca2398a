"""Conversations in every common shape, and what is wrong with them in one line."""

import gzip
import json
import lzma
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from groundup.data.conversations import (
    Conversation,
    Examples,
    Prompt,
    read_conversations,
    read_judged,
    read_preferences,
    read_prompts,
)
from groundup.data.survey import holds_dialogues, survey
from groundup.errors import UserError

Record = dict[str, Any]
USER, ANSWER, OTHER = (
    {"role": role, "content": text} for role, text in (("user", "Q?"), ("assistant", "A."), ("assistant", "B."))
)
SYSTEM = {"role": "system", "content": "S"}
HH = "\n\nHuman: Q?\n\nAssistant: A."
FROM = [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "A."}]
SHAPES: dict[str, Record] = {
    "messages": {"messages": [USER, ANSWER]},
    "messages in parts": {"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "A."}]}]},
    "sharegpt": {"conversations": FROM},
    "alpaca": {"instruction": "Q?", "input": "", "output": "A."},
    "alpaca of Dolly": {"instruction": "Q?", "context": None, "response": "A.", "category": "c"},
    "prompt and completion": {"prompt": "Q?", "completion": "A."},
    "prompt and completion as messages": {"prompt": [USER], "completion": [ANSWER]},
    "question and answer": {"question": "Q?", "answer": "A."},
    "self-instruct": {"instruction": "Q?", "instances": [{"input": "", "output": "A."}]},
    "HH": {"text": HH},
}
PAIRS: dict[str, Record] = {
    "texts": {"prompt": "Q?", "chosen": "A.", "rejected": "B."},
    "messages": {"prompt": [USER], "chosen": [ANSWER], "rejected": [OTHER]},
    "a text and whole conversations": {"prompt": "Q?", "chosen": [USER, ANSWER], "rejected": [USER, OTHER]},
    "whole conversations": {"chosen": [USER, ANSWER], "rejected": [USER, OTHER]},
    "sharegpt": {"conversations": FROM[:1], "chosen": FROM[1], "rejected": {"from": "gpt", "value": "B."}},
    "sharegpt and texts": {"conversations": FROM[:1], "chosen": "A.", "rejected": "B."},
    "alpaca": {"instruction": "Q?", "input": "", "output": "A.", "chosen": "A.", "rejected": "B."},
    "HH": {"chosen": HH, "rejected": HH.replace("A.", "B.")},
    "HH with a prompt": {"prompt": "\n\nHuman: Q?\n\nAssistant:", "chosen": " A.", "rejected": " B."},
}


def _json_lines(path: Path, *records: Record) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_says_the_same(shape: str, tmp_path: Path) -> None:
    file = _json_lines(tmp_path / "a.jsonl", SHAPES[shape])
    assert read_conversations([file])[0] == Conversation([USER, ANSWER], f"{file}, line 1")
    assert read_prompts([file])[0].messages == [USER]


@pytest.mark.parametrize("shape", PAIRS)
def test_every_shape_of_a_preference_says_the_same(shape: str, tmp_path: Path) -> None:
    file = _json_lines(tmp_path / "a.jsonl", PAIRS[shape])
    (pair,) = read_preferences([file])
    messages = [pair.prompt, pair.chosen, pair.rejected]
    assert [[{**m, "content": m["content"].strip()} for m in part] for part in messages] == [
        [USER],
        [ANSWER],
        [OTHER],
    ]
    liked, disliked = read_judged([file])
    assert (liked.answer, liked.desirable, disliked.answer, disliked.desirable) == (
        pair.chosen,
        True,
        pair.rejected,
        False,
    )
    assert read_conversations([file])[0].messages == [*pair.prompt, *pair.chosen]
    assert read_prompts([file])[0].messages == [USER]


def test_alpaca_has_a_system_message_a_history_and_an_input(tmp_path: Path) -> None:
    record = {"system": "S", "history": [["Q?", "A."]], "instruction": "I", "input": "x", "output": "O"}
    (conversation,) = read_conversations([_json_lines(tmp_path / "a.jsonl", record)])
    last = [{"role": "user", "content": "I\n\nx"}, {"role": "assistant", "content": "O"}]
    assert conversation.messages == [SYSTEM, USER, ANSWER, *last]


def test_whole_conversations_part_where_they_differ(tmp_path: Path) -> None:
    """Also where that is before the last turn, or where one is the beginning of the other."""
    more = [{"role": "user", "content": "More?"}, OTHER]
    files = [
        _json_lines(tmp_path / "a.jsonl", {"chosen": [USER, ANSWER, *more], "rejected": [USER, OTHER, *more]}),
        _json_lines(tmp_path / "b.jsonl", {"chosen": [USER, ANSWER], "rejected": [USER, ANSWER, OTHER]}),
    ]
    first, second = read_preferences(files)
    assert (first.prompt, first.chosen, first.rejected) == ([USER], [ANSWER, *more], [OTHER, *more])
    assert (second.prompt, second.chosen, second.rejected) == ([USER], [ANSWER], [ANSWER, OTHER])


def test_tools_and_what_else_a_turn_has_are_kept(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    result = {"role": "tool", "content": "1", "name": None}
    record = {"messages": [USER, call, result, ANSWER], "tools": [{"type": "function"}]}
    (conversation,) = read_conversations([_json_lines(tmp_path / "a.jsonl", record)])
    assert conversation.tools == record["tools"]
    assert conversation.messages == [USER, {**call, "content": ""}, {"role": "tool", "content": "1"}, ANSWER]
    pair = _json_lines(tmp_path / "b.jsonl", {**PAIRS["texts"], "tools": record["tools"]})
    judged = _json_lines(tmp_path / "c.jsonl", {**SHAPES["messages"], "label": True, "tools": record["tools"]})
    found = [*read_preferences([pair]), *read_judged([pair, judged])]
    assert [one.tools for one in found] == 4 * [record["tools"]]


def test_prompts_keep_the_other_fields_and_may_be_plain_lines(tmp_path: Path) -> None:
    file = _json_lines(tmp_path / "a.jsonl", {"question": "Q?", "answer": "42", "level": 3})
    assert read_prompts([file])[0] == Prompt([USER], {"answer": "42", "level": 3}, f"{file}, line 1")
    numbers = [{"prompt": "Q?", "answer": 4}, {"prompt": "Q?", "answer": ["4", "four"]}]
    read = read_prompts([_json_lines(tmp_path / "n.jsonl", *numbers)])
    assert [prompt.fields for prompt in read] == [{"answer": 4}, {"answer": ["4", "four"]}]
    (tmp_path / "b.txt").write_text("Q?\n\nWhy?\n")
    prompts = read_prompts([str(tmp_path / "b.txt")])
    assert [prompt.messages[-1]["content"] for prompt in prompts] == ["Q?", "Why?"]
    assert prompts[1].where.endswith("b.txt, line 3") and not prompts[1].fields
    open_ended = _json_lines(tmp_path / "c.jsonl", {"messages": [SYSTEM, USER, ANSWER, USER], "id": 1})
    assert read_prompts([open_ended])[0].messages == [SYSTEM, USER, ANSWER, USER]


def test_judged_answers(tmp_path: Path) -> None:
    records = [{"messages": [USER, ANSWER], "label": True}, {"prompt": "Q?", "completion": "B.", "label": False}]
    file = _json_lines(tmp_path / "a.jsonl", *records)
    assert [(one.prompt, one.answer, one.desirable) for one in read_judged([file])] == [
        ([USER], [ANSWER], True),
        ([USER], [OTHER], False),
    ]
    conversations = read_conversations([file])  # what was disliked is not imitated
    assert [one.messages for one in conversations] == [[USER, ANSWER]]
    assert conversations.told_skipped() == f"left out: 1 disliked (first: {file}, line 2)"


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "a.jsonl": bytes,
    "a.jsonl.gz": gzip.compress,
    "a.ndjson.xz": lzma.compress,
    "a.jsonl.zst": zstandard.compress,
    "lines.json": bytes,
}


@pytest.mark.parametrize("name", [*PACKED, "array.json", "array.json.xz", "a.parquet", "folder", "*.jsonl", "hf:"])
def test_every_kind_of_source(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [{"messages": [USER, ANSWER], "n": number} for number in range(3)]
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    source = tmp_path / name
    if name in PACKED:
        source.write_bytes(PACKED[name](lines))
    elif name.startswith("array"):
        pack = lzma.compress if name.endswith("xz") else bytes
        source.write_bytes(pack(json.dumps(records, indent=1).encode()))
    elif name == "a.parquet":
        parquet.write_table(pa.Table.from_pylist(records), source)
    else:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "train.jsonl").write_bytes(lines)
        if name == "folder":
            (folder / "README.md").write_text("passed over")
        source = {"folder": folder, "*.jsonl": folder / name}.get(name, Path(f"hf:{folder}"))
    prompts = read_prompts([str(source)])
    assert [prompt.messages for prompt in prompts] == 3 * [[USER]]
    assert [prompt.fields["n"] for prompt in prompts] == [0, 1, 2]
    assert len(read_conversations([str(source)], limit=2)) == 2


@pytest.mark.parametrize(
    ("records", "error"),
    [
        (
            [{"messages": [USER, {"role": "asistant", "content": "A"}]}],
            "turn 2 has the unknown role 'asistant'; did",
        ),
        ([{"messages": [USER, {"role": "assistant"}]}], "line 1: messages, turn 2 is missing, not text"),
        ([{"messages": [USER, "A."]}], "turn 2 is str, not an object with role"),
        ([{"messages": [USER, ANSWER]}, {"prompt": "Q", "completion": 3}], "line 2: completion is int, not text"),
        ([{"body": "x", "title": "y"}], "line 1: no conversation in the fields body, title; give lines such as"),
        ([{"instruction": "Q", "history": ["Q"]}], "history is not made of pairs"),
        ([{"instruction": "Q", "instances": ["Q"]}], "an instance is str"),
        ([{"chosen": "A", "rejected": "B"}], "answer nothing; give a prompt beside them"),
        ([{"chosen": [USER, ANSWER], "rejected": [SYSTEM, OTHER]}], "answer nothing; give a prompt beside them"),
        ([{"prompt": "Q"}, {"prompt": " ", "completion": "A"}], "1 without an answer .*1 without a question"),
        ([], "nothing to learn from; it is empty"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(records: list[Record], error: str, tmp_path: Path) -> None:
    file = _json_lines(tmp_path / "a.jsonl", *records)
    with pytest.raises(UserError, match=error) as caught:
        read_conversations([file])
    assert "\n" not in str(caught.value) and file in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.jsonl", '{"messages": []}\n{"a', "line 2: not JSON"),
        ("a.jsonl", "[]", r"line 1: not a JSON object such as \{\"messages\""),
        ("a.json", '[{"a', "not JSON"),
        ("a.json", "[3]", "entry 1: not a JSON object"),
        ("a.txt", "Q?", "holds no examples"),
        ("a.parquet", "PAR", "not a readable parquet file"),
    ],
)
def test_files_that_cannot_be_read(name: str, content: str, error: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=error) as caught:
        read_conversations([str(tmp_path / name)])
    assert "\n" not in str(caught.value)


def test_a_conversation_is_no_preference_and_no_judgement(tmp_path: Path) -> None:
    file = _json_lines(tmp_path / "a.jsonl", SHAPES["messages"])
    with pytest.raises(UserError, match="line 1: no preference but messages; give lines with prompt, chosen"):
        read_preferences([file])
    with pytest.raises(UserError, match="line 1: nobody judged this answer; give lines with a label"):
        read_judged([file])


def test_what_teaches_nothing_is_left_out_and_counted(tmp_path: Path) -> None:
    good = PAIRS["texts"]
    file = _json_lines(tmp_path / "a.jsonl", good, {**good, "rejected": "A."}, {**good, "chosen": " "}, good)
    pairs = read_preferences([file])
    assert len(pairs) == 2 and {why: len(places) for why, places in pairs.skipped.items()} == {
        "with twice the same answer": 1,
        "with an empty answer": 1,
    }
    found = survey(file)
    assert (found.num_turns, found.errors) == (8, [])
    assert found.shapes == {"preferences (prompt and completion)": 4} and found.skipped == pairs.skipped


def test_a_survey_does_not_stop_at_what_is_wrong(tmp_path: Path) -> None:
    file = _json_lines(tmp_path / "a.jsonl", {"x": 1}, SHAPES["alpaca"], {"y": 2}, {"instruction": "Q?"})
    found = survey(file)
    assert [error.split(":")[0] for error in found.errors] == [f"{file}, line {line}" for line in (1, 3)]
    assert found.shapes == {"alpaca": 2}
    assert found.skipped == {"without an answer": [f"{file}, line 4"]} and found.num_useful == 1
    assert survey(file, asking=True).num_useful == 2


def test_texts_are_not_taken_for_dialogues(tmp_path: Path) -> None:
    assert not holds_dialogues(_json_lines(tmp_path / "a.jsonl", {"text": "x", "prompt": "y"}))
    assert not holds_dialogues(_json_lines(tmp_path / "b.jsonl", {"en": "x", "de": "y"}))
    assert not holds_dialogues("wiki-en")
    assert holds_dialogues("demo:prompts")
    for shape, record in {**SHAPES, **PAIRS}.items():
        assert holds_dialogues(_json_lines(tmp_path / "c.jsonl", record)), shape


def _numbers(examples: Sequence[Conversation]) -> list[int]:
    return [int(example.messages[1]["content"]) for example in examples]


def test_a_part_is_held_out_whose_questions_were_never_seen(tmp_path: Path) -> None:
    records = [{"question": f"Q{number // 2}", "answer": str(number)} for number in range(400)]
    examples = read_conversations([_json_lines(tmp_path / "a.jsonl", *records)])
    train, held_out = examples.divided(0.1, seed=1)
    assert len(held_out) == 40
    assert sorted(_numbers(train) + _numbers(held_out)) == list(range(400))
    assert not {n // 2 for n in _numbers(train)} & {n // 2 for n in _numbers(held_out)}
    assert examples.divided(0.1, seed=1) == (train, held_out)
    assert examples.divided(0.1, seed=2)[1] != held_out
    one_each = Examples(examples.items[:200:2], examples.groups[:200:2], {})
    assert [len(one_each.divided(0.001, seed=0, least=least)[1]) for least in (1, 2, 3)] == [1, 2, 3]
    few = Examples(examples.items[:4], examples.groups[:4], {})
    assert [len(part) for part in few.divided(0.001, seed=0)] == [2, 2]
    with pytest.raises(UserError, match="2 examples with 1 different questions are too few"):
        Examples(examples.items[:2], examples.groups[:2], {}).divided(0.1, seed=0)


@pytest.mark.shared
def test_all_the_real_data_loads(shared_data: Path) -> None:
    """Counts as the lines of the files, which are looked into nowhere else."""
    for name, count, shape in (
        ("sft/alpaca_gpt4_demo_zh", 1000, "alpaca"),
        ("sft/raschka_instructions_en", 1100, "alpaca"),
        ("sft/selfinstruct_seed_en", 175, "alpaca"),
        ("sft/sharegpt_zh_1k", 1000, "sharegpt"),
        ("preference/dpo_demo_en", 300, "preferences (sharegpt)"),
        ("preference/dpo_demo_zh", 300, "preferences (sharegpt)"),
        ("preference/dpo_zh_500", 500, "preferences (sharegpt)"),
        ("preference/hh_harmless_train", 1800, "preferences (whole conversations)"),
        ("preference/kto_demo_en", 300, "messages, judged"),
        ("preference/raschka_dpo_en", 1100, "preferences (alpaca)"),
        ("math/gsm8k_train", 7473, "question and answer"),
        ("sft/alpaca_en_nc", 15226, "alpaca"),
    ):
        found = survey(str(shared_data / f"{name}.jsonl.xz"))
        assert (dict(found.shapes), found.errors) == ({shape: count}, []), name
        assert sum(map(len, found.skipped.values())) <= 0.006 * count, name


@pytest.mark.shared
def test_real_preferences_are_answers_to_a_common_prompt(shared_data: Path) -> None:
    pairs = read_preferences([str(shared_data / "preference" / "hh_harmless_train.jsonl.xz")])
    assert all(pair.prompt[-1]["role"] == "user" and pair.chosen != pair.rejected for pair in pairs)
    assert pairs[0].prompt[0]["content"].endswith("actor Samuel L. Jackson?")
    assert pairs[0].rejected[0]["content"].startswith("Sure, this is it:")
    kto = read_judged([str(shared_data / "preference" / "kto_demo_en.jsonl.xz")])
    assert (len(kto), sum(one.desirable for one in kto)) == (300, 150)
