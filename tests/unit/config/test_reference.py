"""The configuration reference agrees with the settings class, in both languages."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from receiver.config import reference, tables_reference
from receiver.config.settings import Settings


@pytest.fixture
def documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make copies of the documents and of the Korean texts that tests may change."""
    for path in reference.DOCS.glob("configuration*"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(reference, "DOCS", tmp_path)
    monkeypatch.setattr(tables_reference, "documents", lambda: iter(()))
    monkeypatch.setattr(reference, "KOREAN_TEXTS", tmp_path / reference.KOREAN_TEXTS.name)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    monkeypatch.setattr("sys.argv", ["reference", *flags])
    reference.main()


def test_the_committed_documents_are_current(monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "--check")


@pytest.mark.parametrize("name", ["configuration.md", "configuration.ko.md"])
def test_a_stale_document_is_named_and_made_anew(
    name: str, documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = documents / name
    current = document.read_text()
    document.write_text(current.replace("| `RECEIVER_LISTEN` |", "| `RECEIVER_LISTENS` |"))
    with pytest.raises(SystemExit, match=rf"^{name} is not current, run python -m receiver.config"):
        run(monkeypatch, "--check")
    run(monkeypatch)
    assert document.read_text() == current


def test_every_setting_is_in_both_documents() -> None:
    for language in reference.languages():
        text = language.document.read_text()
        for name in Settings.model_fields:
            assert text.count(f"| `RECEIVER_{name.upper()}` |") == 1


@pytest.mark.parametrize(
    ("kind", "name", "fault"),
    [
        ("settings", "listen", r"settings without Korean text: \['listen'\]"),
        ("sections", "Limits", r"sections without Korean text: \['Limits'\]"),
        ("settings", "nothing", r"there are no such settings: \['nothing'\]"),
    ],
)
def test_korean_text_is_complete(
    kind: str, name: str, fault: str, documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = documents / "configuration.ko.yaml"
    texts = yaml.safe_load(path.read_text())
    if texts[kind].pop(name, None) is None:
        texts[kind][name] = "…"
    path.write_text(yaml.safe_dump(texts, allow_unicode=True))
    with pytest.raises(SystemExit, match=rf"^configuration.ko.yaml: {fault}$"):
        run(monkeypatch, "--check")


def test_a_document_without_a_place_for_the_tables(
    documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (documents / "configuration.md").write_text("# Configuration\n")
    with pytest.raises(SystemExit, match="lacks <!-- settings -->"):
        run(monkeypatch)
