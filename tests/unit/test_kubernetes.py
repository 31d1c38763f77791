"""The Kubernetes manifests agree with each other, the image, and the receiver's answers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from receiver import __version__
from receiver.config.settings import Settings
from tests.programs import require_program

ROOT = Path(__file__).parents[2]
KUBERNETES_VERSION = kubernetes_validate.latest_version()
KUBERNETES = ROOT / "deploy/kubernetes"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
KUSTOMIZATIONS = sorted(KUBERNETES.rglob("kustomization.yaml"))
BUILT = [path.parent for path in KUSTOMIZATIONS if "components" not in path.parts]


def documents(name: str) -> dict[str, dict[str, Any]]:
    """The manifests of a file, by their kind."""
    found = yaml.safe_load_all((KUBERNETES / name).read_text())
    return {document["kind"]: document for document in found}


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = documents("base/receiver.yaml")["Deployment"]["spec"]["template"]["spec"]
    return spec


def patches(path: Path) -> list[dict[str, Any]]:
    """Return the patches of a component, as parts of manifests."""
    component = yaml.safe_load(path.read_text())
    return [yaml.safe_load(patch["patch"]) for patch in component.get("patches", [])]


@pytest.mark.parametrize("name", ["base/receiver.yaml", "base/database.yaml"])
def test_the_manifests_fit_together(name: str) -> None:
    manifests = documents(name)
    (workload,) = (spec for kind, spec in manifests.items() if kind != "Service")
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert labels == workload["spec"]["selector"]["matchLabels"]
    assert labels == manifests["Service"]["spec"]["selector"]
    spec = workload["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    (port,) = container["ports"]
    assert manifests["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    claims = workload["spec"].get("volumeClaimTemplates", [])
    volumes = {volume["name"] for volume in spec["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in claims}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_they_fit_the_image() -> None:
    (container,) = pod()["containers"]
    assert [str(port["containerPort"]) for port in container["ports"]] == re.findall(
        r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE
    )
    user = int(re.findall(r"^USER (\d+)", DOCKERFILE, re.MULTILINE)[-1])
    assert pod()["securityContext"]["runAsUser"] == user
    images = yaml.safe_load((KUBERNETES / "base/kustomization.yaml").read_text())["images"]
    tags = {image["name"]: image["newTag"] for image in images}
    assert tags[container["image"]] == __version__
    for manifest in ("receiver", "database"):
        for used in re.findall(r"image: (\S+)", (KUBERNETES / f"base/{manifest}.yaml").read_text()):
            assert used in tags


def test_the_probes_ask_what_the_receiver_answers_and_stopping_has_time() -> None:
    (container,) = pod()["containers"]
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("liveness", "readiness")}
    assert asked == {
        "liveness": {"path": "/-/healthy", "port": "http"},
        "readiness": {"path": "/-/ready", "port": "http"},
    }
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    delay = int(str(values["RECEIVER_SHUTDOWN_DELAY"]).removesuffix("s"))
    timeout = Settings.model_fields["shutdown_timeout"].default.total_seconds()
    assert pod()["terminationGracePeriodSeconds"] > delay + timeout


def test_variables_are_settings() -> None:
    for path in KUBERNETES.rglob("*.yaml"):
        for variable in re.findall(r"\bRECEIVER_[A-Z_]+", path.read_text()):
            assert variable.removeprefix("RECEIVER_").lower() in Settings.model_fields, path


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: str(path.parent.name))
def test_what_a_kustomization_names_is_there(path: Path) -> None:
    found = yaml.safe_load(path.read_text())
    files = [file for made in found.get("configMapGenerator", []) for file in made["files"]]
    for name in (*found.get("resources", []), *found.get("components", []), *files):
        assert (path.parent / name).exists(), name


def test_each_component_changes_what_the_base_has() -> None:
    names = {
        (kind, document["metadata"]["name"])
        for file in ("base/receiver.yaml", "base/database.yaml")
        for kind, document in documents(file).items()
    } | {("Service", "receiver")}
    changed = [
        patch for path in KUSTOMIZATIONS if "components" in path.parts for patch in patches(path)
    ]
    assert len(changed) > 4
    for patch in changed:
        assert (patch["kind"], patch["metadata"]["name"]) in names
        if "spec" in patch:
            (container,) = patch["spec"]["template"]["spec"]["containers"]
            assert container["name"] == pod()["containers"][0]["name"]


def test_every_component_has_an_overlay_or_is_named() -> None:
    overlays = {path.name for path in (KUBERNETES / "overlays").iterdir()}
    components = {path.name for path in (KUBERNETES / "components").iterdir()}
    assert components - overlays == {"tables"}
    assert (
        "components/tables" in (KUBERNETES / "overlays/production/kustomization.yaml").read_text()
    )


def kustomize(directory: Path) -> list[dict[str, Any]]:
    """Build the manifests of a kustomization."""
    built = subprocess.run(
        [require_program("kustomize"), "build", directory],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return list(yaml.safe_load_all(built.stdout))


@pytest.mark.parametrize("directory", BUILT, ids=lambda path: str(path.name))
def test_kustomize_builds_it_and_a_validator_accepts_it(directory: Path) -> None:
    built = kustomize(directory)
    for manifest in built:
        kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)
    (deployment,) = (manifest for manifest in built if manifest["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"].endswith(f"/receiver:{__version__}")
    for entry in container["env"]:
        assert ("value" in entry) != ("valueFrom" in entry), entry


def test_the_validator_rejects_what_kubernetes_does_not_know() -> None:
    manifest = documents("base/receiver.yaml")["Deployment"]
    manifest["spec"]["replica"] = 3
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)


def test_prometheus_accepts_what_scrapes_them_with_a_token(tmp_path: Path) -> None:
    text = (KUBERNETES / "prometheus.yml").read_text()
    (file,) = set(re.findall(r"credentials_file: (\S+)", text))
    assert text.count(file) == 2
    (tmp_path / "token").write_text("example\n")
    configuration = yaml.safe_load(text.replace(file, str(tmp_path / "token")))
    (job,) = configuration["scrape_configs"]
    (found,) = job.pop("kubernetes_sd_configs")  # Debian's Prometheus is built without it
    (selector,) = found["selectors"]
    key, _, value = selector["label"].partition("=")
    assert documents("base/receiver.yaml")["Deployment"]["metadata"]["labels"] == {key: value}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    checked = subprocess.run(
        [require_program("promtool"), "check", "config", tmp_path / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
