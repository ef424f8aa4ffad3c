"""What is shipped for running the server still fits the server: flags, routes, folders, metrics."""

from __future__ import annotations

import argparse
import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from kaelum_adapters.openai_api import health_routes, keys_command, serve_command
from kaelum_adapters.openai_api.options import ServerOptions
from kaelum_adapters.openai_api.telemetry import ObservedRunner, Telemetry
from kaelum_graph.cli.parser import settings_of
from kaelum_graph.config import Settings
from tests.adapters.scripted_runner import ScriptedRunner, ask, whole_run
from tests.graphs.conftest import MakeKaelum

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
UNIT = (ROOT / "deploy" / "kaelum.service").read_text()
DEPLOY = (ROOT / "docs" / "deploy.md").read_text()


@pytest.fixture
def commands() -> argparse.ArgumentParser:
    """The command line, as far as it serves."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    subparsers = parser.add_subparsers(required=True)
    serve_command.register(subparsers)
    keys_command.register(subparsers)
    return parser


def instruction(name: str) -> str:
    """The last `name` instruction of the Dockerfile, its lines joined."""
    return re.findall(rf"^{name} (.*)$", DOCKERFILE.replace("\\\n", " "), re.MULTILINE)[-1]


def test_the_commands_of_image_compose_file_and_unit_are_understood(commands: argparse.ArgumentParser) -> None:
    image: list[str] = yaml.safe_load(instruction("CMD"))
    unit = re.search(r"^ExecStart=\S+/kaelum (.*)$", UNIT, re.MULTILINE)
    assert unit
    compose = [word.replace("${KAELUM_MODEL:-", "").rstrip("}") for word in COMPOSE["kaelum"]["command"]]
    for words in (image, shlex.split(unit[1]), compose):
        options = serve_command.options_of(commands.parse_args(words))
        assert options.port == 8000  # what the health check asks and the ports publish
    assert serve_command.options_of(commands.parse_args(image)).host == "0.0.0.0"
    assert serve_command.options_of(commands.parse_args(shlex.split(unit[1]))).loopback
    assert settings_of(commands.parse_args(compose)).settings.base_url == "http://vllm:8000/v1"


def test_the_commands_in_the_guide_are_understood(commands: argparse.ArgumentParser) -> None:
    said = re.findall(
        r"^    (?:docker compose run --rm --no-deps kaelum |)kaelum (serve.*|keys.*?)\s*(?:#.*)?$", DEPLOY, re.M
    )
    assert len(said) > 4
    for words in said:
        commands.parse_args(shlex.split(words))
    for option in re.findall(r"`(--[a-z-]+)`", DEPLOY):
        known = {f"--{name.replace('_', '-')}" for name in [*ServerOptions.model_fields, *Settings.model_fields]}
        assert option in known | {"--tenant", "--tool-call-parser", "--privileged"}, option


def test_the_limits_in_the_guide_are_the_real_ones() -> None:
    fields = ServerOptions.model_fields
    table = DEPLOY[DEPLOY.index("## Limits") : DEPLOY.index("## Security")]
    for name, value in (
        ("max_running", "64"),
        ("queue_size", "256"),
        ("request_deadline", "600"),
        ("drain_seconds", "30"),
    ):
        assert float(fields[name].default) == float(value)
        assert f"--{name.replace('_', '-')}" in table
        assert value in table
    assert (fields["body_seconds"].default, fields["max_body_bytes"].default) == (30, 8 * 2**20)
    assert (fields["max_depth"].default, fields["max_messages"].default, fields["max_n"].default) == (64, 2048, 16)


def test_health_checks_ask_routes_that_are_there() -> None:
    routes = {getattr(route, "path", "") for route in health_routes.router.routes}
    asked = set(re.findall(r"127\.0\.0\.1:8000(/\w+)", instruction("HEALTHCHECK")))
    asked |= set(re.findall(r"path: (/\w+), port: 8000", DEPLOY))
    assert asked == {"/health", "/ready"}
    assert asked <= routes


def test_settings_in_the_environment_are_settings() -> None:
    texts = DOCKERFILE + UNIT + (ROOT / "compose.yaml").read_text().split("services:")[1] + DEPLOY
    known = {f"KAELUM_{name.upper()}" for name in Settings.model_fields}
    # Read by the entrypoint, and by Compose itself.
    known |= {"KAELUM_API_KEY_FILE", "KAELUM_MODEL", "KAELUM_PORT", "KAELUM_"}
    assert set(re.findall(r"KAELUM_[A-Z_]*", texts)) <= known


def test_the_image_runs_as_an_ordinary_user_on_a_signal_that_reaches_it() -> None:
    assert instruction("USER") == "10001:10001"
    assert yaml.safe_load(instruction("ENTRYPOINT")) == ["tini", "--", "kaelum-entrypoint"]
    copied = {word for words in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.M) for word in words.split()[:-1]}
    sources = {word for word in copied if not word.startswith("--")}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sources == allowed
    assert all((ROOT / name).exists() for name in sources)


def test_the_compose_file_keeps_its_promises() -> None:
    kaelum, vllm = COMPOSE["kaelum"], COMPOSE["vllm"]
    assert all(port.startswith("127.0.0.1:") for port in kaelum["ports"])
    assert "ports" not in vllm
    assert kaelum["depends_on"] == {"vllm": {"condition": "service_healthy"}}
    assert kaelum["read_only"]
    assert kaelum["cap_drop"] == ["ALL"]
    assert float(kaelum["stop_grace_period"].removesuffix("s")) > ServerOptions().drain_seconds
    assert vllm["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert kaelum["secrets"] == vllm["secrets"] == ["upstream_key"]
    assert "deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_vllm_command_is_shell_that_parses() -> None:
    script = COMPOSE["vllm"]["command"][0].replace("$$", "$")
    subprocess.run(["sh", "-n", "-c", script], check=True, timeout=10)
    words = shlex.split(script.replace("\\\n", " "))
    assert words[words.index("exec") :][:4] == ["exec", "vllm", "serve", "$MODEL"]


def test_the_entrypoint_reads_the_key_from_a_file_and_hands_over(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    program = tmp_path / "kaelum"
    program.write_text('#!/bin/sh\necho "$KAELUM_API_KEY|${KAELUM_API_KEY_FILE-unset}|$1|$2|$$"\n')
    program.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    command = ["sh", str(ROOT / "deploy" / "entrypoint.sh"), "serve", "two words"]

    def output(**more: str) -> list[str]:
        process = subprocess.Popen(command, env=environ | more, stdout=subprocess.PIPE, text=True)
        said, _ = process.communicate(timeout=10)
        return [*said.strip().split("|"), str(process.pid)]

    *said, shown_pid, pid = output(KAELUM_API_KEY_FILE=str(tmp_path / "key"))
    assert said == ["s3cret", "unset", "serve", "two words"]
    assert shown_pid == pid  # it is replaced, so signals reach Kaelum
    assert output(KAELUM_API_KEY="from-env")[0] == "from-env"
    assert output()[0] == ""


def test_the_unit_leaves_the_sandbox_what_it_needs() -> None:
    reader = configparser.ConfigParser(strict=False, interpolation=None)
    reader.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    reader.read_string(UNIT)
    service = dict(reader["Service"])
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    taken_from_the_sandbox = {"RestrictNamespaces", "MemoryDenyWriteExecute", "PrivateUsers", "DynamicUser"}
    assert not taken_from_the_sandbox & set(service)
    assert service["SystemCallFilter"].startswith("~")
    assert not {"@mount", "@sandbox", "@process", "@ipc"} & set(service["SystemCallFilter"].lstrip("~").split())
    assert service["SystemCallErrorNumber"] == "EPERM"
    assert float(service["TimeoutStopSec"]) > ServerOptions().drain_seconds + 20


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / "kaelum.service"
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT, flags=re.MULTILINE))
    command = ["systemd-analyze", "verify", "--man=no", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


async def test_the_table_of_metrics_is_the_registry(make_kaelum: MakeKaelum) -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    rows = re.findall(r"^\| `(kaelum:\w+)` \| (\w+) \| (.*?) ?\| \S.* \|$", page, re.MULTILINE)
    documented = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert len(documented) == len(rows)

    kaelum = make_kaelum(lambda request, k: "\\boxed{4}", model="tiny", slots=8)
    await kaelum.aask("What is 2 + 2?", sims=2)  # the learner and the slots are told of from the first search on
    telemetry = Telemetry(kaelum=kaelum)
    async for _ in ObservedRunner(ScriptedRunner(whole_run()), telemetry).run(ask()):
        pass
    real: dict[str, tuple[str, tuple[str, ...]]] = {}
    for collector in telemetry.registry._collector_to_names:
        metric: Any = collector
        if hasattr(metric, "_labelnames"):
            suffix = "_total" if metric._type == "counter" else ""
            real[metric._name + suffix] = (metric._type, tuple(metric._labelnames))
    scraped = text_string_to_metric_families(generate_latest(telemetry.registry).decode())
    counted = {name.removesuffix("_total") for name in real}
    for family in scraped:
        if family.name.startswith("kaelum:") and not family.name.endswith("_created") and family.name not in counted:
            counter = family.type == "counter"
            real[family.name + "_total" * counter] = (
                "counter" if counter else "gauge",
                tuple(family.samples[0].labels),
            )
    assert documented == real


def test_the_queries_in_the_guide_ask_for_metrics_that_are_there() -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    documented = set(re.findall(r"^\| `(kaelum:\w+)`", page, re.MULTILINE))
    asked = {name.removesuffix("_bucket") for name in re.findall(r"(kaelum:\w+)[\[{]", page)}
    assert len(asked) > 8
    assert asked <= documented
