"""Built distributions work without the repository: installed, and run in an empty directory."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
from collections.abc import Mapping, Sequence
from email import message_from_bytes
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import asyncpg
import pytest

import receiver
from tests.programs import require_program

ROOT = Path(__file__).parents[2]
CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text())
INCLUDED: dict[str, str] = CONFIGURATION["tool"]["hatch"]["build"]["targets"]["wheel"][
    "force-include"
]
"""Files and directories outside the package that the wheel includes, and their paths in it."""
OF_THE_SDIST = (
    "tests",
    "docs",
    "proto",
    "deploy",
    "SECURITY.md",
    "Dockerfile",
    "docker-compose*.yml",
)


class Built(NamedTuple):
    """The wheel and the source distribution."""

    wheel: Path
    sdist: Path


def run(
    command: Sequence[str | Path], cwd: Path, environment: Mapping[str, str] | None = None
) -> str:
    """Run a program that must succeed, without the settings and paths of this process."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RECEIVER_", "PYTHON"))
    }
    ended = subprocess.run(
        command,
        cwd=cwd,
        env={**own, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def build(project: Path, target: str, directory: Path) -> Path:
    """Build one distribution, without network access."""
    hatchling = [sys.executable, "-m", "hatchling", "build"]
    run([*hatchling, "--target", target, "--directory", directory], project)
    (built,) = directory.iterdir()
    return built


def tracked(*under: str) -> list[str]:
    """Return the tracked files of the repository, and untracked ones that are not ignored."""
    git = require_program("git")
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone of the repository")
    options = ["-z", "--cached", "--others", "--exclude-standard"]
    return run([git, "ls-files", *options, *under], ROOT).rstrip("\0").split("\0")


def contents(wheel: Path) -> dict[str, bytes]:
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    directory = tmp_path_factory.mktemp("dist")
    return Built(
        build(ROOT, "wheel", directory / "wheel"), build(ROOT, "sdist", directory / "sdist")
    )


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an environment that shares our dependencies; return its programs."""
    directory = tmp_path_factory.mktemp("installed")
    venv.create(directory, symlinks=True)
    programs = directory / "bin"
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        programs / "python",
        "--no-input",
        "-q",
    ]
    run([*pip, "install", "--no-deps", "--no-index", built.wheel], directory)
    (packages,) = directory.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return programs


def packaged() -> dict[str, str]:
    """Return each file that belongs in the wheel, and its name there."""
    names = {name: name for name in tracked("receiver")}
    for source, target in INCLUDED.items():
        names |= {name: f"{target}{name.removeprefix(source)}" for name in tracked(source)}
    return names


def test_the_wheel_has_every_file_that_the_package_is_made_of(built: Built) -> None:
    found = contents(built.wheel)
    names = packaged()
    assert {"receiver/py.typed", "prometheus.yml", *tracked("migrations")} <= names.keys()
    assert not [name for name, target in names.items() if target not in found]


def test_the_wheel_has_nothing_else(built: Built) -> None:
    others = contents(built.wheel).keys() - set(packaged().values())
    assert all(name.split("/")[0].endswith(".dist-info") for name in others), others


def test_the_sdist_builds_the_same_wheel(built: Built, tmp_path: Path) -> None:
    run([require_program("tar"), "-xzf", built.sdist], tmp_path)
    (project,) = tmp_path.iterdir()
    again = build(project, "wheel", tmp_path / "again")
    assert again.name == built.wheel.name
    assert contents(again) == contents(built.wheel)


def test_the_sdist_has_what_its_tests_and_documents_need(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert not [name for name in tracked(*OF_THE_SDIST) if name not in names]


def test_the_version_comes_from_one_place(built: Built, installed: Path, tmp_path: Path) -> None:
    (metadata,) = (
        text for name, text in contents(built.wheel).items() if name.endswith("/METADATA")
    )
    assert message_from_bytes(metadata)["Version"] == receiver.__version__
    assert run([installed / "receiver", "--version"], tmp_path) == (
        f"receiver {receiver.__version__}\n"
    )


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_every_supported_python_takes_the_wheel(built: Built, tmp_path: Path, version: str) -> None:
    """If installed: code without dependencies runs, and every module compiles."""
    python = shutil.which(f"python{version}")
    # It may be a shim for a version that is not installed.
    if python is None or subprocess.run([python, "-c", ""], check=False).returncode:
        pytest.skip(f"python{version} is not installed")
    run([python, "-m", "venv", "--without-pip", "alone"], tmp_path)
    there = tmp_path / "alone/bin/python"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", there, "--no-input", "-q"]
    run([*pip, "install", "--no-deps", "--no-index", built.wheel], tmp_path)
    assert run([there, "-c", "import receiver; print(receiver.__version__)"], tmp_path) == (
        f"{receiver.__version__}\n"
    )
    (package,) = (tmp_path / "alone").glob("lib/python*/site-packages/receiver")
    run([there, "-W", "error", "-m", "compileall", "-q", "-f", package], tmp_path)


def test_the_supported_pythons_are_those_that_are_tried(built: Built) -> None:
    (metadata,) = (
        text for name, text in contents(built.wheel).items() if name.endswith("/METADATA")
    )
    message = message_from_bytes(metadata)
    assert message["Requires-Python"] == ">=3.11"
    assert message["License"] is None


def test_what_runs_is_what_was_installed(installed: Path, tmp_path: Path) -> None:
    show = "import receiver; print(receiver.__file__)"
    place = run([installed / "python", "-c", show], tmp_path).strip()
    assert Path(place).is_relative_to(installed.parent)


async def test_it_migrates_a_database(
    installed: Path, empty_database_url: str, tmp_path: Path
) -> None:
    environment = {"RECEIVER_DATABASE_URL": empty_database_url}
    await asyncio.to_thread(run, [installed / "receiver", "migrate"], tmp_path, environment)
    connection = await asyncpg.connect(empty_database_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM error_codes") == 4
        assert await connection.fetchval("SELECT count(*) FROM app_status_now") == 0
    finally:
        await connection.close()


async def test_the_demo_runs(installed: Path, empty_database_url: str, tmp_path: Path) -> None:
    command: list[str | Path] = [
        installed / "receiver",
        "demo",
        "--listen",
        "127.0.0.1:0",
        "--sender",
        "builtin",
    ]
    shown = await asyncio.to_thread(
        run,
        [*command, "--duration", "3s", "--scrape-interval", "200ms"],
        tmp_path,
        {"RECEIVER_DATABASE_URL": empty_database_url},
    )
    assert "rows were written" in shown
