"""The handbook: quoted code stands in its file, both languages say the same, links lead somewhere."""

import json
import re
from pathlib import Path
from textwrap import dedent

import pytest

from groundup.recipe import ParallelRecipe

ROOT = Path(__file__).parent.parent
ENGLISH, CHINESE = ROOT / "docs" / "en", ROOT / "docs" / "zh"
PAGES = sorted(page.relative_to(ENGLISH) for page in ENGLISH.rglob("*.md"))
ALL = [ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "docs").rglob("*.md"))]
TECHNIQUES = [page for page in PAGES if page.parent.name == "parallel" and page.stem != "index"]

_QUOTE = re.compile(r"^`(src/[\w/]+\.py)`:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def quotes(page: Path) -> list[tuple[str, str]]:
    """File and lines of each block of a page that says which file it quotes."""
    return _QUOTE.findall(page.read_text("utf-8"))


def prose(page: Path) -> str:
    return _FENCED.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """What GitHub calls a page's headings."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return set(found)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT) if page.is_absolute() else page)


@pytest.mark.parametrize("page", TECHNIQUES, ids=name)
def test_quoted_code_stands_in_its_file(page: Path) -> None:
    """Line by line, but for an indentation that all have in common."""
    assert quotes(ENGLISH / page) == quotes(CHINESE / page) != []
    for file, code in quotes(ENGLISH / page):
        lines, size = (ROOT / file).read_text("utf-8").splitlines(), len(code.splitlines())
        stretches = (dedent("\n".join(lines[first : first + size])) for first in range(len(lines)))
        assert code.rstrip("\n") in stretches, f"{file} does not have these lines any more:\n{code}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_both_languages_have_the_same_parts(page: Path) -> None:
    english, chinese = prose(ENGLISH / page), prose(CHINESE / page)
    for part in (r"^(#+) ", r"^(\|)", r"^(- |\d+\. )", r"^(!)\["):
        assert re.findall(part, english, re.MULTILINE) == re.findall(part, chinese, re.MULTILINE)
    assert len(_FENCED.findall((ENGLISH / page).read_text("utf-8"))) == len(
        _FENCED.findall((CHINESE / page).read_text("utf-8"))
    )


@pytest.mark.parametrize("page", ALL, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page}: {link}"


@pytest.mark.parametrize("language", [ENGLISH, CHINESE], ids=name)
def test_every_parallel_field_has_its_row(language: Path) -> None:
    page = (language / "parallel" / "index.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `parallel\.(\w+)` \| `(.*?)` \|", page, re.MULTILINE))
    assert rows == {field: json.dumps(value) for field, value in ParallelRecipe().model_dump().items()}
