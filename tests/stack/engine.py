"""The container engine, and the compose stack in a copy of the repository."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE_FILES = ("docker-compose.yml", "docker-compose.balanced.yml")
SCRAPES = "application"
"""The job of the sample applications."""


def docker(*arguments: str | Path, text: str | None = None) -> str:
    """Run docker, which must succeed; return its output, including errors."""
    ran = attempt(*arguments, text=text)
    assert ran.returncode == 0, f"docker {arguments}: {ran.stdout}"
    return ran.stdout


def attempt(*arguments: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run docker, which may fail."""
    return subprocess.run(
        ["docker", *arguments],
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@cache
def obstacle() -> str | None:
    """Return why containers cannot be run here; None if they can."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    for arguments in (["info"], ["compose", "version"]):
        if attempt(*arguments).returncode != 0:
            return f"`docker {' '.join(arguments)}` fails"
    missing = [name for name in images() if not is_there(name)]
    return f"there are no images {', '.join(missing)}" if missing else None


def images() -> set[str]:
    """Return every base image of the stack and the Dockerfile."""
    text = "".join((ROOT / name).read_text() for name in COMPOSE_FILES)
    named = set(re.findall(r"^\s*image: (?:&\w+ )?([\w./-]+:[\w.-]+)$", text, re.MULTILINE))
    based = set(re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    return {name for name in named | based if not name.startswith("receiver:")}


def is_there(image: str) -> bool:
    return attempt("image", "inspect", image).returncode == 0


def copy_repository(directory: Path) -> None:
    """Copy the tracked files, as a clone under umask 077 does."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if not (ROOT / name).is_file():
            continue
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(ROOT / name, target)
        target.chmod(0o700 if (ROOT / name).stat().st_mode & 0o100 else 0o600)
    for path in directory.rglob("*"):
        if path.is_dir():
            path.chmod(0o700)


class Stack:
    """The compose stack in a directory, with its own project name and ports.

    Args:
        directory: A copy of the repository.
        project: The name.
        image: The receiver's image, in place of the one that the stack would build.
    """

    def __init__(self, directory: Path, project: str, image: str) -> None:
        self.directory = directory
        self.project = project
        self.env: dict[str, str] = {"COMPOSE_PROJECT_NAME": project}
        self.use(image)
        published = ("RECEIVER", "PROMETHEUS", "ALERTMANAGER", "GRAFANA")
        self.configure({f"PUBLISH_{name}": "127.0.0.1:0" for name in published})

    def use(self, image: str) -> None:
        """Run this image as the receiver."""
        for name in COMPOSE_FILES:
            text = (self.directory / name).read_text()
            text = re.sub(r"(&receiver )receiver:\S+", rf"\g<1>{image}", text)
            (self.directory / name).write_text(re.sub(r"\n    build: \.", "", text))

    def configure(self, settings: Mapping[str, str]) -> None:
        """Set variables in .env, replacing those of the same names."""
        self.env |= settings
        lines = "".join(f"{name}={value}\n" for name, value in self.env.items())
        (self.directory / ".env").write_text(lines)

    def forget(self, names: Iterable[str]) -> None:
        """Remove variables from .env."""
        for name in names:
            del self.env[name]
        self.configure({})

    def make_secrets(self) -> None:
        script = "umask 077; sh deploy/secrets.sh"
        subprocess.run(["sh", "-c", script], cwd=self.directory, check=True)

    def compose(self, *arguments: str, text: str | None = None) -> str:
        """Run `docker compose`, which must succeed."""
        place = ("compose", "--project-directory", self.directory)
        files = self.env.get("COMPOSE_FILE", COMPOSE_FILES[0]).split(":")
        named = [part for file in files for part in ("--file", self.directory / file)]
        environment = ("--env-file", self.directory / ".env")
        return docker(*place, *named, *environment, *arguments, text=text)

    def remove(self) -> None:
        """Remove containers, networks and volumes."""
        self.compose("--profile=demo", "down", "--volumes", "--remove-orphans", "--timeout=10")

    def containers(self, service: str) -> list[dict[str, Any]]:
        """Return the engine's data on a service's containers, including exited ones."""
        label = f"label=com.docker.compose.service={service}"
        ours = f"label=com.docker.compose.project={self.project}"
        ids = docker("ps", "--all", "--quiet", "--filter", label, "--filter", ours).split()
        found: list[dict[str, Any]] = json.loads(docker("inspect", *ids)) if ids else []
        return found

    def services(self) -> set[str]:
        """Return the services that have a container."""
        ours = f"label=com.docker.compose.project={self.project}"
        shown = '{{.Label "com.docker.compose.service"}}'
        return set(docker("ps", "--all", "--filter", ours, "--format", shown).split())

    def url(self, service: str, port: int) -> str:
        """Return the URL of a service on this machine."""
        return f"http://{self.compose('port', service, str(port)).strip()}"

    def rows(self) -> set[tuple[str, datetime]]:
        """Return instance and time of each row."""
        query = (
            "SELECT labels ->> 'instance', extract(epoch FROM app_logs.created_at) "
            "FROM app_logs JOIN sources ON sources.id = source_id"
        )
        psql = ("psql", "-X", "-A", "-t", "-U", "receiver", "-d", "receiver", "-c", query)
        lines = self.compose("exec", "-T", "timescaledb", *psql).splitlines()
        return {(name, moment(time)) for name, _, time in (line.partition("|") for line in lines)}

    def scraped(self) -> set[tuple[str, datetime]]:
        """Return instance and time of each sample that Prometheus has."""
        found = self.ask_prometheus(f'app_status{{job="{SCRAPES}"}}[1h]')
        return {
            (series["metric"]["instance"], moment(time))
            for series in found
            for time, _ in series["values"]
        }

    def ask_prometheus(self, query: str) -> list[dict[str, Any]]:
        """Ask Prometheus for the result of a query."""
        url = f"{self.url('prometheus', 9090)}/api/v1/query?"
        with urllib.request.urlopen(url + urllib.parse.urlencode({"query": query})) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return found


def moment(seconds: str | float) -> datetime:
    """Convert a time, rounded to milliseconds as in Prometheus."""
    return datetime.fromtimestamp(round(float(seconds), 3), UTC)


def status(url: str, authorization: str | None = None) -> int:
    """Return the HTTP status of a page, 0 if nothing answers."""
    request = urllib.request.Request(url)
    if authorization is not None:
        request.add_header("Authorization", authorization)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            code: int = answer.status
            return code
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def services_of(stack: Stack, wanted: Callable[[dict[str, Any]], bool]) -> set[str]:
    """Return the services of docker-compose.yml that satisfy a condition."""
    text = (stack.directory / COMPOSE_FILES[0]).read_text()
    return {name for name, spec in yaml.safe_load(text)["services"].items() if wanted(spec)}
