"""References in the documents resolve, and the Korean documents match the English ones."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.unit.test_architecture import LEVELS

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", "tests/payloads/*.md")
    for path in ROOT.glob(pattern)
)
TRANSLATED = [ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")]
ENGLISH = sorted(path for path in TRANSLATED if not path.name.endswith(".ko.md"))
KOREAN = sorted(
    [
        ROOT / "README.ko.md",
        *(ROOT / "docs").glob("**/*.ko.*"),
        ROOT / "receiver/commands/report_text.py",
        ROOT / "receiver/web/texts.py",
    ]
)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^(#+) +(.*)$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")


class Block(NamedTuple):
    """A fenced block of code."""

    language: str
    lines: list[str]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """Return the document without its code blocks."""
    return FENCED.sub("", path.read_text())


def blocks(path: Path) -> list[Block]:
    """Return the code blocks of the document, without comments and without the text of diagrams."""
    return [
        Block(language, [] if language == "mermaid" else uncomment(text))
        for language, text in FENCED.findall(path.read_text())
    ]


def uncomment(text: str) -> list[str]:
    lines = [re.sub(r"\s*(#|--) .*", "", line) for line in text.splitlines()]
    return [line for line in lines if line]


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of the document."""
    seen: Counter[str] = Counter()
    found = set()
    for _, title in HEADING.findall(prose(path)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_test_that_is_named_exists(document: Path) -> None:
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", document.read_text()):
        assert re.search(rf"def {name}\(", (ROOT / path).read_text()), f"{path}::{name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_within_the_repository_leads_somewhere(document: Path) -> None:
    for target in LINK.findall(prose(document)):
        name, _, anchor = target.partition("#")
        linked = document.parent / name if name else document
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"no heading for {target}"


@pytest.mark.parametrize("document", ENGLISH, ids=name_of)
def test_every_document_is_there_in_korean_too(document: Path) -> None:
    korean = document.with_suffix(".ko.md")
    assert korean.exists(), f"{name_of(korean)} is missing"
    levels = [[level for level, _ in HEADING.findall(prose(path))] for path in (document, korean)]
    assert levels[0] == levels[1], "the headings differ"
    for english, translated in zip(blocks(document), blocks(korean), strict=True):
        assert english == translated


@pytest.mark.parametrize("document", ENGLISH, ids=name_of)
def test_both_languages_link_to_each_other(document: Path) -> None:
    korean = document.with_suffix(".ko.md")
    assert f"]({korean.name})" in document.read_text()
    assert f"]({document.name})" in korean.read_text()


@pytest.mark.parametrize("readme", ["README.md", "README.ko.md"])
def test_the_readmes_lead_to_every_document(readme: str) -> None:
    linked = set(LINK.findall((ROOT / readme).read_text()))
    suffix = ".ko.md" if ".ko." in readme else ".md"
    documents = {name_of(path.with_suffix(suffix)) for path in ENGLISH} - {readme}
    assert not documents - linked


@pytest.mark.parametrize("name", ["docs/architecture.md", "docs/architecture.ko.md"])
def test_the_map_shows_the_rooms_that_there_are(name: str) -> None:
    """Rooms are listed from the highest floor down, and the modules named for them exist."""
    shown = re.findall(
        r"^\| `(receiver[\w/.]*)` \| .+ \| (.*) ?\|$", (ROOT / name).read_text(), re.MULTILINE
    )
    places = [place for place, _ in shown]
    rooms = [place.removesuffix(".py").replace("/", ".") for place in places]
    assert set(rooms) == set(LEVELS) - {"receiver"}
    levels = [LEVELS[room] for room in rooms]
    assert levels == sorted(levels, reverse=True)
    for place, modules in shown:
        paths = [place, *(f"{place}/{module}" for module in re.findall(r"`(.+?)`", modules))]
        assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", KOREAN, ids=name_of)
def test_the_korean_terms_are_the_same_everywhere(document: Path) -> None:
    others = re.compile(
        "오류 코드|지표|시리즈|경보|발신자|송신자|인증 수단|자격 증명|세요|까닭|"
        "머신|상한|불완전한|미완성|근무 교대|교대 보고서|traceback|exemplar|stale marker"
    )
    assert others.findall(document.read_text()) == []
