"""Chat templates: a conversation as the text that a model was trained on, rendered as `transformers` does."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from groundup.errors import UserError, nearest

if TYPE_CHECKING:
    from jinja2 import Template

_REASONING = ("reasoning_content", "thinking", "reasoning")


def choose_template(templates: Mapping[str, str], name: str | None = None, tools: bool = False) -> str:
    """The template of that name; without one, `"tool_use"` if there are tools and it exists, else `"default"`.

    UserError if there is none.
    """
    if not templates:
        raise UserError("the tokenizer has no chat template; load one of a chat model, or give chat_template")
    if name is None:
        name = "tool_use" if tools and "tool_use" in templates else "default"
    if name not in templates:
        raise UserError(f"unknown chat template '{name}'{nearest(name, templates)}")
    return templates[name]


def apply_chat_template(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    roles: Mapping[str, str],
    add_generation_prompt: bool = False,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    documents: Sequence[Mapping[str, str]] | None = None,
    **variables: Any,
) -> str:
    """The text of a conversation, as `transformers` renders it.

    Args:
        template: in Jinja's language; it runs in a sandbox.
        messages: each with `role` and `content`, and what else the template reads; entries of None are left out.
        roles: special tokens by role, which the template reads as `bos_token`, `eos_token` and so on.
        add_generation_prompt: end with the header of the assistant's turn, for the model to continue.
        tools: functions that the model may call, as JSON schemas.
        documents: texts to answer from, each with `title` and `text`.
        variables: what else the template reads, such as Qwen3's `enable_thinking`; they go before `roles`.

    Raises UserError if the template is not Jinja, refuses the messages, or fails on them.
    """
    if not messages:
        raise UserError("the conversation is empty; give at least one message with role and content")
    for message in (*messages, *(tools or ()), *(documents or ())):
        if not isinstance(message, Mapping):
            raise UserError(f"{message!r:.80} is no mapping; give messages, tools and documents as dictionaries")
    values = _plain({**roles, **variables, "tools": tools, "documents": documents})
    conversation = [_with_reasoning(_plain(_without_none(message))) for message in messages]
    compiled = _compile(template)
    try:
        return compiled.render(messages=conversation, add_generation_prompt=add_generation_prompt, **values)
    except Exception as error:  # a template is a program: it can fail in any way
        raise UserError(f"the chat template refuses the conversation: {_one_line(error)}") from None


def _without_none(message: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if value is not None}


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """The message with its reasoning under the names that templates read."""
    reasoning = next((message[name] for name in _REASONING if message.get(name) is not None), None)
    if reasoning is None:
        return message
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}


def _plain(value: Any) -> Any:
    """The value made of JSON's types alone, because the sandbox does not know the methods of others."""
    result: Any = f"<{type(value).__name__}>"
    match value:
        case None | bool():
            result = value
        case str():
            result = str.__str__(value)
        case int():
            result = int.__int__(value)
        case float():
            result = float.__float__(value)
        case Mapping():
            result = {_plain(key): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            result = [_plain(inner) for inner in value]
    return result


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@lru_cache(maxsize=16)
def _compile(template: str) -> "Template":
    from jinja2 import TemplateSyntaxError

    try:
        return _environment().from_string(template)
    except TemplateSyntaxError as error:
        reason = f"line {error.lineno}: {_one_line(error)}"
        raise UserError(f"the chat template is not in Jinja's language, {reason}") from None


def _environment() -> Any:
    """Jinja's sandbox with what `transformers` gives templates; imported here, for it takes 50 ms."""
    from jinja2 import nodes
    from jinja2.exceptions import SecurityError, TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Generation(Extension):
        """`{% generation %}` marks what the assistant says; the text is as without it."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            # A scope of its own, as the call by which `transformers` finds the place of the assistant's words.
            return nodes.Scope(body, lineno=line)

    class PublicNamespace(Namespace):
        """A namespace without names such as `__class__`, which lead out of the sandbox."""

        def __init__(*arguments: Any, **attributes: Any) -> None:
            self, *mappings = arguments
            values = dict(*mappings, **attributes)
            for name in values:
                _refuse_private(name)
            Namespace.__init__(self, values)

        def __setitem__(self, name: str, value: Any) -> None:
            _refuse_private(name)
            super().__setitem__(name, value)

    def _refuse_private(name: str) -> None:
        if name.startswith("_"):
            raise SecurityError(f"a namespace's attribute is named {name!r}, with an underscore in front")

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "raise_exception": raise_exception,
        "strftime_now": _now,
        "namespace": PublicNamespace,
        "dict": _Dict(),
    }
    return environment


class _Dict:
    """What templates may do with `dict`: the type itself would lead out of the sandbox."""

    fromkeys = staticmethod(dict.fromkeys)

    def __call__(self, *arguments: Any, **items: Any) -> dict[Any, Any]:
        return dict(*arguments, **items)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter would escape HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _now(form: str) -> str:
    return datetime.now().strftime(form)
