"""WordPiece and Unigram as the package `tokenizers` trains them: what stands around the model in each case."""

import importlib
import json
from collections.abc import Container, Sequence
from typing import Any, Literal

from groundup.errors import UserError, nearest
from groundup.tokenizer.alphabet import BYTES_IN_ORDER, to_characters

_NEVER_CHOSEN = -1e6  # the logarithm of a probability
Algorithm = Literal["wordpiece", "unigram", "unigram-bytes"]
SPECIAL_TOKENS = {
    "wordpiece": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "unigram": ("<pad>", "</s>", "<unk>", "<mask>"),
    "unigram-bytes": ("<pad>", "</s>", "<unk>", "<mask>"),
}
"""The special tokens of BERT, and of T5 with a mask, as `train` gives them by default."""

ROLES = {
    "[PAD]": "pad_token",
    "[UNK]": "unk_token",
    "[CLS]": "cls_token",
    "[SEP]": "sep_token",
    "[MASK]": "mask_token",
    "<pad>": "pad_token",
    "<unk>": "unk_token",
    "<s>": "bos_token",
    "</s>": "eos_token",
    "<mask>": "mask_token",
}
"""What special tokens of these names are for."""


def library() -> Any:
    """The package `tokenizers`; UserError if it is not installed."""
    try:
        return importlib.import_module("tokenizers")
    except ImportError:
        raise UserError(
            "WordPiece and Unigram need the package tokenizers: pip install 'groundup[tokenizers]'"
        ) from None


def read_library(content: str) -> Any:
    """The `tokenizers.Tokenizer` of a tokenizer.json, giving all ids of a text; ValueError if it is none."""
    package = library()
    try:
        tokenizer = package.Tokenizer.from_str(content)
    except Exception as error:  # the package raises no narrower class
        raise ValueError(" ".join(str(error).split())) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def never_choosing(content: str, tokens: Container[str]) -> str:
    """The tokenizer.json with Unigram's scores so low that it takes no text for one of the tokens."""
    changed = json.loads(content)
    if changed["model"]["type"] == "Unigram":
        changed["model"]["vocab"] = [
            [token, _NEVER_CHOSEN if token in tokens else score] for token, score in changed["model"]["vocab"]
        ]
    return json.dumps(changed)


def untrained(algorithm: str, special_tokens: Sequence[str], lowercase: bool) -> Any:
    """A `tokenizers.Tokenizer` without a vocabulary.

    "wordpiece" is BERT's (Devlin et al. 2018): words and punctuation, `##` before what continues a word. "unigram"
    (Kudo 2018) is SentencePiece's form: NFKC, and spaces shown as "▁". "unigram-bytes" cuts as GPT-2 does and
    works on bytes: nothing is unknown and every text comes back.
    """
    if algorithm not in SPECIAL_TOKENS:
        raise UserError(f"unknown algorithm '{algorithm}'{nearest(algorithm, SPECIAL_TOKENS)}")
    if (unknown := _unknown(algorithm)) not in special_tokens:
        raise UserError(f"{algorithm} needs the special token '{unknown}'; add it to special_tokens")
    package = library()
    if algorithm == "wordpiece":
        tokenizer = package.Tokenizer(package.models.WordPiece(unk_token=unknown))
        tokenizer.normalizer = package.normalizers.BertNormalizer(lowercase=lowercase)
        tokenizer.pre_tokenizer = package.pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = package.decoders.WordPiece()
        return tokenizer
    tokenizer = package.Tokenizer(package.models.Unigram())
    if algorithm == "unigram":
        normalizers = package.normalizers
        steps = [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(package.Regex(" {2,}"), " ")]
        tokenizer.normalizer = normalizers.Sequence(steps + [normalizers.Lowercase()] * lowercase)
        tokenizer.pre_tokenizer = package.pre_tokenizers.Metaspace()
        tokenizer.decoder = package.decoders.Metaspace()
    else:
        tokenizer.normalizer = package.normalizers.Lowercase() if lowercase else None
        tokenizer.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = package.decoders.ByteLevel()
    return tokenizer


def trainer(algorithm: str, vocabulary_size: int, special_tokens: Sequence[str], min_frequency: int) -> Any:
    """The package's trainer of an algorithm."""
    trainers = library().trainers
    options = {"vocab_size": vocabulary_size, "special_tokens": list(special_tokens), "show_progress": False}
    if algorithm == "wordpiece":
        return trainers.WordPieceTrainer(min_frequency=min_frequency, **options)
    if min_frequency:
        raise UserError(f"min_frequency {min_frequency} is for wordpiece; leave it out for {algorithm}")
    if algorithm == "unigram-bytes":
        options["initial_alphabet"] = [to_characters(bytes([byte])) for byte in BYTES_IN_ORDER]
    return trainers.UnigramTrainer(unk_token=_unknown(algorithm), **options)


def _unknown(algorithm: str) -> str:
    return "[UNK]" if algorithm == "wordpiece" else "<unk>"


def surround(tokenizer: Any) -> None:
    """Let `transformers` put around a text what BERT (`[CLS]`, `[SEP]`) and T5 (`</s>`) have there."""
    ids = {token: tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]", "</s>")}
    form = "[CLS] $A [SEP]" if ids["[CLS]"] is not None and ids["[SEP]"] is not None else "$A </s>"
    used = [(token, number) for token, number in ids.items() if token in form.split()]
    if all(number is not None for _, number in used):
        pair = "[CLS] $A [SEP] $B:1 [SEP]:1" if "[CLS]" in form else "$A </s> $B </s>"
        tokenizer.post_processor = library().processors.TemplateProcessing(
            single=form, pair=pair, special_tokens=used
        )


def cuts_at_spaces(content: str) -> bool:
    """Whether a saved tokenizer gives the same ids if a text is cut before a space between letters."""
    saved = json.loads(content)
    if saved["pre_tokenizer"] == {"type": "BertPreTokenizer"}:
        return saved["normalizer"] is None or saved["normalizer"]["type"] == "BertNormalizer"
    for algorithm in ("unigram", "unigram-bytes"):
        for lowercase in (False, True):
            ours = json.loads(untrained(algorithm, SPECIAL_TOKENS[algorithm], lowercase).to_str())
            if all(ours[part] == saved[part] for part in ("normalizer", "pre_tokenizer")):
                return True
    return False
