"""deploy/: each file is checked as far as that goes without a container engine or a cluster."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.page import page_folder
from server.settings import PREFIX, Settings, load_settings, secret_settings
from server.transports.hosts import HEALTH_PATHS
from tests.support.gateways import gateway_settings
from tests.test_repository import ROOT

DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
COMPOSE = DEPLOY / "compose"
CHART = DEPLOY / "helm" / "ollagraph"
UNIT = DEPLOY / "systemd" / "ollagraph.service"


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def instructions(stage: str) -> list[tuple[str, str]]:
    """The instructions of a stage of the Dockerfile, each with its arguments on one line."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    (found,) = [it for it in stages if it.partition("\n")[0].endswith(f" AS {stage}")]
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in found.splitlines()[1:] if line.strip()]


def copied(stage: str) -> list[tuple[list[str], str]]:
    """What a stage copies out of the project, and to where."""
    given = [shlex.split(rest) for name, rest in instructions(stage) if name == "COPY" and "--from" not in rest]
    return [(sources, target) for *sources, target in given]


def test_every_setting_that_is_named_in_deploy_is_one():
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    known |= {f"{PREFIX}{name.upper()}_FILE" for name in secret_settings(Settings)}
    texts = {path: path.read_text() for path in DEPLOY.rglob("*") if path.is_file()}
    named = {(path.name, name) for path, text in texts.items() for name in re.findall(rf"\b{PREFIX}[A-Z0-9_]+", text)}
    assert named
    assert [it for it in sorted(named) if it[1] not in known] == []


def test_every_path_that_is_probed_is_served():
    probed = {path for file in DEPLOY.rglob("*") if file.is_file() for path in re.findall(r"/\w+z\b", file.read_text())}
    assert probed == HEALTH_PATHS


@pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64", reason="hadolint is packaged for Linux on x86-64"
)
def test_the_dockerfile_is_good_style():
    run(Path(sys.executable).with_name("hadolint"), DOCKERFILE)


def test_the_image_gets_what_the_dockerfile_copies():
    ignored = (DEPLOY / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    for sources, _ in [*copied("page"), *copied("build")]:
        for source in sources:
            assert any(ROOT.glob(source)), source
            assert any(fnmatch(source.partition("/")[0], pattern) for pattern in allowed), source


@pytest.mark.skipif(page_folder() is None, reason="needs the page: make page")
def test_what_the_image_is_built_from_makes_the_whole_wheel(tmp_path: Path):
    """The steps of the stage `build`, but for the packages of the lock: those are installed here already."""
    for sources, target in copied("build"):
        for file in [file for source in sources for file in ROOT.glob(source)]:
            if file.is_dir():
                shutil.copytree(file, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(file, tmp_path / target)
    page = page_folder()
    assert page is not None
    shutil.copytree(page, tmp_path / "web" / "dist")
    (step,) = [rest for name, rest in instructions("build") if name == "RUN" and "build_wheel" in rest]
    python, *arguments = shlex.split(step.partition("&&")[0])
    assert python == "/opt/ollagraph/bin/python"
    run(sys.executable, *arguments, cwd=tmp_path)
    (wheel,) = tmp_path.glob("wheel/*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    packages = [it for folder in ("auth", "backends", "db", "gateway", "resolvers", "schema", "server")
                for it in (ROOT / folder).rglob("*.py")]  # fmt: skip
    assert {str(path.relative_to(ROOT)) for path in packages} <= names
    assert {f"ollagraph_data/alembic/{path.name}" for path in (ROOT / "alembic").glob("*.py")} <= names
    assert "ollagraph_data/web/index.html" in names


def test_the_image_runs_as_nobody_and_tells_its_health():
    final = DOCKERFILE.read_text().rpartition("\nFROM ")[2]
    assert {"USER 10001:10001", "STOPSIGNAL SIGTERM", "VOLUME /data"} <= set(final.splitlines())
    health = final.partition("HEALTHCHECK")[2].partition("CMD ")[2].splitlines()[0]
    program, flag, code = json.loads(health)
    assert (program, flag) == ("python", "-c")
    compile(code, "HEALTHCHECK", "exec")


def test_the_services_of_compose_use_what_there_is():
    compose = read_yaml(COMPOSE / "compose.yaml")
    for name, service in compose["services"].items():
        assert set(service.get("networks", [])) <= set(compose["networks"]), name
        assert set(service.get("secrets", [])) <= set(compose["secrets"]), name
        assert set(service.get("depends_on", {})) <= set(compose["services"]), name
        assert ":" in service["image"] or service["image"] == "ollagraph", name
        for mount in service.get("volumes", []):
            source = mount.partition(":")[0]
            made_by_hand = source == "./tls"
            assert source in compose["volumes"] or made_by_hand or (COMPOSE / source).is_file(), mount
    for name in ("gateway", "migrate", "nginx"):
        assert compose["services"][name]["read_only"], name
    assert compose["services"]["gateway"]["cap_drop"] == ["ALL"]


def test_a_gateway_of_compose_starts_in_production_with_the_secrets_that_the_script_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copy(COMPOSE / "make-secrets.sh", tmp_path)
    run(tmp_path / "make-secrets.sh")
    before = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    run(tmp_path / "make-secrets.sh")
    assert before == {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    compose = read_yaml(COMPOSE / "compose.yaml")
    assert {Path(secret["file"]).name for secret in compose["secrets"].values()} == set(before)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OLLAGRAPH_ENVIRONMENT", "production")
    for name, value in compose["services"]["gateway"]["environment"].items():
        monkeypatch.setenv(name, value.replace("/run/secrets", str(tmp_path / "secrets")))
    settings = load_settings()
    assert settings.database == f"postgresql://ollagraph:{before['postgres_password']}@postgres/ollagraph"


def test_the_chart_is_of_this_version_and_its_templates_are_kubernetes_objects():
    """Without helm, the templates are only read with each expression in them replaced."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = read_yaml(CHART / "Chart.yaml")
    assert (chart["version"], chart["appVersion"]) == (version, version)
    found: set[str] = set()
    for template in CHART.glob("templates/*.yaml"):
        lines = [line for line in template.read_text().splitlines() if not re.fullmatch(r"\s*\{\{-.*\}\}", line)]
        read = yaml.safe_load(re.sub(r"\{\{.*?\}\}", "x", "\n".join(lines)))
        assert {"apiVersion", "kind", "metadata"} <= set(read), template.name
        found.add(read["kind"])
    assert found == {"Deployment", "Job", "Service", "Ingress", "PodDisruptionBudget", "NetworkPolicy"}
    values = read_yaml(CHART / "values.yaml")
    used = {it for file in CHART.rglob("templates/*") for it in re.findall(r"\.Values\.(\w+)", file.read_text())}
    assert used == set(values)


if shutil.which("helm"):  # it is in no package that `make` could install

    def test_helm_takes_the_chart():
        run("helm", "lint", "--strict", CHART)
        rendered = run("helm", "template", "it", CHART, "--kube-version", "1.31", "--set", "ingress.enabled=true")
        kinds = [each["kind"] for each in yaml.safe_load_all(rendered)]
        assert len(kinds) == 6


def test_the_unit_starts_the_gateway_and_lets_it_finish(tmp_path: Path):
    lines = [line for line in UNIT.read_text().splitlines() if line and not line.startswith(("#", "["))]
    unit = dict(line.split("=", 1) for line in lines)
    assert unit["ExecStart"].endswith("/bin/ollagraph serve")
    assert unit["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert float(unit["TimeoutStopSec"]) > gateway_settings(tmp_path, "sqlite://", None, drain_time=10).drain_time
    assert {"DynamicUser", "NoNewPrivileges", "ProtectSystem"} <= set(unit)


if shutil.which("systemd-analyze"):  # it is not on every machine

    def test_systemd_takes_the_unit(tmp_path: Path):
        unit = tmp_path / UNIT.name
        unit.write_text(UNIT.read_text().replace("/opt/ollagraph/bin/ollagraph", shutil.which("true") or ""))
        run("systemd-analyze", "verify", unit)
