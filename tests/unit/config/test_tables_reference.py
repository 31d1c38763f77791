"""The reference and the schema of the tables file agree with its classes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from receiver.config import reference, tables_reference


@pytest.fixture
def documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make copies of the documents and of the Korean texts that tests may change."""
    for path in tables_reference.DOCS.glob("tables*"):
        shutil.copy(path, tmp_path)
    for name in ("DOCS", "KOREAN_TEXTS", "SCHEMA"):
        path = getattr(tables_reference, name)
        copied = tmp_path if name == "DOCS" else tmp_path / path.name
        monkeypatch.setattr(tables_reference, name, copied)
    return tmp_path


@pytest.mark.parametrize("name", ["tables.md", "tables.ko.md", "tables.schema.json"])
def test_a_stale_document_is_named_and_made_anew(
    name: str, documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = documents / name
    current = document.read_text()
    document.write_text(
        current.replace('"pair_timeout"', '"x"').replace("| `pair_timeout`", "| `x`")
    )
    monkeypatch.setattr("sys.argv", ["reference", "--check"])
    with pytest.raises(SystemExit, match=rf"^{name} is not current, run python -m receiver.conf"):
        reference.main()
    assert dict(tables_reference.documents())[document] == current


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_korean_text_is_complete(change: str, documents: Path) -> None:
    path = documents / "tables.ko.yaml"
    texts = yaml.safe_load(path.read_text())
    if change == "missing":
        del texts["keys"]["A table"]["match"]
    else:
        texts["keys"]["A table"]["matches"] = "…"
    path.write_text(yaml.safe_dump(texts, allow_unicode=True))
    with pytest.raises(SystemExit, match=r"^tables.ko.yaml: other keys than in the code: .*match"):
        list(tables_reference.documents())


def test_a_document_without_a_place_for_the_reference(documents: Path) -> None:
    (documents / "tables.md").write_text("# Your own metrics\n")
    with pytest.raises(SystemExit, match="lacks <!-- keys -->"):
        list(tables_reference.documents())


def test_every_key_has_a_text_in_both_languages() -> None:
    for language in tables_reference.languages():
        for title, entry in tables_reference.ENTRIES.items():
            assert language.titles[title]
            assert all(language.keys[title][key] for key in entry.model_fields)
