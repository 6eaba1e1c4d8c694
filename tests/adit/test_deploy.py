"""Checks of `deploy/` (compose file, systemd units, Dockerfile, secrets) and docs/operate.md."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adit import cli

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
OURS = ("prepare", "web", "dicomweb", "worker", "scheduler", "receiver")

needs_compose = pytest.mark.skipif(
    shutil.which("docker-compose") is None, reason="needs compose: apt install docker-compose"
)
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze: apt install systemd"
)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    done = subprocess.run(
        ["docker-compose", "-f", "deploy/compose.yaml", "config", "--format", "json"],
        cwd=ROOT,
        env={**os.environ, "ADIT_HOSTS": "adit.example.org"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@needs_compose
def test_each_service_has_a_health_check_limits_and_no_privileges(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {*OURS, "postgres", "rabbitmq", "redis", "proxy"}
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert {"cpus", "memory", "pids"} <= set(limits), name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert not service.get("privileged"), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        user = service["user"].split(":")[0]
        assert user.isdigit(), name
        assert user != "0", name
        assert service["secrets"], name
        if name != "prepare":
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name


@needs_compose
def test_services_run_existing_commands(compose: dict[str, Any]) -> None:
    for name in OURS:
        (command,) = compose["services"][name]["command"]
        assert command in cli.COMMANDS
        assert command == name


@needs_compose
def test_the_compose_file_has_no_secrets_and_isolates_internal_services(
    compose: dict[str, Any],
) -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    assert not re.search(r"://[^/\s]*:[^/\s]*@", text)
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            secret = "PASSWORD" in name or "KEY" in name or name.endswith("_URL_FILE")
            assert not secret or str(value).startswith("/run/secrets/"), name
    assert compose["networks"]["inside"]["internal"] is True
    for name in ("postgres", "rabbitmq", "redis"):
        assert list(compose["services"][name]["networks"]) == ["inside"]
        assert "ports" not in compose["services"][name]
    for name in ("web", "dicomweb"):
        assert "ports" not in compose["services"][name]


@needs_compose
def test_environment_variables_of_services_are_known_settings(compose: dict[str, Any]) -> None:
    known = settings_read()
    for name in OURS:
        for key in compose["services"][name]["environment"]:
            assert key.removesuffix("_FILE") in known or key in known, key


def test_secrets_are_created_once_and_are_consistent(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"

    def make() -> dict[str, str]:
        done = subprocess.run(
            [str(DEPLOY / "make-secrets.sh"), str(folder)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "Back up" in done.stderr
        return {path.name: path.read_text() for path in folder.iterdir()}

    made = make()
    assert make() == made, "existing secrets must not change"
    assert re.fullmatch(r"[0-9a-f]{64}\n", made["master.key"])
    assert made["postgres_password"].strip() in made["database_url"]
    for url, file in (("broker_url", "rabbitmq.conf"), ("redis_url", "redis.conf")):
        password = made[url].rpartition("@")[0].rpartition(":")[2]
        assert len(password) >= 40
        assert password in made[file]
    assert len({made[name] for name in ("master.key", "web.key", "metrics_token")}) == 3
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o777 == 0o400
    assert folder.stat().st_mode & 0o077 == 0


@needs_compose
def test_all_secrets_of_the_compose_file_are_created(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    subprocess.run([str(DEPLOY / "make-secrets.sh"), str(tmp_path)], check=True)
    made = {path.name for path in tmp_path.iterdir()} | {"tls.crt", "tls.key"}
    assert {Path(secret["file"]).name for secret in compose["secrets"].values()} == made


@needs_systemd
def test_systemd_verifies_each_unit(tmp_path: Path) -> None:
    """The program of these tests replaces /opt/adit/bin/adit, which is not installed."""
    program = str(Path(sys.executable).with_name("adit"))
    for path in (DEPLOY / "systemd").iterdir():
        if path.suffix in (".service", ".target"):
            text = path.read_text().replace("/opt/adit/bin/adit", program)
            name = path.name.replace("@.", "@1.")
            (tmp_path / name).write_text(text)
            (tmp_path / path.name).write_text(text)
    files = sorted(str(path) for path in tmp_path.iterdir() if "@." not in path.name)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files],
        capture_output=True,
        text=True,
        timeout=250,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    ours = [line for line in done.stderr.splitlines() if "adit" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_each_unit_has_a_low_exposure_for_systemd(unit: Path, tmp_path: Path) -> None:
    """The threshold 30 is an exposure of 3.0 on systemd's scale from 0 (none) to 10."""
    name = unit.name.replace("@.", "@1.")
    shutil.copy(unit, tmp_path / name)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=30", str(tmp_path / name)],
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_stop_with_kill_mode_mixed_and_run_existing_commands(unit: Path) -> None:
    text = unit.read_text()
    (command,) = re.findall(r"^ExecStart=/opt/adit/bin/adit (\S+)$", text, re.M)
    assert command in cli.COMMANDS
    assert "\nKillMode=mixed\n" in text
    assert "\nUser=adit\n" in text


def test_the_image_uses_hashed_requirements_and_an_unprivileged_user() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert "--require-hashes -r requirements/distributed.txt" in text
    assert re.search(r"^USER 10001:10001$", text, re.M)
    for name in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M):
        for part in name.split():
            assert (ROOT / part).exists(), part
            assert f"!{part}" in (ROOT / ".dockerignore").read_text().split(), part


def test_the_documentation_lists_exactly_the_settings_that_are_read() -> None:
    page = (ROOT / "docs" / "operate.md").read_text()
    table = page[page.index("## All settings") :]
    told = set(re.findall(r"`(ADIT_[A-Z_]+|DATABASE_URL|PORT)`", table))
    assert told == settings_read()
    by_file = set(re.findall(r"`(\w+)` \(`_FILE`\)", table))
    assert {"DATABASE_URL", "ADIT_BROKER_URL", "ADIT_REDIS_URL", "ADIT_METRICS_TOKEN"} <= by_file


def test_the_documentation_states_numeric_defaults() -> None:
    """Other defaults are described in words."""
    page = (ROOT / "docs" / "operate.md").read_text()
    text = (ROOT / "adit" / "config" / "settings.py").read_text()
    numbers = dict(re.findall(r'env\.int\("(\w+)", (\d+)\)', text))
    lists = re.findall(r'env\.list\("(\w+)", \[([\d, ]+)\]', text)
    numbers |= {name: values.replace(" ", "") for name, values in lists}
    assert len(numbers) > 20
    for name, value in numbers.items():
        assert f"| `{name}` | {value} |" in page, (name, value)


def test_the_documentation_names_only_existing_metrics_and_commands() -> None:
    page = (ROOT / "docs" / "operate.md").read_text()
    source = (ROOT / "adit" / "monitoring" / "metrics.py").read_text()
    for name in set(re.findall(r"\badit_[a-z_]+", page)):
        assert f'"{name.removesuffix("_total")}"' in source, name
    for command in set(re.findall(r"`adit ([a-z-]+)", page)):
        assert command in {*cli.COMMANDS, "manage"}, command


def settings_read() -> set[str]:
    """Return all names that are read from the environment; NAME stands for an OpenID provider."""
    text = (ROOT / "adit" / "config" / "settings.py").read_text()
    sign_in = (ROOT / "adit" / "accounts" / "sign_in_settings.py").read_text()
    names = re.findall(r'(?:env\.\w+|read_setting)\(\s*"([A-Z_]+)"', text)
    names += re.findall(r'read\w*\((?:read, )?"(ADIT_[A-Z_]+)"', sign_in)
    of_providers = re.findall(r'(?:prefix \+ |require\()"([A-Z_]+)"', sign_in)
    return {*names, *(f"ADIT_OIDC_NAME_{name}" for name in of_providers)}
