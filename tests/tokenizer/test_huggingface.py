import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

from groundup.errors import UserError
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.alphabet import to_characters
from groundup.tokenizer.definition import Definition
from groundup.tokenizer.huggingface import write_folder
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
    peer = peer_with(model, split_form(PATTERNS["cl100k"]), ["<|begin_of_text|>", "<|end_of_text|>"])
    begin = "<|begin_of_text|>"
    peer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(f"{begin} $A", special_tokens=[(begin, peer.token_to_id(begin))]),
        ]
    )
    return peer


def qwen_form(texts: dict[str, str]) -> tokenizers.Tokenizer:
    """Composed text, digits one by one, and added tokens that are not special."""
    peer = with_merges_of(texts, split_form(PATTERNS["qwen2"]), [END, "<|im_start|>"])
    peer.normalizer = normalizers.NFC()
    peer.add_tokens([AddedToken("<think>", normalized=False)])
    return peer


def with_merges_of(texts: dict[str, str], pre_tokenizer: Any, specials: list[str]) -> tokenizers.Tokenizer:
    """Any merges will do where only the cutting is in question."""
    tokenizer = Tokenizer.train(texts.values(), 1000, special_tokens=())
    model = models.BPE(
        {to_characters(tokenizer.token_bytes(number)): number for number in range(1000)},
        [(to_characters(left), to_characters(right)) for left, right in tokenizer.merges],
    )
    return peer_with(model, pre_tokenizer, specials)


def splits(*patterns: str | Regex) -> list[pre_tokenizers.PreTokenizer]:
    return [pre_tokenizers.Split(pattern, "isolated") for pattern in patterns]


def byte_level(**options: bool) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False, **options})


def deepseek_form(texts: dict[str, str]) -> tokenizers.Tokenizer:
    """Three splits in turn, an empty normalizer, special tokens beyond ASCII, a decoder in a sequence."""
    words = (
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    cuts = splits(Regex(r"\p{N}{1,3}"), Regex("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"), Regex(words))
    sequence = pre_tokenizers.Sequence([*cuts, byte_level(use_regex=False)])
    peer = with_merges_of(texts, sequence, ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"])
    peer.normalizer, peer.decoder = normalizers.Sequence([]), decoders.Sequence([decoders.ByteLevel()])
    return peer


def starcoder_form(texts: dict[str, str]) -> tokenizers.Tokenizer:
    """Digits one by one, then GPT-2's own pattern."""
    sequence = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()])
    return with_merges_of(texts, sequence, [END])


def nested_form(texts: dict[str, str]) -> tokenizers.Tokenizer:
    """Runs of digits, strings instead of expressions, a sequence in a sequence, NFC in a sequence."""
    inner = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False), *splits(".", "the")])
    peer = with_merges_of(texts, pre_tokenizers.Sequence([inner, byte_level()]), [END])
    peer.normalizer = normalizers.Sequence([normalizers.NFC()])
    return peer


def inverted_form(texts: dict[str, str]) -> tokenizers.Tokenizer:
    """Matches are kept and all else removed, as in older conversions of OpenAI's vocabularies."""
    cut = pre_tokenizers.Split(Regex(PATTERNS["cl100k"]), "removed", invert=True)
    return with_merges_of(texts, pre_tokenizers.Sequence([cut, byte_level(use_regex=False)]), [END])


def prefixed_form(texts: dict[str, str]) -> tokenizers.Tokenizer:
    return with_merges_of(texts, byte_level(add_prefix_space=True), [END, "<|pad|>"])


def uncut_form(texts: dict[str, str]) -> tokenizers.Tokenizer:
    return with_merges_of(texts, byte_level(use_regex=False), [END])


FORMS = [
    gpt2_form,
    llama3_form,
    qwen_form,
    deepseek_form,
    starcoder_form,
    nested_form,
    inverted_form,
    prefixed_form,
    uncut_form,
]


@pytest.mark.parametrize("form", FORMS)
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
        assert ids == peer.encode(text, add_special_tokens=False).ids
        assert ids == again.encode(text, add_special_tokens=False).ids
        assert again.encode(text).ids == peer.encode(text).ids
        assert tokenizer.decode(ids) == peer.decode(ids, skip_special_tokens=False)

    for text in (
        *(text[:30_000] for text in texts.values()),
        *SAMPLES,
        "thou wouldst zqxj 阿Ｑ",
        "e\u0301<think>o\u0308\u0323<|im_start|>",
    ):
        same_ids(text)
    # Code points that Python's Unicode 14 does not have are left out: the engines differ on them.
    characters = st.characters(exclude_categories=["Cs", "Cn"])
    pieces = st.sampled_from([*fragments, *tokenizer.special_tokens]) | characters
    settings(max_examples=80, deadline=None)(given(st.lists(pieces).map("".join))(same_ids))()


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
        (change("pre_tokenizer", to={"type": "Metaspace"}), "does not end with ByteLevel"),
        (change("pre_tokenizer", to={"type": "Sequence", "pretokenizers": []}), "does not end with ByteLevel"),
        (
            change("pre_tokenizer", "pretokenizers", 1, "add_prefix_space", to=True),
            "add_prefix_space after a split",
        ),
        (change("pre_tokenizer", "pretokenizers", 0, "behavior", to="Removed"), "behavior Removed, invert false"),
        (change("pre_tokenizer", "pretokenizers", 0, to={"type": "Punctuation"}), "has Punctuation before"),
        (change("pre_tokenizer", "pretokenizers", 0, to={"type": "ByteLevel"}), "has ByteLevel before"),
        (change("pre_tokenizer", "pretokenizers", 0, "pattern", to={"Regex": "^a"}), "has \\^ at character 0"),
        (change("pre_tokenizer", "pretokenizers", 0, "pattern", to={"Regex": "(a"}), "not a regular expression"),
        (change("normalizer", to={"type": "Lowercase"}), "normalizer is Lowercase"),
        (change("decoder", to={"type": "WordPiece"}), "decoder is WordPiece"),
        (change("model", "dropout", to=0.1), "dropout = 0.1"),
        (change("model", "end_of_word_suffix", to="</w>"), "end_of_word_suffix"),
        (change("model", "vocab", to={"a": 0}), "lacks 'Ġ', which it merges"),
        (change("model", to={"type": "BPE", "vocab": {"a": 0}, "merges": []}), "lacks 255 of the 256 bytes"),
        (change("model", "vocab", "a", to=0), "same id"),
        (change("model", "vocab", "a", to="0"), "not a number"),
        (change("model", "vocab", "中", to=5000), "byte alphabet"),
        (change("model", "merges", 0, to=["x", "q"]), "lacks a token of the merge"),
        (change("model", "merges", 0, to=["x"]), "unpack"),
        (change("added_tokens", 0, "lstrip", to=True), "sets lstrip"),
        (change("added_tokens", 0, "id", to=7), "has two ids, 7 and 1998"),
        (change("decoder", to={"type": "Sequence", "decoders": []}), "its decoder is"),
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


def test_tokens_that_are_not_special_stay_so(texts: dict[str, str], tmp_path: Path) -> None:
    qwen_form(texts).save(str(tmp_path / "tokenizer.json"))
    Tokenizer.load(tmp_path).save(tmp_path / "again")
    auto = AutoTokenizer.from_pretrained(tmp_path / "again")
    ids = auto(f"<think>a{END}")["input_ids"]
    assert auto.decode(ids, skip_special_tokens=True) == "<think>a"


def test_a_token_that_would_be_composed_is_refused(texts: dict[str, str], tmp_path: Path) -> None:
    peer = qwen_form(texts)
    peer.add_tokens([AddedToken("<e\u0301>", normalized=True)])
    peer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="normalized to another text"):
        Tokenizer.load(tmp_path)


def test_many_added_tokens_are_read_and_written(texts: dict[str, str], tmp_path: Path) -> None:
    names = [f"<|reserved_{number}|>" for number in range(65_000)]
    peer = with_merges_of(texts, split_form(PATTERNS["cl100k"]), names)
    peer.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.special_tokens == {name: 1000 + number for number, name in enumerate(names)}
    tokenizer.save(tmp_path / "again")
    assert Tokenizer.load(tmp_path / "again") == tokenizer


def test_a_space_in_front_is_saved_only_where_hugging_face_knows_it(tmp_path: Path) -> None:
    definition = Definition(pattern=PATTERNS["cl100k"], merges=(), special_tokens={}, add_prefix_space=True)
    with pytest.raises(UserError, match="only with the pattern gpt2"):
        write_folder(tmp_path / "new", definition)
    assert not (tmp_path / "new").exists()


def test_transformers_puts_the_space_in_front_too(texts: dict[str, str], tmp_path: Path) -> None:
    prefixed_form(texts).save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path)
    tokenizer.save(tmp_path / "again")
    auto = AutoTokenizer.from_pretrained(tmp_path / "again")
    for text in (*SAMPLES, " one", "two"):
        assert auto(text)["input_ids"] == tokenizer.encode(text, allowed_special="all")
