import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from groundup.errors import UserError
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.chat import apply_chat_template, choose_template

ROLES = {"bos_token": "<s>", "eos_token": "</s>"}

CHATML = """\
{% for message in messages %}
    {%- if loop.first and message.role != 'system' %}
<|im_start|>system
You help.<|im_end|>
    {% endif %}
<|im_start|>{{ message['role'] }}
{% generation %}{{ message['content'] }}{% endgeneration %}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
"""

LLAMA3 = """\
{{- bos_token }}
{%- set date = date_string if date_string is defined else strftime_now('%d %b %Y') %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = '' %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday: ' + date + '\\n\\n' }}
{%- if tools is not none %}
    {{- 'Functions:\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson(indent=4) }}
    {%- endfor %}
{%- endif %}
{{- system + '<|eot_id|>' }}
{%- for message in messages %}
    {%- if message.role not in ['user', 'assistant', 'tool'] %}
        {{- raise_exception('unknown role ' + message.role) }}
    {%- elif message.tool_calls is defined %}
        {%- for call in message.tool_calls %}
            {%- if loop.index > 2 %}{% break %}{% endif %}
            {{- '{"name": "' + call.function.name + '", "parameters": ' + call.function.arguments | tojson + '}' }}
        {%- endfor %}
    {%- elif message.content is string %}
        {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}
        {{- message.content | trim + '<|eot_id|>' }}
    {%- else %}
        {{- message.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

QWEN3 = """\
{%- set ns = namespace(multi_step=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step and message.role == "user" %}
        {%- set ns.multi_step = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set reasoning = message.reasoning_content if message.reasoning_content is string else '' %}
    {%- if not reasoning and message.content is string and '</think>' in message.content %}
        {%- set reasoning = message.content.split('</think>')[0].rstrip('\\n') %}
        {%- set reasoning = reasoning.split('<think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if loop.index0 > ns.last and reasoning %}
        {{- '<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' }}
    {%- endif %}
    {{- (message.content or '') + '<|im_end|>\\n' }}
{%- endfor %}
{%- if documents %}{{ documents | map(attribute='title') | join(', ') }}{% endif %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
{{- dict(a=1).items() | list }}{{ dict.fromkeys('ab', eos_token) }}
"""

TOOL = {
    "type": "function",
    "function": {
        "name": "f<x>",
        "description": "é & 'quotes'",
        "parameters": {"type": "object", "properties": {}},
    },
}
CONVERSATIONS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hello <b> & 'you'"}],
    [{"role": "system", "content": "  Be\nbrief. "}, {"role": "user", "content": "一二\n"}],
    [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2", "reasoning": "carry\n", "tool_calls": None},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes"},
    ],
    [{"role": "user", "content": [{"type": "image", "image": object()}, {"type": "text", "text": "What?"}]}],
    [
        {"role": "user", "content": "call"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"function": {"name": n, "arguments": {"é": [1, 2.5, None, True]}}} for n in "abc"],
        },
    ],
]
VARIABLES: list[dict[str, Any]] = [
    {"date_string": "1 Jan 2026"},
    {"date_string": "x", "tools": [TOOL, TOOL]},
    {"date_string": "x", "enable_thinking": False, "documents": [{"title": "T", "text": "t"}]},
    {"date_string": "x", "bos_token": "other", "more": np.float32(0.5)},
]


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    folder = tmp_path_factory.mktemp("peer")
    Tokenizer.train(["x"], 300, special_tokens=tuple(ROLES.values())).save(folder)
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **ROLES)


def rendered_by(
    peer: PreTrainedTokenizerFast, template: str, messages: Any, prompt: bool, **variables: Any
) -> str:
    return peer.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=prompt, **variables
    )


@pytest.mark.parametrize("template", [CHATML, LLAMA3, QWEN3], ids=["chatml", "llama3", "qwen3"])
@pytest.mark.parametrize("variables", VARIABLES)
@pytest.mark.parametrize("prompt", [False, True])
def test_the_text_is_that_of_transformers(
    template: str, variables: dict[str, Any], prompt: bool, peer: PreTrainedTokenizerFast
) -> None:
    for messages in CONVERSATIONS:
        try:
            expected = rendered_by(peer, template, messages, prompt, **variables)
        except Exception:
            with pytest.raises(UserError):
                apply_chat_template(template, messages, ROLES, prompt, **variables)
        else:
            assert apply_chat_template(template, messages, ROLES, prompt, **variables) == expected


MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text()}),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)
@given(messages=MESSAGES, prompt=st.booleans())
def test_any_messages_are_rendered_alike(peer: PreTrainedTokenizerFast, messages: Any, prompt: bool) -> None:
    for template in (CHATML, QWEN3):
        assert apply_chat_template(template, messages, ROLES, prompt) == rendered_by(
            peer, template, messages, prompt
        )


@pytest.mark.parametrize(
    "expression",
    [
        "messages[0] | tojson",
        "messages | tojson(sort_keys=true, separators=(',', ':'))",
        "{'b': '<é>', 'a': 1} | tojson(ensure_ascii=true)",
        "'a' if undefined_name else 'b'",
        "undefined_name",
        "messages[0].missing",
        "messages[0].content | upper",
    ],
)
def test_expressions_mean_the_same(expression: str, peer: PreTrainedTokenizerFast) -> None:
    template = "  {{ " + expression + " }}  \n"
    messages = CONVERSATIONS[0]
    assert apply_chat_template(template, messages, ROLES) == rendered_by(peer, template, messages, False)


def test_the_time_is_now() -> None:
    before = datetime.now().replace(microsecond=0)
    text = apply_chat_template("{{ strftime_now('%Y-%m-%d %H:%M:%S') }}", CONVERSATIONS[0], {})
    assert before <= datetime.strptime(text, "%Y-%m-%d %H:%M:%S") <= datetime.now()


def test_the_callers_messages_stay_as_they_are() -> None:
    messages = [{"role": "assistant", "content": None, "thinking": "x"}]
    before = json.dumps(messages)
    apply_chat_template(QWEN3, messages, ROLES)
    assert json.dumps(messages) == before


@pytest.mark.parametrize(
    ("template", "messages", "variables", "message"),
    [
        (CHATML, [], {}, "the conversation is empty"),
        (CHATML, ["hello"], {}, "'hello' is no mapping"),
        (CHATML, [{"role": "user", "content": "x"}], {"tools": [print]}, "is no mapping"),
        (LLAMA3, [{"role": "king", "content": "x"}], {}, "refuses the conversation: unknown role king"),
        ("a\n{% if %}", [{}], {}, "not in Jinja's language, line 2: Expected an expression"),
        ("{{ 'a' + 1 }}", [{}], {}, "refuses the conversation: can only concatenate"),
        ("{{ a.b.c }}", [{}], {}, "'a' is undefined"),
    ],
)
def test_errors_take_one_line(template: str, messages: Any, variables: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        apply_chat_template(template, messages, ROLES, **variables)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(a=1) }}",
        "{% set ns = namespace(__class__=1) %}",
        "{% set ns = namespace() %}{% set ns._x = 1 %}",
        "{{ dict.mro() }}",
        "{{ raise_exception.__globals__.os }}",
        "{{ range(10**9) | list }}",
    ],
)
def test_a_template_stays_in_its_sandbox(template: str, peer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(Exception):  # noqa: B017
        rendered_by(peer, template, CONVERSATIONS[0], False)
    with pytest.raises(UserError, match="refuses the conversation"):
        apply_chat_template(template, CONVERSATIONS[0], ROLES)


def test_a_template_is_chosen_as_by_transformers(peer: PreTrainedTokenizerFast) -> None:
    templates = {"default": "A", "tool_use": "B", "rag": "C"}
    peer.chat_template = templates
    assert choose_template(templates) == peer.get_chat_template() == "A"
    assert choose_template(templates, tools=True) == peer.get_chat_template(tools=[TOOL]) == "B"
    assert choose_template(templates, "rag", tools=True) == "C"
    assert choose_template({"default": "A"}, tools=True) == "A"
    for unusable in ({}, {"rag": "C"}):
        with pytest.raises(UserError):
            choose_template(unusable)
    with pytest.raises(UserError, match="unknown chat template 'rg'; did you mean 'rag'"):
        choose_template(templates, "rg")


def test_import_does_not_load_jinja() -> None:
    code = "import sys, groundup.tokenizer.chat; print('jinja2' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
