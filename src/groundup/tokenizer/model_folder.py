"""What a model's folder says of its tokenizer beside tokenizer.json: special tokens' roles, and chat templates.

They stand in tokenizer_config.json and, since transformers 4.53, in chat_template.jinja and the folder
additional_chat_templates; older folders have all templates in tokenizer_config.json, and roles in
special_tokens_map.json.
"""

import json
import shutil
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from groundup.errors import UserError
from groundup.files import write_atomically, write_json
from groundup.tokenizer.definition import Usage

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_TEMPLATE, _MORE_TEMPLATES = "chat_template.jinja", "additional_chat_templates"


def read_json(file: Path) -> Any:
    """The content of a JSON file; UserError if it cannot be read or is not JSON."""
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}; give a tokenizer's file or folder") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON ({error}); give a tokenizer's file or folder") from None


def read_config(folder: Path, name: str = "tokenizer_config.json") -> dict[str, Any]:
    """The content of tokenizer_config.json or another JSON object; empty if there is none."""
    file = folder / name
    content = read_json(file) if file.exists() else {}
    if not isinstance(content, dict):
        raise UserError(f"{file} is no JSON object; give a tokenizer's folder as Hugging Face writes it")
    return content


def check_added_token(token: Mapping[str, Any]) -> None:
    """ValueError if a token that is added to the vocabulary is found otherwise than by its text alone."""
    for option in ("single_word", "lstrip", "rstrip"):
        if token.get(option):
            raise ValueError(f"its added token {token['content']!r} sets {option}")


def read_roles(folder: Path, special_tokens: Container[str]) -> dict[str, str]:
    """Special tokens by role; roles of tokens that the tokenizer does not have are left out."""
    entries = read_config(folder, "special_tokens_map.json") | read_config(folder)
    named = {role: entries[role] for role in ROLES if role in entries}
    roles = {role: token.get("content") if isinstance(token, dict) else token for role, token in named.items()}
    return {role: token for role, token in roles.items() if isinstance(token, str) and token in special_tokens}


def read_chat_templates(folder: Path) -> dict[str, str]:
    """Chat templates by name; a file of its own goes before the configuration, as in `transformers`."""
    files = {path.stem: path for path in (folder / _MORE_TEMPLATES).glob("*.jinja")}
    if (folder / _TEMPLATE).exists():
        files["default"] = folder / _TEMPLATE
    if files:
        return {name: _read_text(path) for name, path in files.items()}
    match read_config(folder).get("chat_template"):
        case None:
            return {}
        case str(template):
            return {"default": template}
        case list(entries):
            try:
                return {str(entry["name"]): str(entry["template"]) for entry in entries}
            except (KeyError, TypeError):
                pass
    raise UserError(f"{folder / 'tokenizer_config.json'} has a chat_template that is neither text nor named texts")


def _read_text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}; give a chat template as UTF-8 text") from None


def write_config(
    folder: Path,
    usage: Usage,
    *,
    add_prefix_space: bool | None = None,
    model_max_length: int | None = None,
) -> None:
    """Write tokenizer_config.json and the chat templates, and remove templates that stood there before."""
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    config |= usage.roles
    if add_prefix_space is not None:
        config["add_prefix_space"] = add_prefix_space
    if model_max_length is not None:
        config["model_max_length"] = model_max_length
    write_json(folder / "tokenizer_config.json", config)
    _write_chat_templates(folder, usage.chat_templates)


def _write_chat_templates(folder: Path, templates: Mapping[str, str]) -> None:
    (folder / _TEMPLATE).unlink(missing_ok=True)
    shutil.rmtree(folder / _MORE_TEMPLATES, ignore_errors=True)
    for name, template in templates.items():
        if name == "default":
            write_atomically(folder / _TEMPLATE, template)
        elif not name or name != Path(name).name or name.startswith("."):
            raise UserError(f"chat template {name!r} cannot be a file's name; give it a plain name")
        else:
            (folder / _MORE_TEMPLATES).mkdir(exist_ok=True)
            write_atomically(folder / _MORE_TEMPLATES / f"{name}.jinja", template)
