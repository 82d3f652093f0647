"""The compose stack, as far as it can be judged without a Docker engine.

`compose-spec.json` is the schema of the Compose Specification (compose-spec/compose-spec, Apache-2.0), unchanged.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic_settings import BaseSettings
from tests import engines

from handrail.engines import kafka_jars
from handrail_agents.catalog.planner import Budget, plan_settings
from handrail_runtime.settings import EngineSettings
from handrail_sdk.ai.endpoint import PREFIX, Endpoint, endpoint_from

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
NGINX = (ROOT / "deploy" / "front" / "nginx.conf").read_text()

PORTS = {"gateway": "8081", "notifier": "8082", "orchestrator": "8083", "agents": "8084"}
ONE_SHOT = {"migrate": ["handrail", "db", "upgrade"], "topics": ["handrail", "topics", "apply"]}


def test_the_file_is_valid_compose() -> None:
    schema = json.loads((Path(__file__).parent / "compose-spec.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    faults = [
        f"{error.json_path}: {error.message}" for error in jsonschema.Draft7Validator(schema).iter_errors(COMPOSE)
    ]
    assert faults == []


def test_every_service_of_the_workspace_is_in_the_stack() -> None:
    assert {path.name for path in (ROOT / "services").iterdir() if path.is_dir()} == set(PORTS)
    assert set(PORTS) < set(SERVICES)


@pytest.mark.parametrize("service", PORTS)
def test_a_service_runs_its_own_module_and_is_probed_where_it_listens(service: str) -> None:
    definition = SERVICES[service]
    assert definition["command"] == ["python", "-m", f"handrail_{service}"]
    assert definition["build"]["args"] == {"SERVICE": service, "PORT": PORTS[service]}
    environment = definition["environment"]
    assert environment[f"HANDRAIL_{service.upper()}__PORT"] == PORTS[service]
    assert environment[f"HANDRAIL_{service.upper()}__HOST"] == "0.0.0.0"


@pytest.mark.parametrize("job", ONE_SHOT)
def test_services_wait_until_the_one_shot_jobs_are_done(job: str) -> None:
    assert SERVICES[job]["command"] == ONE_SHOT[job]
    assert "restart" not in SERVICES[job]
    assert SERVICES[job]["healthcheck"] == {"disable": True}
    for service in PORTS:
        assert SERVICES[service]["depends_on"][job] == {"condition": "service_completed_successfully"}


def test_whoever_is_waited_for_as_healthy_has_a_health_check() -> None:
    for name, definition in SERVICES.items():
        for needed, how in definition.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[needed] or needed in PORTS, f"{name} waits for {needed} in vain"


def test_one_address_is_published_and_only_on_loopback() -> None:
    published = {name: definition["ports"] for name, definition in SERVICES.items() if "ports" in definition}
    assert published == {"front": ["127.0.0.1:${HANDRAIL_PORT:-8080}:8080"]}


def test_engines_are_on_a_network_without_a_way_in_or_out() -> None:
    assert COMPOSE["networks"]["engines"]["internal"] is True
    for engine in ("postgres", "valkey", "kafka"):
        assert SERVICES[engine]["networks"] == ["engines"]


def test_the_stack_and_the_tests_run_the_same_engines() -> None:
    images = (engines.POSTGRES_IMAGE, engines.VALKEY_IMAGE, engines.KAFKA_IMAGE)
    assert tuple(SERVICES[name]["image"] for name in ("postgres", "valkey", "kafka")) == images
    assert f"apache/kafka:{kafka_jars.VERSION}" == engines.KAFKA_IMAGE


def test_our_containers_have_no_more_rights_than_they_need() -> None:
    for name in (*PORTS, *ONE_SHOT, "cli", "front"):
        definition = SERVICES[name]
        assert definition["read_only"] is True, name
        assert definition["cap_drop"] == ["ALL"], name
        assert definition["security_opt"] == ["no-new-privileges:true"], name


@pytest.mark.parametrize("service", PORTS)
def test_each_variable_is_a_setting_that_the_service_knows(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip(f"handrail_{service}.settings", exc_type=ImportError)
    for name, value in SERVICES[service]["environment"].items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value))
    found = [
        value()
        for _, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, BaseSettings) and value.__module__ == module.__name__
    ]
    assert int(PORTS[service]) in _values(found, "port"), "the port is read from another variable"
    assert "0.0.0.0" in _values(found, "host"), "the host is read from another variable"


def test_a_model_is_a_matter_of_two_settings_in_compose_too() -> None:
    environment = SERVICES["agents"]["environment"]
    ours = {k: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", v) for k, v in environment.items() if k.startswith(PREFIX)}
    assert set(ours) == {
        *(f"{PREFIX}{field.upper()}" for field in Endpoint.model_fields),
        *(f"{PREFIX}PLAN_{field.upper()}" for field in (*Budget.model_fields, "agents")),
    }
    assert all(environment[k] == f"${{{k}:-}}" for k in ours)
    assert endpoint_from(ours) is None, "left empty, no endpoint is meant"
    assert plan_settings(ours) == (Budget(), None)
    given = {**ours, f"{PREFIX}BASE_URL": "http://127.0.0.1:11434/v1", f"{PREFIX}MODEL": "qwen3"}
    assert endpoint_from(given) == Endpoint(base_url="http://127.0.0.1:11434/v1", model="qwen3")
    pinned = (ROOT / "requirements" / "image.txt").read_text()
    tested = (ROOT / "requirements" / "dev.txt").read_text()
    (pin,) = re.findall(r"^pydantic-ai-slim==\S+", pinned, flags=re.MULTILINE)
    assert pin in tested, "the images have the version that is tested"


def test_the_engines_addresses_are_settings_that_every_service_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = SERVICES["gateway"]["environment"]
    for name, value in environment.items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value))
    settings = EngineSettings()
    assert settings.postgres_dsn.get_secret_value() == "postgresql://handrail:handrail@postgres:5432/handrail"
    assert settings.redis_url.get_secret_value() == "redis://valkey:6379/0"
    assert settings.kafka == "kafka:9092"
    shared = {name for name in environment if "__" not in name}
    assert shared <= {f"HANDRAIL_{field}".upper() for field in EngineSettings.model_fields}


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/workflows/req_8847_abc/events", "notifier"),
        ("/inbox/events", "notifier"),
        ("/events", "notifier"),
        ("/ag-ui", "notifier"),
        ("/workflows", "gateway"),
        ("/workflows/req_8847_abc/state", "gateway"),
        ("/workflows/a/b/events", "gateway"),
        ("/workflows/events", "gateway"),
        ("/inbox", "gateway"),
        ("/console/events", "gateway"),
        ("/events.json", "gateway"),
        ("/sse-tickets", "notifier"),
        ("/slack/interactions", "notifier"),
        ("/healthz", "gateway"),
    ],
)
def test_streams_go_to_the_notifier_and_the_rest_to_the_gateway(path: str, target: str) -> None:
    streams = re.findall(r"location ~ (\S+) \{", NGINX)
    assert len(streams) == 1
    assert ("notifier" if re.search(streams[0], path) else "gateway") == target
    assert _block(f"location ~ {streams[0]}") >= {"proxy_pass $notifier;", "proxy_buffering off;"}
    assert "proxy_pass $gateway;" in _block("location / ")
    for service in ("gateway", "notifier"):
        assert f"set ${service} http://{service}:{PORTS[service]};" in NGINX


def test_the_image_holds_every_member_of_the_workspace_and_no_editable_one() -> None:
    installed = set(re.findall(r"(?<=\s)\./(\S+)", DOCKERFILE))
    members = {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/*/pyproject.toml")} | {"simulators"}
    assert installed == members
    assert "--require-hashes -r requirements/image.txt" in DOCKERFILE
    assert not re.search(r"pip install[^&]*\s(-e|--editable)\s", DOCKERFILE)


def test_the_image_runs_as_an_ordinary_user() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER (\d+):\d+$", final, flags=re.MULTILINE)
    assert final.index("USER ") < final.index("CMD ")


def test_what_the_image_copies_reaches_the_builder() -> None:
    sources = {
        word
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE)
        for word in line.split()
    }
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sources == allowed
    for source in sources:
        assert (ROOT / source).exists(), source


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_the_health_check_believes_only_a_200_from_the_container_itself(status: int | None, healthy: bool) -> None:
    found = re.search(r"HEALTHCHECK[^\[]*(\[.+\])", DOCKERFILE)
    assert found
    command = json.loads(found.group(1))
    asked: list[str] = []

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status or 0)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # silent
            pass

    with HTTPServer(("127.0.0.1", 0), Service) as server:
        serving = threading.Thread(target=server.handle_request)
        if status:
            serving.start()
        else:
            server.server_close()
        # A proxy that is not there: the check must not go through it.
        environment = {
            **os.environ,
            "HANDRAIL_HEALTH_PORT": str(server.server_port),
            "http_proxy": "http://127.0.0.1:1",
        }
        answer = subprocess.run([sys.executable, *command[1:]], env=environment, capture_output=True, check=False)
        if status:
            serving.join()
    assert (answer.returncode == 0) is healthy
    assert asked == (["/healthz"] if status else [])


def _block(opening: str) -> set[str]:
    """The directives of an nginx block without blocks inside."""
    body = NGINX.split(opening, 1)[1].split("{", 1)[1].split("}", 1)[0]
    return {line.strip() for line in body.splitlines()}


def _values(settings: list[BaseSettings], field: str) -> set[object]:
    found: set[object] = set()

    def look(thing: object) -> None:
        if isinstance(thing, dict):
            for name, value in thing.items():
                if name == field:
                    found.add(value)
                look(value)

    for one in settings:
        look(one.model_dump())
    return found
