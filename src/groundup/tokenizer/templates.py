"""Ready chat templates, after the published formats of model families, and putting one into a tokenizer.

A template is a Jinja text that renders a conversation (see `chat`). The ready ones write what a conversation says
word for word, but for white space that the published format trims.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from groundup.errors import UserError, nearest
from groundup.tokenizer.definition import end_of_text
from groundup.tokenizer.special import any_of
from groundup.tokenizer.tokenizer import Tokenizer

DEFAULT_TEMPLATE = "chatml"

_NO_TOOL_CALLS = """\
{%- for message in messages if message.tool_calls %}
    {{- raise_exception('this template knows no tool calls; give the Jinja file of a model that does') }}
{%- endfor %}
"""

_CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

_LLAMA3 = """\
{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

# A system message stands before the words of the first turn, as Gemma 3 has it.
_GEMMA = """\
{{- bos_token }}
{%- set said = namespace(first='') %}
{%- for message in messages %}
    {%- if message.role == 'system' %}
        {%- set said.first = message.content | trim + '\\n\\n' %}
    {%- else %}
        {{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' }}
        {{- said.first + message.content | trim + '<end_of_turn>\\n' }}
        {%- set said.first = '' %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<start_of_turn>model\\n' }}
{%- endif %}
"""

_ZEPHYR = """\
{%- for message in messages %}
    {{- '<|' + message.role + '|>\\n' + message.content + eos_token + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>\\n' }}
{%- endif %}
"""

_ALPACA = """\
{%- if messages[0].role != 'system' %}
    {{- 'Below is an instruction that describes a task. Write a response that appropriately completes the '
        'request.\\n\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'system' %}
        {{- message.content + '\\n\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '### Response:\\n' + message.content + eos_token + '\\n\\n' }}
    {%- else %}
        {{- '### Instruction:\\n' + message.content + '\\n\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '### Response:\\n' }}
{%- endif %}
"""

# The space behind a speaker's colon belongs to the answer: so its first word is the token that it is in any text.
_PLAIN = """\
{%- for message in messages %}
    {{- message.role | capitalize + ': ' + message.content }}
    {{- (eos_token if message.role == 'assistant' else '') + '\\n\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- 'Assistant:' }}
{%- endif %}
"""


@dataclass(frozen=True)
class ReadyTemplate:
    """A template, the special tokens that it writes, and what they are for.

    `end_of_turn` None: the assistant's turn ends with the tokenizer's own end of text.
    """

    jinja: str
    end_of_turn: str | None = None
    special_tokens: tuple[str, ...] = ()
    begin_of_text: str | None = None


def _ready(text: str, end_of_turn: str | None = None, *more: str, begin: str | None = None) -> ReadyTemplate:
    tokens = tuple(token for token in (begin, *more, end_of_turn) if token is not None)
    return ReadyTemplate(_NO_TOOL_CALLS + text, end_of_turn, tokens, begin)


READY_TEMPLATES: Mapping[str, ReadyTemplate] = {
    "chatml": _ready(_CHATML, "<|im_end|>", "<|im_start|>"),
    "llama3": _ready(_LLAMA3, "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", begin="<|begin_of_text|>"),
    "gemma": _ready(_GEMMA, "<end_of_turn>", "<start_of_turn>", begin="<bos>"),
    "zephyr": _ready(_ZEPHYR),
    "alpaca": _ready(_ALPACA),
    "plain": _ready(_PLAIN),
}
"""By name. `zephyr`, `alpaca` and `plain` need no token but the end of text: their markers are text."""

_MARKER = re.compile(r"<\|[^<>|\s]+\|>")
_PROBE = "groundup"


def with_template(tokenizer: Tokenizer, name: str | None = None) -> Tokenizer:
    """The tokenizer with a chat template as its default, and the tokens and roles that this one needs.

    Args:
        tokenizer: special tokens that it lacks get the ids behind its own.
        name: one of `READY_TEMPLATES`, or a file with a Jinja template, whose marks of the form `<|...|>` become
            special tokens; None: its own template where it has one, else chatml.

    The token that ends the assistant's turn gets the role `eos_token`. UserError for an unknown name, and for a
    template that cannot render a question and an answer, or ends the answer with no special token.
    """
    if name is None and tokenizer.chat_template is not None:
        return _with_end_of_turn(tokenizer)
    ready = _find(name or DEFAULT_TEMPLATE)
    text_end = end_of_text(tokenizer.special_tokens, tokenizer.usage.roles)
    roles = {
        "bos_token": ready.begin_of_text,
        "eos_token": ready.end_of_turn or text_end,
        # Only where another token ends the turn can it be told from padding.
        "pad_token": text_end if ready.end_of_turn else None,
    }
    given = {role: token for role, token in roles.items() if token is not None}
    usage = replace(
        tokenizer.usage, roles={**tokenizer.usage.roles, **given}, chat_templates={"default": ready.jinja}
    )
    return _with_end_of_turn(tokenizer.with_special_tokens(ready.special_tokens).with_usage(usage))


def _find(name: str) -> ReadyTemplate:
    if name in READY_TEMPLATES:
        return READY_TEMPLATES[name]
    path = Path(name)
    if not path.is_file():
        raise UserError(f"unknown chat template '{name}'{nearest(name, READY_TEMPLATES)}; or give a Jinja file")
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}; give a chat template as UTF-8 text") from None
    return ReadyTemplate(text, special_tokens=tuple(dict.fromkeys(_MARKER.findall(text))))


def _with_end_of_turn(tokenizer: Tokenizer) -> Tokenizer:
    """With the role `eos_token` for what the template writes behind the assistant's words."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "?"}, {"role": "assistant", "content": _PROBE}]
    )
    behind = text[text.rfind(_PROBE) + len(_PROBE) :].encode()
    known = frozenset(tokenizer.special_tokens)
    found = any_of(known).search(behind) if known else None
    if found is None:
        raise UserError(
            "the chat template ends the assistant's turn with no special token, so that a model could not learn "
            f"to end; put {{{{ eos_token }}}} there, or choose one of {', '.join(READY_TEMPLATES)}"
        )
    usage = tokenizer.usage
    return tokenizer.with_usage(replace(usage, roles={**usage.roles, "eos_token": found[0].decode()}))
