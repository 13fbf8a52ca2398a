"""Ready chat templates: transformers must read the saved folder as we do."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from groundup.errors import UserError
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.definition import Usage
from groundup.tokenizer.templates import READY_TEMPLATES, with_template
from groundup.tokenizer.turns import encode_conversation, encode_prompt, stop_ids

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief & <kind>."},
    {"role": "user", "content": "What is 1+1?"},
    {"role": "assistant", "content": "Two: 二.\nReally."},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Yes."},
]
TEXTS = {
    "chatml": "<|im_start|>user\nA?<|im_end|>\n<|im_start|>assistant\nB.<|im_end|>\n<|im_start|>assistant\n",
    "llama3": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nA?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nB.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "gemma": "<bos><start_of_turn>user\nA?<end_of_turn>\n<start_of_turn>model\nB.<end_of_turn>\n"
    "<start_of_turn>model\n",
    "zephyr": "<|user|>\nA?<|endoftext|>\n<|assistant|>\nB.<|endoftext|>\n<|assistant|>\n",
    "alpaca": "Below is an instruction that describes a task. Write a response that appropriately completes the "
    "request.\n\n### Instruction:\nA?\n\n### Response:\nB.<|endoftext|>\n\n### Response:\n",
    "plain": "User: A?\n\nAssistant: B.<|endoftext|>\n\nAssistant:",
}
"""The published forms, written out."""


@pytest.fixture(scope="module")
def base() -> Tokenizer:
    return Tokenizer.train(["user assistant Really. What is this? " * 9], 290)


@pytest.mark.parametrize("name", READY_TEMPLATES)
def test_transformers_gives_the_same_text_and_ids(name: str, base: Tokenizer, tmp_path: Path) -> None:
    tokenizer = with_template(base, name)
    tokenizer.save(tmp_path)
    assert Tokenizer.load(tmp_path) == tokenizer
    peer: Any = AutoTokenizer.from_pretrained(tmp_path)
    text = peer.apply_chat_template(MESSAGES, tokenize=False)
    assert tokenizer.apply_chat_template(MESSAGES) == text
    ours = encode_conversation(tokenizer, MESSAGES).ids.tolist()
    theirs = peer.apply_chat_template(MESSAGES, return_dict=False)
    assert ours == theirs[: len(ours)]
    assert tokenizer.decode(theirs[len(ours) :]).isspace() or len(ours) == len(theirs)
    asked = peer.apply_chat_template(MESSAGES[:-1], add_generation_prompt=True, return_dict=False)
    assert encode_prompt(tokenizer, MESSAGES[:-1]) == asked
    assert peer.eos_token_id == ours[-1]
    assert len(peer) == tokenizer.vocabulary_size


@pytest.mark.parametrize("name", READY_TEMPLATES)
def test_texts_are_as_published(name: str, base: Tokenizer) -> None:
    messages = [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "B."}]
    assert with_template(base, name).apply_chat_template(messages, add_generation_prompt=True) == TEXTS[name]


@pytest.mark.parametrize("name", READY_TEMPLATES)
def test_new_tokens_stand_behind_the_old_ones(name: str, base: Tokenizer) -> None:
    tokenizer, ready = with_template(base, name), READY_TEMPLATES[name]
    new = [tokenizer.special_tokens[token] for token in ready.special_tokens]
    assert sorted(new) == list(range(base.vocabulary_size, tokenizer.vocabulary_size))
    assert tokenizer.encode_ordinary("What is this?") == base.encode_ordinary("What is this?")
    end = ready.end_of_turn or "<|endoftext|>"
    assert tokenizer.usage.roles["eos_token"] == end
    assert stop_ids(tokenizer) == {tokenizer.special_tokens[end], base.end_of_text}
    assert with_template(tokenizer, name) == tokenizer
    assert with_template(tokenizer).usage == tokenizer.usage  # its own


def test_special_tokens_can_be_added(base: Tokenizer, tmp_path: Path) -> None:
    more = base.with_special_tokens(["<|a|>", "<|endoftext|>", "<|a|>", "<b>"])
    size = base.vocabulary_size
    assert more.special_tokens == {**base.special_tokens, "<|a|>": size, "<b>": size + 1}
    assert more.encode("x<|a|><b>", "all") == [*base.encode("x"), size, size + 1]
    assert more.decode([size]) == "<|a|>" and more.vocabulary_size == size + 2
    assert more.fingerprint != base.fingerprint and base.with_special_tokens([]) == base
    more.save(tmp_path)
    assert Tokenizer.load(tmp_path) == more
    with pytest.raises(UserError, match="empty or not valid"):
        base.with_special_tokens([""])


def test_chatml_is_meant_where_there_is_no_template(base: Tokenizer) -> None:
    assert with_template(base) == with_template(base, "chatml")
    assert with_template(base).usage == with_template(base, "chatml").usage
    assert with_template(base).usage.roles["pad_token"] == "<|endoftext|>"


def test_a_models_own_template_says_what_ends_a_turn(base: Tokenizer) -> None:
    """Qwen's base models name another token as their end than their template writes."""
    template = READY_TEMPLATES["chatml"].jinja
    usage = Usage(roles={"eos_token": "<|endoftext|>"}, chat_templates={"default": template})
    own = base.with_special_tokens(["<|im_start|>", "<|im_end|>"]).with_usage(usage)
    tokenizer = with_template(own)
    assert tokenizer.usage.roles == {"eos_token": "<|im_end|>"}
    assert tokenizer.special_tokens == own.special_tokens


def test_a_file_is_a_template_too(base: Tokenizer, tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|done|>{% endfor %}<|say|>")
    tokenizer = with_template(base, str(file))
    assert list(tokenizer.special_tokens) == ["<|endoftext|>", "<|done|>", "<|say|>"]
    assert tokenizer.usage.roles["eos_token"] == "<|done|>"
    file.write_text("{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}")
    assert with_template(base, str(file)).usage.roles["eos_token"] == "<|endoftext|>"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
            "ends the assistant's turn with",
        ),
        ("{% for m in", "not in Jinja's language"),
        ("{{ raise_exception('no') }}", "refuses the conversation: no"),
    ],
)
def test_unusable_templates_are_refused_in_a_line(text: str, error: str, base: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text(text)
    with pytest.raises(UserError, match=error) as caught:
        with_template(base, str(tmp_path / "t.jinja"))
    assert "\n" not in str(caught.value)


def test_an_unknown_name_gets_the_nearest(base: Tokenizer) -> None:
    with pytest.raises(UserError, match=r"unknown chat template 'chatlm'; did you mean 'chatml'\?"):
        with_template(base, "chatlm")


@pytest.mark.parametrize("name", READY_TEMPLATES)
def test_tool_calls_are_not_dropped_in_silence(name: str, base: Tokenizer) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    with pytest.raises(UserError, match="knows no tool calls"):
        with_template(base, name).apply_chat_template([MESSAGES[1], call])
