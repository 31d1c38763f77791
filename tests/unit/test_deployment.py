from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import receiver.config.settings
from receiver import __version__
from receiver.commands.cli import COMMANDS
from receiver.config.settings import Settings
from receiver.demo import application
from receiver.http.paths import READ as READ_PATH
from receiver.http.paths import WRITE as WRITE_PATH
from tests.programs import require_program

ROOT = Path(__file__).parents[2]
WEB = ROOT / "receiver" / "web"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
BALANCED: dict[str, Any] = yaml.safe_load(
    re.sub("!(reset|override)", "", (ROOT / "docker-compose.balanced.yml").read_text())
)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BALANCER: dict[str, Any] = BALANCED["services"]["load-balancer"]
ALL_SERVICES = {**SERVICES, "load-balancer": BALANCER}
ENDS = {"grafana-role", "credential"}
"""Services that run once and exit."""
DECIDED = {"listen", "database_url", "database_password", "credentials_file", "data_dir"}
"""Settings that the stack fixes."""
SECRETS_SCRIPT = ROOT / "deploy/secrets.sh"
SETTING_FILES = (
    "Dockerfile",
    "docker-compose.yml",
    "docker-compose.balanced.yml",
    ".env.example",
    ".dockerignore",
    "deploy/receiver.service",
)
WHERE = """
from receiver.demo.sender import configuration_file
from receiver.storage.schema.revisions import migrations_directory
print(configuration_file(), migrations_directory())
"""
CREDENTIALS = "credentials/credentials.yml"
DEFAULT_LISTEN = Settings.model_fields["listen"].default


def read_yaml(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return content


def instructions(name: str) -> list[str]:
    """Return the arguments of each instruction of the Dockerfile with this name."""
    joined = re.sub(r"\\\n\s*", " ", DOCKERFILE)
    return re.findall(rf"^{name}\s+(.*)$", joined, re.MULTILINE)


def copied_sources() -> list[str]:
    """Return the files that the image copies from the repository."""
    words = [shlex.split(line) for line in instructions("COPY") if "--from=" not in line]
    return [source for *sources, _ in words for source in sources]


def compose_sources() -> list[str]:
    """Return the files that the stack mounts from the repository, except the secret."""
    mounts = [mount for service in ALL_SERVICES.values() for mount in service.get("volumes", [])]
    mounted = [mount.split(":")[0] for mount in mounts if isinstance(mount, str)]
    named = set(COMPOSE["volumes"])
    return [source for source in mounted if source not in named and "secrets" not in source]


def dockerfile_environment() -> dict[str, str]:
    words = [word for line in instructions("ENV") for word in shlex.split(line)]
    return dict(word.split("=", 1) for word in words)


def interpolated() -> dict[str, str]:
    """Return each variable that the Compose files take from .env, with its default."""
    names = ("docker-compose.yml", "docker-compose.balanced.yml")
    text = "".join((ROOT / name).read_text() for name in names)
    assert text.count("${") == len(re.findall(r"\$\{\w+:-[^}]+\}", text)), "one has no default"
    return dict(re.findall(r"\$\{(\w+):-([^}]+)\}", text))


def settings_named() -> list[tuple[str, str]]:
    """Return each RECEIVER_ variable, with the file that names it."""
    return [
        (name, variable)
        for name in SETTING_FILES
        for variable in re.findall(r"\bRECEIVER_[A-Z_]+", (ROOT / name).read_text())
    ]


def walk(value: object) -> list[str]:
    """Return every string in a structure."""
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
            (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
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
    assert (package / "tables.schema.json").exists()
    pages = [path for kind in ("templates", "static") for path in WEB.glob(f"{kind}/*")]
    assert len(pages) > 5
    assert all((package / "web" / path.relative_to(WEB)).exists() for path in pages)


@pytest.mark.parametrize(("file", "variable"), settings_named())
def test_variables_are_settings(file: str, variable: str) -> None:
    assert variable.removeprefix("RECEIVER_").lower() in Settings.model_fields, file


def test_the_example_shows_what_the_stack_takes_and_its_defaults() -> None:
    example = (ROOT / ".env.example").read_text()
    shown = dict(re.findall(r"^# (?!RECEIVER_)(\w+)=(.+)$", example, re.MULTILINE)[::-1])
    balanced = {"COMPOSE_FILE": "docker-compose.yml:docker-compose.balanced.yml"}
    assert shown == {**interpolated(), **balanced}


def test_the_receiver_is_passed_its_settings_and_nothing_else() -> None:
    """Otherwise a change to any other line of .env would restart it."""
    receiver = SERVICES["receiver"]
    assert "env_file" not in receiver
    environment = receiver["environment"]
    assert environment["RECEIVER_LISTEN"] == dockerfile_environment()["RECEIVER_LISTEN"]
    passed = {name for name, value in environment.items() if value is None}
    assert passed == {f"RECEIVER_{name.upper()}" for name in Settings.model_fields.keys() - DECIDED}


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
    steps = [step for line in instructions("RUN") for step in line.split(" && ")]
    installs = [step for step in steps if re.search(r" (install|wheel) ", step)]
    assert installs
    assert all("--require-hashes" in step or "--no-deps" in step for step in installs)
    assert all("--no-build-isolation" in step for step in installs if " wheel " in step)


def test_what_builds_the_wheel_is_locked() -> None:
    (required,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert groups["build"] == [required]
    locks = [(ROOT / f"requirements-{kind}.txt").read_text() for kind in ("build", "dev")]
    pinned = [dict(re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE)) for lock in locks]
    assert pinned[0].items() <= pinned[1].items()


def test_the_image_has_no_pip() -> None:
    assert "--without-pip /opt/receiver" in DOCKERFILE
    last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    assert re.search(r"^RUN rm -rf .*pip", last, re.MULTILINE)
    assert "install" not in " ".join(re.findall(r"^RUN (.*)$", last, re.MULTILINE))


def test_one_image_is_built_once() -> None:
    receivers = {
        name: spec for name, spec in SERVICES.items() if spec["image"].startswith("receiver:")
    }
    assert {spec["image"] for spec in receivers.values()} == {f"receiver:{__version__}"}
    # Otherwise a registry would be queried first, and might have another project's image.
    assert {spec["pull_policy"] for spec in receivers.values()} == {"never"}
    started = {name for name, spec in receivers.items() if spec.get("profiles") != ["tools"]}
    assert [name for name in started if "build" in SERVICES[name]] == ["receiver"]


def test_every_version_is_stated_once() -> None:
    """Kubernetes states some of them again; those must be the same."""
    stated: dict[str, set[str]] = {}
    for spec in ALL_SERVICES.values():
        name, _, tag = spec["image"].rpartition(":")
        stated.setdefault(name, set()).add(tag)
    kustomization = read_yaml("deploy/kubernetes/base/kustomization.yaml")
    for image in kustomization["images"]:
        stated[image["name"]].add(image["newTag"])
    assert {name: tags for name, tags in stated.items() if len(tags) > 1} == {}
    tag = rf"\b({'|'.join(map(re.escape, stated))}):(v?\d[\w.-]*)"
    documents = [ROOT / "README.md", ROOT / "README.ko.md", *(ROOT / "docs").glob("*.md")]
    for path in (*documents, *(ROOT / "deploy").rglob("*.y*ml"), ROOT / ".env.example"):
        for name, version in re.findall(tag, path.read_text()):
            assert stated[name] == {version}, path


def test_no_password_is_written_down() -> None:
    texts = [*walk(COMPOSE), DOCKERFILE, *walk(read_yaml("deploy/prometheus/prometheus.yml"))]
    assert not [text for text in texts if re.search(r"://[^/@\s]*:[^/@\s]+@", text)]
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|TOKEN", name):
                assert value is None or value.startswith("/run/secrets"), name
    assert not re.search(r"^[^#].*PASSWORD", (ROOT / ".env.example").read_text(), re.MULTILINE)


def test_every_secret_is_known_to_who_needs_it_and_to_nobody_else() -> None:
    users = {
        secret: {name for name, spec in SERVICES.items() if secret in spec.get("secrets", [])}
        for secret in COMPOSE["secrets"]
    }
    assert users == {
        "receiver_database_password": {"timescaledb", "receiver", "grafana-role"},
        "token": {"prometheus"},
        "grafana_database_password": {"grafana-role", "grafana"},
        "grafana_admin_password": {"grafana"},
    }
    for name, spec in SERVICES.items():
        named = re.findall(r"/run/secrets/([\w.]+)", " ".join(walk(spec)))
        assert set(named) <= set(spec.get("secrets", [])), name


def test_the_password_is_a_secret_that_both_sides_read() -> None:
    name = "receiver_database_password"
    assert name.upper().removeprefix("RECEIVER_").lower() in Settings.model_fields
    environment = SERVICES["timescaledb"]["environment"]
    assert environment["POSTGRES_PASSWORD_FILE"] == f"/run/secrets/{name}"


def make_secrets(directory: Path) -> dict[str, str]:
    """Run the script that creates the secrets; return their contents by path."""
    subprocess.run(["sh", "-c", f"umask 077; sh {SECRETS_SCRIPT}"], cwd=directory, check=True)
    secrets = directory / "secrets"
    files = [path for path in secrets.rglob("*") if path.is_file()]
    return {str(path.relative_to(secrets)): path.read_text() for path in files}


def test_the_script_makes_every_secret_readable_for_containers_alone(tmp_path: Path) -> None:
    made = make_secrets(tmp_path)
    files = {secret["file"].removeprefix("./secrets/") for secret in COMPOSE["secrets"].values()}
    assert set(made) == files | {CREDENTIALS}
    for name, text in made.items():
        assert (tmp_path / "secrets" / name).stat().st_mode & 0o444 == 0o444
        assert name == CREDENTIALS or re.fullmatch(r"[0-9a-f]{48}\n", text)
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
    for directory in ("credentials", "alertmanager"):
        assert (tmp_path / "secrets" / directory).stat().st_mode & 0o555 == 0o555
    assert "secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_script_leaves_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/database_password").write_text("in use\n")
    first = make_secrets(tmp_path)
    assert first["database_password"] == "in use\n"
    assert make_secrets(tmp_path) == first


def test_the_script_makes_an_empty_secret_anew(tmp_path: Path) -> None:
    """Earlier versions left an empty file if openssl was missing."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/token").touch()
    assert len(make_secrets(tmp_path)["token"]) == 49


def test_the_script_moves_the_credentials_of_versions_before(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/credentials.yml").write_text("# mine\n")
    assert make_secrets(tmp_path)[CREDENTIALS] == "# mine\n"
    assert not (tmp_path / "secrets/credentials.yml").exists()


@pytest.mark.parametrize("missing", ["od", "sha256sum"])
def test_the_script_leaves_nothing_half_made(tmp_path: Path, missing: str) -> None:
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / missing).write_text("#!/bin/sh\nexit 1\n")
    (broken / missing).chmod(0o755)
    environment = {**os.environ, "PATH": f"{broken}:{os.environ['PATH']}"}
    ran = subprocess.run(["sh", SECRETS_SCRIPT], cwd=tmp_path, env=environment, check=False)
    assert ran.returncode != 0
    left = [path for path in (tmp_path / "secrets").rglob("*") if path.is_file()]
    assert all(path.stat().st_size > 1 for path in left)
    assert set(make_secrets(tmp_path)) >= {"token", CREDENTIALS}


def test_what_the_containers_mount_is_readable_whatever_the_umask_was(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    for path in (tmp_path / "deploy", *(tmp_path / "deploy").rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    make_secrets(tmp_path)
    for source in compose_sources():
        for path in (tmp_path / source, *(tmp_path / source).rglob("*")):
            wanted = 0o555 if path.is_dir() else 0o444
            assert path.stat().st_mode & wanted == wanted, path


def test_the_receiver_knows_the_token_that_prometheus_brings(tmp_path: Path) -> None:
    made = make_secrets(tmp_path)
    token = made["token"].strip().encode()
    assert yaml.safe_load(made[CREDENTIALS]) == {
        "bearer_tokens": [hashlib.sha256(token).hexdigest()]
    }
    stack = read_yaml("deploy/prometheus/prometheus.yml")
    (_, receiver, *_), *remotes = (
        stack["scrape_configs"],
        stack["remote_write"],
        stack["remote_read"],
    )
    for part in (receiver, *(remote for (remote,) in remotes)):
        assert part["authorization"] == {"credentials_file": "/run/secrets/token"}


@pytest.mark.usefixtures("make_settings")
def test_the_line_end_of_a_secret_file_is_not_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "receiver_database_password").write_text("example\n")
    monkeypatch.setattr(receiver.config.settings, "SECRETS_DIR", tmp_path)
    password = Settings.load().database_password
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


@pytest.mark.parametrize("name", ALL_SERVICES)
def test_every_service_is_held_in(name: str) -> None:
    service = ALL_SERVICES[name]
    assert service["init"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["read_only"] is True
    assert service["restart"] == ("no" if name in ENDS else "unless-stopped")
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    for port in service.get("ports", []):
        assert re.fullmatch(r"\$\{PUBLISH_\w+:-127\.0\.0\.1:\d+\}:\d+", port)
    assert re.search(r":v?\d+\.\d+\.\d+", service["image"]), "the version is not pinned"


@pytest.mark.parametrize("name", ALL_SERVICES)
def test_every_service_is_waited_for_by_its_health(name: str) -> None:
    for other, how in ALL_SERVICES[name].get("depends_on", {}).items():
        ends = SERVICES[other]["restart"] == "no"
        assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy")
        assert ends or other == "receiver" or "test" in SERVICES[other]["healthcheck"]


def test_several_receivers_leave_their_port_and_their_name_to_the_load_balancer() -> None:
    receiver, behind = SERVICES["receiver"], BALANCED["services"]["receiver"]
    assert BALANCER["ports"] == receiver["ports"]
    assert behind["ports"] == []
    (alias,) = BALANCER["networks"]["default"]["aliases"]
    assert receiver["networks"]["default"]["aliases"] == [alias]
    assert behind["networks"] == {"default": {}}
    (remote,) = read_yaml("deploy/prometheus/prometheus.yml")["remote_write"]
    assert remote["url"] == f"http://{alias}:9201{WRITE_PATH}"
    (remote,) = read_yaml("deploy/prometheus/prometheus.yml")["remote_read"]
    assert remote["url"] == f"http://{alias}:9201{READ_PATH}"


def test_how_many_receivers_there_are_is_written_down_in_one_place() -> None:
    assert BALANCED["services"]["receiver"]["deploy"] == {"replicas": "${RECEIVERS:-3}"}
    assert not any("profiles" in spec for spec in BALANCED["services"].values())
    for path in (ROOT / "README.md", ROOT / "docs/operations.md", ROOT / ".env.example"):
        assert "--scale" not in path.read_text()


def test_the_load_balancer_accepts_its_configuration() -> None:
    haproxy = require_program("haproxy")
    checked = subprocess.run(
        [haproxy, "-c", "-f", str(ROOT / "deploy/haproxy.cfg")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr


def test_the_load_balancer_asks_where_the_receivers_answer() -> None:
    text = (ROOT / "deploy/haproxy.cfg").read_text()
    assert "uri /-/ready " in text
    assert re.search(r"server-template receiver \d+ receiver:9201 check ", text)
    (health,) = re.findall(r"bind (127\.0\.0\.1:\d+)", text)
    assert BALANCER["healthcheck"]["test"][-1] == f"http://{health}/"
    (seconds,) = map(int, re.findall(r"timeout server (\d+)s", text))
    assert seconds > Settings.model_fields["commit_timeout"].default.total_seconds()


def test_the_samples_come_only_when_asked_for_and_run_what_is_there() -> None:
    samples = {name: spec for name, spec in SERVICES.items() if "demo" in spec.get("profiles", [])}
    assert len(samples) == 2
    for spec in samples.values():
        assert spec["entrypoint"] == ["python", "-m", application.__name__]


@pytest.mark.parametrize("name", ["prometheus.yml", "deploy/prometheus/prometheus.yml"])
def test_prometheus_accepts_its_configuration(name: str, tmp_path: Path) -> None:
    promtool = require_program("promtool")
    rules = (ROOT / name).parent / "rules"
    if rules.exists():
        shutil.copytree(rules, tmp_path / "rules")
    (tmp_path / "token").write_text("example\n")
    text = (ROOT / name).read_text().replace("/run/secrets/token", str(tmp_path / "token"))
    (tmp_path / "prometheus.yml").write_text(text)
    checked = subprocess.run(
        [promtool, "check", "config", "--lint=all", "--lint-fatal", tmp_path / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_prometheus_writes_to_where_the_receiver_listens() -> None:
    (remote,) = read_yaml("prometheus.yml")["remote_write"]
    assert remote["url"] == f"http://{DEFAULT_LISTEN}{WRITE_PATH}"
    (read,) = read_yaml("prometheus.yml")["remote_read"]
    assert read["url"] == f"http://{DEFAULT_LISTEN}{READ_PATH}"
    (kept,) = remote["write_relabel_configs"]
    names = {Settings.model_fields[field].default for field in ("status_metric", "ocr_metric")}
    assert set(kept["regex"].split("|")) == names


def test_prometheus_scrapes_the_sample_application() -> None:
    (job,) = read_yaml("prometheus.yml")["scrape_configs"]
    assert application.LISTEN in job["static_configs"][0]["targets"]


def test_the_stack_differs_from_one_machine_in_addresses_and_in_watching_the_receiver() -> None:
    alone, stack = read_yaml("prometheus.yml"), read_yaml("deploy/prometheus/prometheus.yml")
    targets = stack["scrape_configs"][0]["static_configs"][0]["targets"]
    for target in targets:
        host, _, port = target.partition(":")
        assert SERVICES[host]["command"] == ["--listen", f"0.0.0.0:{port}"]
    application, receiver, *watched = stack["scrape_configs"]
    stack["scrape_configs"] = [application]
    assert [job["job_name"] for job in watched] == ["prometheus", "alertmanager"]
    (alertmanagers,) = stack.pop("alerting")["alertmanagers"]
    assert alertmanagers["static_configs"] == watched[1]["static_configs"]
    port = dockerfile_environment()["RECEIVER_LISTEN"].rpartition(":")[2]
    (found,) = receiver["dns_sd_configs"]
    assert (found["names"], found["type"], str(found["port"])) == (["receiver"], "A", port)
    assert stack.pop("rule_files") == ["rules/*.yml"]
    moved = copy.deepcopy(alone)
    moved["scrape_configs"][0]["static_configs"][0]["targets"] = targets
    for part in ("remote_write", "remote_read"):
        for key in ("url", "authorization"):
            moved[part][0][key] = stack[part][0][key]
    assert moved == stack


def test_systemd_accepts_the_unit_and_finds_it_held_in(tmp_path: Path) -> None:
    analyze = require_program("systemd-analyze")
    unit = tmp_path / "receiver.service"
    text = (ROOT / "deploy/receiver.service").read_text()
    (program,) = re.findall(r"^ExecStart=(\S+) serve$", text, re.MULTILINE)
    unit.write_text(text.replace(program, sys.executable))
    checks = (["verify", "--man=no"], ["security", "--offline=true", "--threshold=15"])
    for arguments in checks:
        checked = subprocess.run(
            [analyze, *arguments, unit], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert not checked.stderr


def test_the_unit_runs_as_a_user_who_has_a_name_and_may_write_its_state_alone() -> None:
    text = (ROOT / "deploy/receiver.service").read_text()
    directives = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    assert directives["User"] == directives["Group"] == "receiver"
    assert directives["ProtectSystem"] == "strict"
    assert not directives.keys() & {"DynamicUser", "ConfigurationDirectory", "ReadWritePaths"}
    comments = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    assert "useradd --system" in comments
    assert not re.search(r"pip install receiver\b(?!-)", comments), "that is another project's name"
    handed = dict(re.findall(r"LoadCredential=(\S+):(/etc/receiver/\S+)", comments))
    assert set(handed) == set(re.findall(r"RECEIVER_\w+=%d/(\S+)", comments))
