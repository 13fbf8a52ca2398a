"""Which tokens are the assistant's: exactly its words and the token that ends its turn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from groundup.errors import UserError
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.definition import Usage
from groundup.tokenizer.templates import READY_TEMPLATES, with_template
from groundup.tokenizer.turns import encode_answer, encode_conversation, encode_prompt
from tests.tokenizer.strategies import FRAGMENTS
from tests.tokenizer.test_chat import QWEN3

Messages = list[dict[str, Any]]
BASE = Tokenizer.train(["user assistant Really. What is this? \n\n the answer " * 9], 300)
TOKENIZERS = {name: with_template(BASE, name) for name in READY_TEMPLATES}
MARKED = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}
    {%- else %}
        {{- message.content + '<|im_end|>' }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""

_WORDS = st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=6).map("".join)
_TURN = st.tuples(_WORDS, _WORDS)


@st.composite
def conversations(draw: st.DrawFn) -> Messages:
    """Perhaps a system message, questions with answers, and perhaps a question without one."""
    messages: Messages = [{"role": "system", "content": draw(_WORDS)}] if draw(st.booleans()) else []
    for asked, answered in draw(st.lists(_TURN, min_size=1, max_size=4)):
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return [*messages, {"role": "user", "content": draw(_WORDS)}] if draw(st.booleans()) else messages


def _said(name: str, content: str) -> str:
    """What a template makes of the assistant's words, with the end of its turn."""
    words = content.strip() if name in ("llama3", "gemma") else content
    return (" " if name == "plain" else "") + words + (READY_TEMPLATES[name].end_of_turn or "<|endoftext|>")


@pytest.mark.parametrize("name", READY_TEMPLATES)
@settings(max_examples=60, deadline=None)
@given(messages=conversations())
def test_what_counts_is_what_the_assistant_says_and_its_end(name: str, messages: Messages) -> None:
    tokenizer = TOKENIZERS[name]
    turns = encode_conversation(tokenizer, messages)
    expected = [_said(name, message["content"]) for message in messages if message["role"] == "assistant"]
    assert tokenizer.decode(turns.ids[turns.counts]) == "".join(expected)
    # Each answer is one stretch, as long as the model would need tokens for it.
    borders = np.flatnonzero(np.diff(turns.counts, prepend=False, append=False))
    spans = [turns.ids[first:last] for first, last in borders.reshape(-1, 2)]
    assert [span.tolist() for span in spans] == [tokenizer.encode(text, "all") for text in expected]
    assert turns.ids.dtype == np.int64 and turns.counts.dtype == bool and turns.counts[-1]
    # All of it together is the text of the template, up to the last answer's end.
    last = max(place for place, message in enumerate(messages) if message["role"] == "assistant")
    text = tokenizer.apply_chat_template(messages[: last + 1])
    assert text.startswith(tokenizer.decode(turns.ids)) and len(text) - len(tokenizer.decode(turns.ids)) <= 2


@pytest.mark.parametrize("name", READY_TEMPLATES)
@settings(max_examples=40, deadline=None)
@given(messages=conversations(), answer=_WORDS)
def test_an_answer_stands_behind_the_very_prompt(name: str, messages: Messages, answer: str) -> None:
    tokenizer = TOKENIZERS[name]
    prompt = [*messages, {"role": "user", "content": "Why?"}]
    ids = encode_prompt(tokenizer, prompt)
    turns = encode_answer(tokenizer, prompt, [{"role": "assistant", "content": answer}])
    assert turns.ids[: len(ids)].tolist() == ids
    assert not turns.counts[: len(ids)].any() and turns.counts[len(ids) :].all()
    assert tokenizer.decode(turns.ids[len(ids) :]) == _said(name, answer)
    whole = encode_conversation(tokenizer, [*prompt, {"role": "assistant", "content": answer}])
    assert np.array_equal(whole.ids, turns.ids)


def test_the_mask_is_that_of_transformers(tmp_path: Path) -> None:
    """A template with {% generation %} marks tells transformers itself what the assistant says."""
    usage = Usage(roles={"eos_token": "<|im_end|>"}, chat_templates={"default": MARKED})
    tokenizer = TOKENIZERS["chatml"].with_usage(usage)
    tokenizer.save(tmp_path)
    peer: Any = AutoTokenizer.from_pretrained(tmp_path)
    conversation = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is this?"},
        {"role": "assistant", "content": "The answer.\n\nReally, 二!"},
        {"role": "user", "content": "the answer"},
        {"role": "assistant", "content": "the answer"},
    ]
    theirs = peer.apply_chat_template(conversation, return_assistant_tokens_mask=True, return_dict=True)
    ours = encode_conversation(tokenizer, conversation)
    length = len(ours)
    assert ours.ids.tolist() == theirs["input_ids"][:length]
    assert ours.counts.astype(int).tolist() == theirs["assistant_masks"][:length]
    assert not any(theirs["assistant_masks"][length:])


QUESTION, ANSWER = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nA"}


def test_where_earlier_turns_change_only_the_last_counts() -> None:
    template = "\n".join(line for line in QWEN3.splitlines() if "dict(a=1)" not in line)
    template = template.replace("(message.content or '')", "message.content.split('</think>')[-1].lstrip('\\n')")
    usage = Usage(roles={"eos_token": "<|im_end|>"}, chat_templates={"default": template})
    tokenizer = TOKENIZERS["chatml"].with_usage(usage)
    messages = [QUESTION, ANSWER, QUESTION, ANSWER]
    turns = encode_conversation(tokenizer, messages)
    assert tokenizer.decode(turns.ids[turns.counts]) == "<think>\nhm\n</think>\n\nA<|im_end|>"
    assert tokenizer.apply_chat_template(messages).startswith(tokenizer.decode(turns.ids))
    assert encode_prompt(tokenizer, messages[:3]) == turns.ids[~turns.counts].tolist()


def test_an_answer_that_cannot_be_found_is_refused() -> None:
    template = "{{ messages | length }}{% for m in messages %}{{ m.content + eos_token }}{% endfor %}"
    tokenizer = BASE.with_usage(Usage(roles={"eos_token": "<|endoftext|>"}, chat_templates={"default": template}))
    with pytest.raises(UserError, match="give another template, such as chatml"):
        encode_conversation(tokenizer, [QUESTION, ANSWER])


def test_what_nobody_asked_for_is_not_learnt() -> None:
    tokenizer, greeting = TOKENIZERS["chatml"], {"role": "assistant", "content": "Hello!"}
    assert not encode_conversation(tokenizer, [greeting]).counts.any()
    assert not encode_conversation(tokenizer, [QUESTION]).counts.any()
    turns = encode_conversation(tokenizer, [greeting, QUESTION, ANSWER, {"role": "system", "content": "Stop."}])
    assert "Hello" not in tokenizer.decode(turns.ids[turns.counts])
    assert "Hello" in tokenizer.decode(turns.ids)
    assert "Stop" not in tokenizer.decode(turns.ids)
    interrupted = [QUESTION, {"role": "system", "content": "Be brief."}, ANSWER]
    turns = encode_conversation(tokenizer, interrupted)
    assert "brief" not in tokenizer.decode(turns.ids[turns.counts])
