"""`receiver tables`: its output for declared tables, and what it can do without."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from receiver.commands import cli, running
from receiver.commands.tables import print_plan
from receiver.config.tables_reader import parse_catalogue
from tests.conftest import MakeSettings

ROOT = Path(__file__).parents[3]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
DATABASE = {"asyncpg"}


@pytest.fixture(autouse=True)
def alone(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing around the test changes settings, and the test does not change logging."""
    del make_settings
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "set_up_logging", lambda *_: None)


def run(*words: str) -> object:
    with pytest.raises(SystemExit) as ended:
        cli.main(("tables", *words))
    return ended.value.code


def examples(document: Path) -> list[str]:
    """Return the tables files shown in a document."""
    return [
        text
        for language, text in FENCED.findall(document.read_text())
        if language == "yaml" and text.startswith("tables:")
    ]


def test_every_tables_file_in_the_documents_is_valid() -> None:
    found = {document.name: examples(document) for document in DOCUMENTS}
    assert len(found["tables.md"]) == len(found["tables.ko.md"]) >= 4
    for texts in found.values():
        for text in texts:
            parse_catalogue(text)


@pytest.mark.parametrize("name", ["tables.md", "tables.ko.md"])
def test_the_documents_show_what_check_prints(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = ROOT / "docs" / name
    text, shown = examples(document)[0], document.read_text()
    (tmp_path / "tables.yaml").write_text(text)
    assert run("check", "tables.yaml") == 0
    printed = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert printed in shown
    wrong = text.replace("celsius, type: double", "celsius, type: float")
    (tmp_path / "tables.yaml").write_text(wrong)
    assert f"\n{run('check', 'tables.yaml')}\n" in shown


def test_what_check_prints_of_each_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tables.yaml"
    file.write_text("""\
tables:
  t:
    match: {job: a|b}
    ignoring: [le, sensor]
    labels: {"온도": {label: temperature, type: bigint}}
    columns:
      a: {metric: m, type: double, special: true}
      b: {metric: n, type: code, codes: states, required: false}
      c: {metric: o, type: timestamp, unit: milliseconds}
    retention: 30d
""")
    assert run("check", str(file)) == 0
    head, _, _, *rows = (line.strip() for line in capsys.readouterr().out.splitlines())
    assert head == (
        "t: one row for each timestamp and label set without le, sensor; series with job=~'a|b'; "
        "incomplete rows wait 2h; rows are deleted after 30d"
    )
    assert [re.split(r"\s{2,}", row) for row in rows] == [
        ["a", "double precision", "m, NaN and infinities included"],
        ["c", "timestamptz", "o, in milliseconds"],
        ["b", "integer", "n, explained by states, NULL without a sample"],
        ["온도", "bigint", "label temperature"],
    ]


def test_every_fault_is_a_line_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "tables.yaml"
    file.write_text("tables:\n  a: 1\n  b: 2\n")
    wanted = [
        f"receiver: {file} line {line}: table {name}: must be a mapping, with a line `name: …` for "
        "each entry"
        for line, name in ((2, "a"), (3, "b"))
    ]
    assert str(run("check", str(file))).splitlines() == wanted
    assert str(run("--tables-file", str(file))).splitlines() == wanted


def test_check_reads_the_file_that_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tables.yaml"
    file.write_text("tables: {t: {columns: {a: {metric: m, type: double}}}}")
    monkeypatch.setenv("RECEIVER_TABLES_FILE", "nowhere.yaml")
    assert run("check", str(file)) == 0
    assert capsys.readouterr().out.startswith("t: one row for each timestamp and label set\n")
    assert run() == "receiver: cannot read nowhere.yaml: No such file or directory"


def test_without_a_file_the_built_in_table_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--status-metric", "state", "--pair-timeout", "5m") == 0
    shown = capsys.readouterr().out
    assert "app_logs: one row for each timestamp and label set; incomplete rows wait 5m" in shown
    assert "state, explained by error_codes" in shown


def test_the_plan_is_sql_that_can_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(["-- a note", "CREATE TABLE a ()", "CREATE TABLE b ();\n"])
    assert capsys.readouterr() == ("-- a note\nCREATE TABLE a ();\nCREATE TABLE b ();\n", "")
    print_plan([])
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (
        "",
        "nothing to do: the database has all of these tables\n",
    )


@pytest.mark.parametrize("words", [["--help"], ["check", "--help"], []])
def test_no_database_driver_is_loaded(words: list[str], tmp_path: Path) -> None:
    script = f"""
import sys
from receiver.commands.cli import main
try:
    main(["tables", *{words!r}])
except SystemExit as ended:
    assert not ended.code, ended.code
found = {DATABASE!r} & sys.modules.keys()
sys.exit(f"loaded: {{found}}" if found else 0)
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_faulty_file_shows_before_a_database_is_started(command: str, tmp_path: Path) -> None:
    (tmp_path / "tables.yaml").write_text(
        "tables:\n  a:\n    columns: {b: {metric: c, type: float}}"
    )
    with pytest.raises(SystemExit) as ended:
        cli.main((command, "--tables-file", "tables.yaml", "--data-dir", "data"))
    assert "line 3: table a, column b: type=float" in str(ended.value.code)
    assert not (tmp_path / "data").exists()


def test_a_plan_of_a_wrong_file_starts_no_database(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("tables: {}")
    flags = ("--tables-file", "wrong.yaml", "--data-dir", str(tmp_path / "data"))
    assert run("plan", *flags) == "receiver: wrong.yaml line 1: tables: must not be empty"
    assert not (tmp_path / "data").exists()
