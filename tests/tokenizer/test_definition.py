from groundup.tokenizer.definition import Definition, Usage, end_of_text


def test_a_token_that_two_merges_make_has_one_id() -> None:
    merges = ((b"a", b"b"), (b"b", b"c"), (b"ab", b"c"), (b"a", b"bc"), (b"abc", b"d"))
    ids = Definition(pattern=".", merges=merges, special_tokens={}).ids
    assert [ids[token] for token in (b"ab", b"bc", b"abc", b"abcd")] == [256, 257, 258, 259]
    assert sorted(ids.values()) == list(range(260))


def test_the_end_of_text_has_several_names() -> None:
    assert end_of_text({"<s>": 0, "</s>": 1}) == "</s>"
    assert end_of_text({"</s>": 1, "<|end_of_text|>": 2, "<|endoftext|>": 3}) == "<|endoftext|>"
    assert end_of_text({"<|im_end|>": 0}) is None


def test_the_end_of_text_is_found_by_its_role() -> None:
    special = {"<｜end▁of▁sentence｜>": 1, "<|im_end|>": 2}
    assert end_of_text(special, {"eos_token": "<｜end▁of▁sentence｜>"}) == "<｜end▁of▁sentence｜>"
    assert end_of_text(special | {"<|endoftext|>": 3}, {"eos_token": "<|im_end|>"}) == "<|endoftext|>"
    assert end_of_text(special, {"eos_token": "</s>"}) is None


def test_usage_makes_no_difference_between_tokenizers() -> None:
    plain = Definition(pattern=".", merges=(), special_tokens={})
    chatty = Definition(pattern=".", merges=(), special_tokens={}, usage=Usage(chat_templates={"default": "x"}))
    assert chatty == plain
    assert (chatty.usage.chat_template, plain.usage.chat_template) == ("x", None)
    assert Definition(pattern=".", merges=(), special_tokens={}, further_patterns=("a",)) != plain
    assert Definition(pattern=".", merges=(), special_tokens={}, add_prefix_space=True) != plain
