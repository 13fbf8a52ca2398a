import importlib.util
import itertools
import random
import subprocess
import sys

import pytest

from groundup.data.corpora import CORPORA, PYTHON_CORPUS_BYTES, default_corpus
from groundup.data.sources import fingerprint_sources
from groundup.errors import UserError

WIKIS = ["wiki-en", "wiki-fr", "wiki-es"]


@pytest.fixture
def no_wiki_package(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("ovos") else find(name))


def test_wiki_en_is_large_and_its_package_is_never_imported() -> None:
    script = """
import sys
from groundup.data.corpora import CORPORA
documents = list(CORPORA["wiki-en"].documents(None))
print(len(documents), sum(map(len, documents)))
print(documents[0].decode())
print([name for name in sys.modules if name.startswith(("ovos", "torch"))], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    figures, title, blank, extract, *_ = done.stdout.split("\n")
    documents, num_bytes = map(int, figures.split())
    assert documents > 10_000 and num_bytes > 4_500_000
    assert title and not blank and len(extract) > 40


@pytest.mark.parametrize("name", WIKIS)
def test_wikis_are_deterministic_and_without_duplicates(name: str) -> None:
    corpus = CORPORA[name]
    documents = list(corpus.documents(None))
    assert documents == list(corpus.documents(None))
    extracts = [document.split(b"\n\n", 1)[1] for document in documents]
    assert len(set(extracts)) == len(extracts) > 6000
    assert "CC BY-SA 4.0" in corpus.attribution and "\n" not in corpus.attribution


def test_shuffling_mixes_a_corpus_by_its_seed() -> None:
    in_order = list(CORPORA["wiki-es"].documents(None))
    shuffled = list(CORPORA["wiki-es"].documents(random.Random(3)))
    assert shuffled == list(CORPORA["wiki-es"].documents(random.Random(3))) != in_order
    assert abs(len(shuffled) - len(in_order)) < 5


def test_the_python_corpus_is_large_deterministic_and_capped() -> None:
    documents = list(CORPORA["python"].documents(None))
    assert 10_000_000 < sum(map(len, documents)) <= PYTHON_CORPUS_BYTES
    assert documents[:300] == list(itertools.islice(CORPORA["python"].documents(None), 300))
    assert len(set(documents)) > 1000
    assert any(b"def namedtuple(" in document for document in documents)
    assert any(document.startswith(b'The "assert" statement') for document in documents)
    assert not any(b"unittest.main()" in document[-40:] for document in documents[:400])


def test_every_corpus_has_a_fingerprint() -> None:
    prints = {fingerprint_sources([name]) for name in CORPORA}
    assert len(prints) == len(CORPORA) and None not in prints


def test_the_default_is_wiki_en_where_it_is_installed() -> None:
    assert default_corpus() == "wiki-en"


@pytest.mark.usefixtures("no_wiki_package")
def test_without_the_package_the_default_is_python_and_the_wikis_name_the_cure() -> None:
    assert default_corpus() == "python"
    with pytest.raises(UserError, match=r"pip install 'groundup\[corpora\]'"):
        list(CORPORA["wiki-en"].documents(None))
