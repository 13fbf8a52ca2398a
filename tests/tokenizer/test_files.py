import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

from groundup.errors import UserError
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.alphabet import to_characters
from groundup.tokenizer.pretokenize import PATTERNS

END = "<|endoftext|>"
SAMPLES = [
    "",
    "Hello, world!\n\n  It's 1234567 o'clock.",
    "def f(x):\n\treturn x  \n",
    "中文，标点。🙂 é",
    f"a{END}b {END}",
]


@pytest.mark.parametrize("pattern", [*PATTERNS, r"[a-z]+|\d"])
def test_saved_files_give_the_same_ids_everywhere(
    pattern: str, trained: Callable[[str], Tokenizer], texts: dict[str, str], tmp_path: Path
) -> None:
    tokenizer = trained(pattern)
    folder = tmp_path / "a" / "model"
    tokenizer.save(folder, model_max_length=1024)
    assert sorted(path.name for path in folder.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    assert Tokenizer.load(folder) == Tokenizer.load(folder / "tokenizer.json") == tokenizer
    peer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    auto = AutoTokenizer.from_pretrained(folder)
    assert len(auto) == peer.get_vocab_size() == tokenizer.vocabulary_size
    for text in (*SAMPLES, *(text[:30_000] for text in texts.values())):
        ids = tokenizer.encode(text, allowed_special="all")
        assert peer.encode(text).ids == ids
        assert auto(text)["input_ids"] == ids
        assert auto.decode(ids) == peer.decode(ids, skip_special_tokens=False) == text == tokenizer.decode(ids)


def test_the_configuration_names_what_transformers_needs(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["some text"], 300, special_tokens=("<|user|>", END))
    tokenizer.save(tmp_path, model_max_length=77)
    auto = AutoTokenizer.from_pretrained(tmp_path)
    assert (auto.eos_token_id, auto.bos_token_id) == (tokenizer.end_of_text, tokenizer.end_of_text)
    assert auto.model_max_length == 77
    assert auto.decode(auto("a , b .")["input_ids"]) == "a , b ."
    assert auto.decode(auto(f"<|user|>some{END}")["input_ids"], skip_special_tokens=True) == "some"
    tokenizer.save(tmp_path)
    assert "model_max_length" not in json.loads((tmp_path / "tokenizer_config.json").read_text())


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Tokenizer.train(["old"], 300).save(tmp_path)
    old = (tmp_path / "tokenizer.json").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        Tokenizer.train(["new text"], 300).save(tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 2


def peer_with(
    model: models.BPE, pre_tokenizer: Any, specials: list[str], normalizer: Any = None
) -> tokenizers.Tokenizer:
    peer = tokenizers.Tokenizer(model)
    peer.pre_tokenizer, peer.decoder = pre_tokenizer, decoders.ByteLevel()
    if normalizer:
        peer.normalizer = normalizer
    peer.add_special_tokens(specials)
    return peer


def split_form(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def gpt2_form(texts: dict[str, str]) -> tokenizers.Tokenizer:
    """Trained by `tokenizers` itself, with special tokens before the bytes."""
    peer = peer_with(models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False), [])
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=[END, "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    peer.train_from_iterator(texts.values(), trainer)
    assert peer.token_to_id(END) == 0
    return peer


def llama3_form(texts: dict[str, str]) -> tokenizers.Tokenizer:
    """Every way to split a token is a merge, tokens without any merge, and whole pieces first."""
    tokenizer = Tokenizer.train(texts.values(), 1000, special_tokens=())
    unreachable = [b" thou", "阿Ｑ".encode(), b"zqxj"]
    tokens = [tokenizer.token_bytes(number) for number in range(1000)]
    tokens += [token for token in unreachable if token not in tokens]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    merges = [
        (token[:cut], token[cut:])
        for token in tokens[256:1000]
        for cut in range(1, len(token))
        if token[:cut] in vocabulary and token[cut:] in vocabulary
    ]
    assert len(merges) > 744
    model = models.BPE(
        {to_characters(token): number for token, number in vocabulary.items()},
        [(to_characters(left), to_characters(right)) for left, right in merges],
        ignore_merges=True,
    )
    return peer_with(model, split_form(PATTERNS["cl100k"]), ["<|begin_of_text|>", "<|end_of_text|>"])


def qwen_form(texts: dict[str, str]) -> tokenizers.Tokenizer:
    """Composed text, digits one by one, and added tokens that are not special."""
    tokenizer = Tokenizer.train(texts.values(), 1000, pattern="qwen2", special_tokens=())
    model = models.BPE(
        {to_characters(tokenizer.token_bytes(number)): number for number in range(1000)},
        [(to_characters(left), to_characters(right)) for left, right in tokenizer.merges],
    )
    peer = peer_with(model, split_form(PATTERNS["qwen2"]), [END, "<|im_start|>"], normalizers.NFC())
    peer.add_tokens([AddedToken("<think>", normalized=False)])
    return peer


@pytest.mark.parametrize("form", [gpt2_form, llama3_form, qwen_form])
def test_files_of_others_give_their_ids(
    form: Callable[[dict[str, str]], tokenizers.Tokenizer],
    texts: dict[str, str],
    fragments: list[str],
    tmp_path: Path,
) -> None:
    peer = form(texts)
    peer.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.special_tokens == {
        token.content: number for number, token in peer.get_added_tokens_decoder().items()
    }
    assert tokenizer.vocabulary_size == peer.get_vocab_size()
    tokenizer.save(tmp_path / "again")
    again = tokenizers.Tokenizer.from_file(str(tmp_path / "again" / "tokenizer.json"))
    assert Tokenizer.load(tmp_path / "again") == tokenizer

    def same_ids(text: str) -> None:
        ids = tokenizer.encode(text, allowed_special="all")
        assert ids == peer.encode(text).ids
        assert ids == again.encode(text).ids

    for text in (*texts.values(), *SAMPLES, "thou wouldst zqxj 阿Ｑ", "e\u0301<think>o\u0308\u0323<|im_start|>"):
        same_ids(text)
    # Code points that Python's Unicode 14 does not have are left out: the engines differ on them.
    characters = st.characters(exclude_categories=["Cs", "Cn"])
    pieces = st.sampled_from([*fragments, *tokenizer.special_tokens]) | characters
    settings(max_examples=200, deadline=None)(given(st.lists(pieces).map("".join))(same_ids))()


def test_merges_written_as_strings_are_read(tmp_path: Path, trained: Callable[[str], Tokenizer]) -> None:
    tokenizer = trained("cl100k")
    tokenizer.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text("utf-8"))
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    del content["model"]["type"]  # as in GPT-2's first files
    file.write_text(json.dumps(content), "utf-8")
    assert Tokenizer.load(file) == tokenizer


def change(*path: str | int, to: Any) -> Callable[[Any], None]:
    def apply(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = to

    return apply


def remove(*path: str | int) -> Callable[[Any], None]:
    def apply(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return apply


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change("model", "type", to="WordPiece"), "its model is WordPiece"),
        (change("model", to={"type": "Unigram", "vocab": [["a", 0.0]]}), "its model is Unigram"),
        (change("model", to=[]), "list"),
        (remove("model"), "'model' is missing"),
        (remove("pre_tokenizer"), "'pre_tokenizer' is missing"),
        (change("pre_tokenizer", to=None), "NoneType"),
        (change("pre_tokenizer", to={"type": "Metaspace"}), "pre_tokenizer is neither"),
        (change("pre_tokenizer", "pretokenizers", 1, "add_prefix_space", to=True), "pre_tokenizer is neither"),
        (change("pre_tokenizer", "pretokenizers", 0, "behavior", to="Removed"), "pre_tokenizer is neither"),
        (change("pre_tokenizer", "pretokenizers", 0, "pattern", to={"Regex": "(a"}), "not a regular expression"),
        (change("normalizer", to={"type": "Lowercase"}), "normalizer is Lowercase"),
        (change("decoder", to={"type": "WordPiece"}), "decoder is WordPiece"),
        (change("model", "dropout", to=0.1), "dropout = 0.1"),
        (change("model", "end_of_word_suffix", to="</w>"), "end_of_word_suffix"),
        (change("model", "vocab", to={"a": 0}), "lacks 255 of the 256 bytes"),
        (change("model", "vocab", "a", to=0), "same id"),
        (change("model", "vocab", "a", to="0"), "not a number"),
        (change("model", "vocab", "中", to=5000), "byte alphabet"),
        (change("model", "merges", 0, to=["x", "q"]), "lacks a token of the merge"),
        (change("model", "merges", 0, to=["x"]), "unpack"),
        (change("added_tokens", 0, "lstrip", to=True), "sets lstrip"),
    ],
)
def test_what_is_not_byte_level_bpe_is_refused(
    spoil: Callable[[Any], None], message: str, tmp_path: Path, trained: Callable[[str], Tokenizer]
) -> None:
    trained("cl100k").save(tmp_path)
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text("utf-8"))
    spoil(content)
    file.write_text(json.dumps(content), "utf-8")
    with pytest.raises(UserError, match=message) as caught:
        Tokenizer.load(tmp_path)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"not JSON", b"\xff\xfe", b"", b"[]", b"null", b"{}"])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "tokenizer.json"):
        with pytest.raises(UserError, match=r"cannot read .*No such file"):
            Tokenizer.load(path)
