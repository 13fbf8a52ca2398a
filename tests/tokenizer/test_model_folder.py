import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from groundup.errors import UserError
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.definition import Definition, Usage
from groundup.tokenizer.huggingface import read_file, write_folder
from groundup.tokenizer.model_folder import read_chat_templates, read_roles

TEMPLATES = {"default": "A {{ messages }}\n", "tool_use": "B {{ tools }} é"}
MERGES = ((b"a", b"b"), (b"ab", b"c"))
SPECIAL = {"<s>": 258, "</s>": 259, "<pad>": 260}


def definition_with(usage: Usage) -> Definition:
    return Definition(pattern=r"[\s\S]+", merges=MERGES, special_tokens=SPECIAL, usage=usage)


@pytest.fixture
def saved_by_transformers(tmp_path: Path) -> Path:
    """A folder as `transformers` saves it: two templates, three roles."""
    write_folder(tmp_path / "plain", definition_with(Usage()))
    peer = PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "plain" / "tokenizer.json"),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
    )
    peer.chat_template = TEMPLATES
    peer.save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


def test_what_transformers_saves_is_read_and_written_back(saved_by_transformers: Path, tmp_path: Path) -> None:
    definition = read_file(saved_by_transformers / "tokenizer.json")
    assert definition.usage.roles == {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    assert definition.usage.chat_templates == TEMPLATES
    write_folder(tmp_path / "ours", definition)
    assert read_file(tmp_path / "ours" / "tokenizer.json").usage == definition.usage
    auto = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert auto.chat_template == TEMPLATES
    assert (auto.bos_token, auto.eos_token, auto.pad_token) == ("<s>", "</s>", "<pad>")
    assert len(auto) == 261


def test_one_template_stands_where_transformers_puts_it(tmp_path: Path) -> None:
    write_folder(tmp_path, definition_with(Usage(chat_templates={"default": TEMPLATES["default"]})))
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template == TEMPLATES["default"]
    AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path / "theirs")
    theirs = (tmp_path / "theirs" / "chat_template.jinja").read_bytes()
    assert (tmp_path / "chat_template.jinja").read_bytes() == theirs


@pytest.mark.parametrize(
    ("entry", "templates"),
    [
        ("A", {"default": "A"}),
        ([{"name": "default", "template": "A"}, {"name": "rag", "template": "B"}], {"default": "A", "rag": "B"}),
        (None, {}),
    ],
)
def test_older_folders_have_templates_in_the_configuration(
    entry: object, templates: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": entry}))
    assert read_chat_templates(tmp_path) == templates
    (tmp_path / "chat_template.jinja").write_text("new")
    assert read_chat_templates(tmp_path) == {"default": "new"}


def test_older_folders_have_roles_in_a_file_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "special_tokens_map.json").write_text(
        json.dumps({"eos_token": {"content": "</s>"}, "unk_token": "<unk>", "additional_special_tokens": ["<s>"]})
    )
    assert read_roles(tmp_path, SPECIAL) == {"eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<s>", "pad_token": None}))
    assert read_roles(tmp_path, SPECIAL) == {"eos_token": "<s>"}


def test_templates_that_stood_there_before_are_gone(tmp_path: Path) -> None:
    write_folder(tmp_path, definition_with(Usage(chat_templates=TEMPLATES)))
    write_folder(tmp_path, definition_with(Usage()))
    assert read_chat_templates(tmp_path) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]


@pytest.mark.parametrize("name", ["../x", "a/b", ".x", ""])
def test_a_templates_name_leads_nowhere_else(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be a file's name"):
        write_folder(tmp_path / "a", definition_with(Usage(chat_templates={name: "x"})))
    assert not list(tmp_path.rglob("*.jinja"))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer_config.json", b'{"chat_template": 1}', "neither text nor named texts"),
        ("tokenizer_config.json", b'{"chat_template": [{"name": "x"}]}', "neither text nor named texts"),
        ("tokenizer_config.json", b"[]", "no JSON object"),
        ("tokenizer_config.json", b"x", "is not JSON"),
        ("special_tokens_map.json", b"[]", "no JSON object"),
        ("chat_template.jinja", b"\xff", "give a chat template as UTF-8"),
    ],
)
def test_spoilt_files_are_named(file: str, content: bytes, message: str, tmp_path: Path) -> None:
    Tokenizer.train(["x"], 300).save(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        Tokenizer.load(tmp_path)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)
