from __future__ import annotations

import copy
import hashlib
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
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SECRETS_SCRIPT = ROOT / "deploy/secrets.sh"
SETTING_FILES = (
    "Dockerfile",
    "docker-compose.yml",
    ".env.example",
    ".dockerignore",
    "deploy/kubernetes.yml",
    "deploy/receiver.service",
)
WHERE = """
from receiver.demo.sender import configuration_file
from receiver.storage.schema.revisions import migrations_directory
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


def interpolated() -> dict[str, str]:
    """Every variable that the compose file takes from .env, and its default."""
    text = (ROOT / "docker-compose.yml").read_text()
    assert text.count("${") == len(re.findall(r"\$\{\w+:-[^}]+\}", text)), "one has no default"
    return dict(re.findall(r"\$\{(\w+):-([^}]+)\}", text))


def settings_named() -> list[tuple[str, str]]:
    """Every RECEIVER_ variable, and the file that names it."""
    return [
        (name, variable)
        for name in SETTING_FILES
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
    balanced = {"COMPOSE_PROFILES": "balanced", "ALIAS_RECEIVER": "behind"}
    assert shown == {**interpolated(), **balanced}


def test_what_the_stack_decides_itself_wins_over_the_file_of_settings() -> None:
    receiver = SERVICES["receiver"]
    assert receiver["env_file"] == [{"path": ".env", "required": False}]
    assert receiver["environment"]["RECEIVER_LISTEN"] == dockerfile_environment()["RECEIVER_LISTEN"]
    assert receiver["environment"]["RECEIVER_DATABASE_PASSWORD"] == ""


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
    texts = [*walk(COMPOSE), DOCKERFILE, *walk(read_yaml("deploy/prometheus/prometheus.yml"))]
    assert not [text for text in texts if re.search(r"://[^/@\s]*:[^/@\s]+@", text)]
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|TOKEN", name):
                assert value == "" or value.startswith("/run/secrets"), name
    assert not re.search(r"^[^#].*PASSWORD", (ROOT / ".env.example").read_text(), re.MULTILINE)


def test_every_secret_is_known_to_who_needs_it_and_to_nobody_else() -> None:
    users = {
        secret: {name for name, spec in SERVICES.items() if secret in spec.get("secrets", [])}
        for secret in COMPOSE["secrets"]
    }
    assert users == {
        "receiver_database_password": {"timescaledb", "receiver", "grafana-role"},
        "credentials.yml": {"receiver"},
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
    """Run the script that makes the secrets; what it made."""
    subprocess.run(["sh", "-c", f"umask 077; sh {SECRETS_SCRIPT}"], cwd=directory, check=True)
    return {path.name: path.read_text() for path in (directory / "secrets").iterdir()}


def test_the_script_makes_every_secret_readable_for_containers_alone(tmp_path: Path) -> None:
    require_program("openssl")
    made = make_secrets(tmp_path)
    files = {secret["file"].removeprefix("./secrets/") for secret in COMPOSE["secrets"].values()}
    assert set(made) == files
    for name, text in made.items():
        assert (tmp_path / "secrets" / name).stat().st_mode & 0o444 == 0o444
        assert name == "credentials.yml" or re.fullmatch(r"[0-9a-f]{48}\n", text)
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
    assert "secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_script_leaves_what_is_there(tmp_path: Path) -> None:
    require_program("openssl")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/database_password").write_text("in use\n")
    first = make_secrets(tmp_path)
    assert first["database_password"] == "in use\n"
    assert make_secrets(tmp_path) == first


def test_the_receiver_knows_the_token_that_prometheus_brings(tmp_path: Path) -> None:
    require_program("openssl")
    made = make_secrets(tmp_path)
    token = made["token"].strip().encode()
    assert yaml.safe_load(made["credentials.yml"]) == {
        "bearer_tokens": [hashlib.sha256(token).hexdigest()]
    }
    stack = read_yaml("deploy/prometheus/prometheus.yml")
    (_, receiver), *remotes = stack["scrape_configs"], stack["remote_write"], stack["remote_read"]
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


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_held_in(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["read_only"] is True
    assert service["restart"] == ("no" if name == "grafana-role" else "unless-stopped")
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    for port in service.get("ports", []):
        assert re.fullmatch(r"\$\{PUBLISH_\w+:-127\.0\.0\.1:\d+\}:\d+", port)
    if "image" in service:
        assert re.search(r":v?\d+\.\d+\.\d+", service["image"]), "the version is not pinned"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_waited_for_by_its_health(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        ends = SERVICES[other]["restart"] == "no"
        assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy")
        assert ends or other == "receiver" or "test" in SERVICES[other]["healthcheck"]


def test_several_receivers_leave_their_port_and_their_name_to_the_load_balancer() -> None:
    receiver, balancer = SERVICES["receiver"], SERVICES["load-balancer"]
    assert balancer["profiles"] == ["balanced"]
    ports = [service["ports"][0].partition(":-")[2] for service in (receiver, balancer)]
    assert ports[0] == ports[1] == "127.0.0.1:9201}:9201"
    (alias,) = balancer["networks"]["default"]["aliases"]
    assert receiver["networks"]["default"]["aliases"] == [f"${{ALIAS_RECEIVER:-{alias}}}"]
    (remote,) = read_yaml("deploy/prometheus/prometheus.yml")["remote_write"]
    assert remote["url"] == f"http://{alias}:9201{WRITE_PATH}"
    (remote,) = read_yaml("deploy/prometheus/prometheus.yml")["remote_read"]
    assert remote["url"] == f"http://{alias}:9201{READ_PATH}"
    # 0: any free port, as Docker reads it.
    assert "# PUBLISH_RECEIVER=127.0.0.1:0\n" in (ROOT / ".env.example").read_text()


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
    assert SERVICES["load-balancer"]["healthcheck"]["test"][-1] == f"http://{health}/"
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
    receiver = stack["scrape_configs"].pop()
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


def kubernetes() -> dict[str, dict[str, Any]]:
    """The manifests, by their kind."""
    documents = yaml.safe_load_all((ROOT / "deploy/kubernetes.yml").read_text())
    return {document["kind"]: document for document in documents}


def test_the_manifests_fit_together_and_the_image() -> None:
    manifests = kubernetes()
    assert manifests.keys() == {"Deployment", "Service", "PodDisruptionBudget"}
    deployment = manifests["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    labels = deployment["template"]["metadata"]["labels"]
    assert labels == deployment["selector"]["matchLabels"]
    assert labels == manifests["Service"]["spec"]["selector"]
    assert labels == manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]
    assert container["image"].rpartition(":")[2] == __version__
    (port,) = container["ports"]
    assert [str(port["containerPort"])] == instructions("EXPOSE")
    assert manifests["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    user = int(instructions("USER")[-1].split(":")[0])
    assert pod["securityContext"]["runAsUser"] == user
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    for amounts in container["resources"].values():
        assert amounts.keys() <= {"cpu", "memory"}


def test_the_probes_ask_what_the_receiver_answers_and_stopping_has_time() -> None:
    pod = kubernetes()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("liveness", "readiness")}
    assert asked == {
        "liveness": {"path": "/-/healthy", "port": "http"},
        "readiness": {"path": "/-/ready", "port": "http"},
    }
    values = {entry["name"]: entry["value"] for entry in container["env"]}
    delay = int(values["RECEIVER_SHUTDOWN_DELAY"].removesuffix("s"))
    timeout = Settings.model_fields["shutdown_timeout"].default.total_seconds()
    assert pod["terminationGracePeriodSeconds"] > delay + timeout


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
