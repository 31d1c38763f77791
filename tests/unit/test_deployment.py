from __future__ import annotations

import copy
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from receiver.cli import COMMANDS
from receiver.demo import application
from receiver.settings import Settings
from receiver.write import WRITE_PATH
from tests.programs import require_program

ROOT = Path(__file__).parents[2]
WEB = ROOT / "receiver" / "web"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SECRET = "./secrets/database_password"  # the user makes it; it must never be in the repository
WHERE = """
from receiver.demo.sender import configuration_file
from receiver.storage.migrations import migrations_directory
print(configuration_file(), migrations_directory())
"""
DEFAULT_LISTEN = Settings.model_fields["listen"].default


def read_yaml(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return content


def instructions(name: str) -> list[str]:
    """The arguments of each such instruction of the Dockerfile."""
    joined = re.sub(r"\\\n\s*", " ", DOCKERFILE)
    return re.findall(rf"^{name}\s+(.*)$", joined, re.MULTILINE)


def copied_sources() -> list[str]:
    """What the image takes from the repository."""
    words = [shlex.split(line) for line in instructions("COPY") if "--from=" not in line]
    return [source for *sources, _ in words for source in sources]


def compose_sources() -> list[str]:
    """What the stack takes from the repository, but for the secret."""
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    mounted = [mount.split(":")[0] for mount in mounts]
    named = set(COMPOSE["volumes"])
    return [source for source in mounted if source not in named]


def dockerfile_environment() -> dict[str, str]:
    words = [word for line in instructions("ENV") for word in shlex.split(line)]
    return dict(word.split("=", 1) for word in words)


def settings_named() -> list[tuple[str, str]]:
    """Every RECEIVER_ variable, and the file that names it."""
    return [
        (name, variable)
        for name in ("Dockerfile", "docker-compose.yml", ".env.example", ".dockerignore")
        for variable in re.findall(r"\bRECEIVER_[A-Z_]+", (ROOT / name).read_text())
    ]


def walk(value: object) -> list[str]:
    """Every text in a structure."""
    if isinstance(value, dict):
        return [text for item in value.items() for text in walk(item)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in walk(item)]
    return [str(value)]


@pytest.mark.parametrize("source", [*copied_sources(), *compose_sources()])
def test_what_is_named_is_there(source: str) -> None:
    assert (ROOT / source).exists()


def test_the_image_is_built_from_files_that_dockerignore_lets_through() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert {line[1:] for line in lines if line.startswith("!")} == set(copied_sources())


def test_the_wheel_holds_what_runs_outside_the_repository(tmp_path: Path) -> None:
    for source in (*copied_sources(), "receiver"):
        path = ROOT / source
        if path.is_dir():
            shutil.copytree(path, tmp_path / source, dirs_exist_ok=True)
        elif path.exists():
            shutil.copyfile(path, tmp_path / source)
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", "out"]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "out").glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "installed", "zip")
    found = subprocess.run(
        [sys.executable, "-c", WHERE],
        cwd=tmp_path / "installed",
        env={"PYTHONPATH": str(tmp_path / "installed")},
        check=True,
        capture_output=True,
        text=True,
    )
    package = tmp_path / "installed" / "receiver"
    assert found.stdout.split() == [str(package / "prometheus.yml"), str(package / "migrations")]
    rules = {path.name for path in (ROOT / "deploy/prometheus/rules").iterdir()}
    assert {path.name for path in (package / "rules").iterdir()} == rules
    pages = [path for kind in ("templates", "static") for path in WEB.glob(f"{kind}/*")]
    assert len(pages) > 5
    assert all((package / "web" / path.relative_to(WEB)).exists() for path in pages)


@pytest.mark.parametrize(("file", "variable"), settings_named())
def test_variables_are_settings(file: str, variable: str) -> None:
    assert variable.removeprefix("RECEIVER_").lower() in Settings.model_fields, file


@pytest.mark.usefixtures("make_settings")
def test_the_example_shows_the_defaults() -> None:
    lines = re.findall(
        r"^# RECEIVER_(\w+)=(.+)$", (ROOT / ".env.example").read_text(), re.MULTILINE
    )
    shown = {name.lower(): value for name, value in lines if name != "DATABASE_URL"}
    assert len(shown) > 10
    assert Settings(**shown).model_dump() == Settings().model_dump()


def test_the_image_runs_the_receiver_and_not_as_root() -> None:
    assert json.loads(instructions("ENTRYPOINT")[0]) == ["receiver"]
    assert json.loads(instructions("CMD")[0])[0] in COMMANDS
    assert all(int(part) > 0 for part in instructions("USER")[-1].split(":"))
    assert instructions("EXPOSE") == [DEFAULT_LISTEN.rpartition(":")[2]]
    assert (
        dockerfile_environment()["RECEIVER_LISTEN"].rpartition(":")[2]
        == (DEFAULT_LISTEN.rpartition(":")[2])
    )


def test_the_image_asks_for_its_health_by_a_command_that_exists() -> None:
    program, command = json.loads(instructions("HEALTHCHECK")[0].partition(" CMD ")[2])
    assert program == "receiver"
    assert command in COMMANDS


def test_the_image_installs_what_is_locked_and_nothing_else() -> None:
    installs = [line for line in instructions("RUN") if " install " in line]
    assert installs
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)


def test_no_password_is_written_down() -> None:
    texts = [*walk(COMPOSE), DOCKERFILE, *walk(read_yaml("deploy/prometheus.yml"))]
    assert not [text for text in texts if re.search(r"://[^/@\s]*:[^/@\s]+@", text)]
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert not re.search(r"PASSWORD|SECRET|TOKEN", name) or value.startswith("/run/secrets")
    assert not re.search(r"^[^#].*PASSWORD", (ROOT / ".env.example").read_text(), re.MULTILINE)


def test_the_password_is_a_secret_that_both_sides_read() -> None:
    (name,) = COMPOSE["secrets"]
    assert name.upper().removeprefix("RECEIVER_").lower() in Settings.model_fields
    assert COMPOSE["secrets"][name] == {"file": SECRET}
    users = {service for service, spec in SERVICES.items() if name in spec.get("secrets", [])}
    assert users == {"timescaledb", "receiver"}
    environment = SERVICES["timescaledb"]["environment"]
    assert environment["POSTGRES_PASSWORD_FILE"] == f"/run/secrets/{name}"
    assert "secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_command_for_the_password_makes_one_that_containers_can_read(tmp_path: Path) -> None:
    require_program("openssl")
    text = (ROOT / "docker-compose.yml").read_text()
    (command,) = re.findall(r"^#\s+(mkdir .*)$", text, re.MULTILINE)
    subprocess.run(["sh", "-c", f"umask 077; {command}"], cwd=tmp_path, check=True)
    made = tmp_path / SECRET
    assert re.fullmatch(r"[0-9a-f]{48}\n", made.read_text())
    assert made.stat().st_mode & 0o777 == 0o444
    assert made.parent.stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("make_settings")
def test_the_line_end_of_a_secret_file_is_not_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "receiver_database_password").write_text("example\n")
    password = Settings(_secrets_dir=tmp_path).database_password
    assert password is not None
    assert password.get_secret_value() == "example"


def test_the_receiver_waits_for_the_database_of_its_url() -> None:
    receiver, database = SERVICES["receiver"], SERVICES["timescaledb"]
    assert receiver["depends_on"]["timescaledb"]["condition"] == "service_healthy"
    assert "pg_isready" in database["healthcheck"]["test"]
    names = database["environment"]
    assert receiver["environment"]["RECEIVER_DATABASE_URL"] == (
        f"postgresql://{names['POSTGRES_USER']}@timescaledb/{names['POSTGRES_DB']}"
    )


def test_the_receiver_may_finish_before_it_is_killed() -> None:
    period = int(SERVICES["receiver"]["stop_grace_period"].removesuffix("s"))
    assert period > Settings.model_fields["shutdown_timeout"].default.total_seconds()


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_held_in(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["restart"] == "unless-stopped"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    if "image" in service:
        assert re.search(r":v?\d+\.\d+\.\d+", service["image"]), "the version is not pinned"


def test_the_samples_come_only_when_asked_for_and_run_what_is_there() -> None:
    samples = {name: spec for name, spec in SERVICES.items() if "entrypoint" in spec}
    assert len(samples) == 2
    for spec in samples.values():
        assert spec["profiles"] == ["demo"]
        assert spec["entrypoint"] == ["python", "-m", application.__name__]


@pytest.mark.parametrize("name", ["prometheus.yml", "deploy/prometheus.yml"])
def test_prometheus_accepts_its_configuration(name: str) -> None:
    promtool = require_program("promtool")
    checked = subprocess.run(
        [promtool, "check", "config", "--lint=all", "--lint-fatal", str(ROOT / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_prometheus_writes_to_where_the_receiver_listens() -> None:
    (remote,) = read_yaml("prometheus.yml")["remote_write"]
    assert remote["url"] == f"http://{DEFAULT_LISTEN}{WRITE_PATH}"
    (kept,) = remote["write_relabel_configs"]
    names = {Settings.model_fields[field].default for field in ("status_metric", "ocr_metric")}
    assert set(kept["regex"].split("|")) == names


def test_prometheus_scrapes_the_sample_application() -> None:
    (job,) = read_yaml("prometheus.yml")["scrape_configs"]
    assert application.LISTEN in job["static_configs"][0]["targets"]


def test_the_stack_differs_from_one_machine_only_in_addresses() -> None:
    alone, stack = read_yaml("prometheus.yml"), read_yaml("deploy/prometheus.yml")
    targets = stack["scrape_configs"][0]["static_configs"][0]["targets"]
    for target in targets:
        host, _, port = target.partition(":")
        assert SERVICES[host]["command"] == ["--listen", f"0.0.0.0:{port}"]
    port = dockerfile_environment()["RECEIVER_LISTEN"].rpartition(":")[2]
    assert stack["remote_write"][0]["url"] == f"http://receiver:{port}{WRITE_PATH}"
    moved = copy.deepcopy(alone)
    moved["scrape_configs"][0]["static_configs"][0]["targets"] = targets
    moved["remote_write"][0]["url"] = stack["remote_write"][0]["url"]
    assert moved == stack
