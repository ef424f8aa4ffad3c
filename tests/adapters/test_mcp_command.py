"""`kaelum mcp` as hosts start it: a process of its own, on its standard streams and on HTTP."""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from kaelum_graph.cli.parser import build_command
from kaelum_graph.errors import UsageError
from tests.adapters.mcp_hosts import connected, program, text_of

QUESTION = "Solve 3x + 5 = 20 for x."
POINT = EntryPoint("mcp", "kaelum_adapters.mcp_command:register", "kaelum.commands")


def arguments(*words: str) -> argparse.Namespace:
    return build_command("mcp", POINT).parse_args(list(words))


def started(*words: str, data_dir: Path) -> subprocess.Popen[str]:
    how = program(*words, data_dir=data_dir)
    pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([how.command, *how.args], env=how.env, cwd=how.cwd, text=True, **pipes)


async def test_a_host_starts_it_and_is_told_of_its_mistakes(tmp_path: Path) -> None:
    async with Client(program(data_dir=tmp_path)) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} >= {"reason", "feedback"}
        result = await client.call_tool("feedback", {"id": "gone", "score": 1})
    assert result.is_error
    assert text_of(result) == "feedback for 'gone': no such episode."


def test_standard_output_holds_the_protocol_alone_and_the_end_of_input_ends_it(tmp_path: Path) -> None:
    info = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    call = {"name": "reason", "arguments": {"question": QUESTION}, "_meta": {"progressToken": "p"}}
    messages = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": info},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
    ]
    with started(data_dir=tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for message in messages:
            process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()
        said: list[dict[str, Any]] = []
        while not said or said[-1].get("id") != 2:
            said.append(json.loads(process.stdout.readline()))
        process.stdin.close()
        rest, notices = process.stdout.read(), process.stderr.read()
        assert process.wait(timeout=60) == 0
    first, *steps, last = said
    assert first["result"]["serverInfo"]["name"] == "kaelum"
    assert last["result"]["structuredContent"]["answer"] == "5"
    assert {step["method"] for step in steps} == {"notifications/progress"}
    assert any(step["params"]["message"].startswith("Rollouts 4 of") for step in steps)
    assert rest == ""
    assert "model: scripted" in notices
    assert "a careless print" in notices


def test_an_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    info = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": info}
    with started(data_dir=tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(hello) + "\n")
        process.stdin.flush()
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(timeout=10) == -signal.SIGINT
        finally:
            process.kill()


async def test_the_command_serves_http_until_a_signal(tmp_path: Path) -> None:
    with started("--http", "--port", "0", "--no-preload", data_dir=tmp_path) as process:
        assert process.stderr is not None
        try:
            url = None
            while url is None:
                line = process.stderr.readline()
                assert line, "it ended before it listened"
                url = re.search(r"^Kaelum serves MCP on (http://127\.0\.0\.1:\d+/mcp)$", line)
            async with connected(url[1]) as client:
                assert (await client.list_tools()).tools
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0


def test_flags_of_http_alone_need_it() -> None:
    chosen = arguments("--port", "9")
    with pytest.raises(UsageError, match="--port goes with --http"):
        chosen.run(chosen)


def test_a_wrong_flag_is_one_line() -> None:
    with pytest.raises(UsageError, match="did you mean --http"):
        arguments("--htp")
    chosen = arguments("--http", "--port", "99999")
    with pytest.raises(UsageError, match="--port has value '99999'"):
        chosen.run(chosen)


def test_the_command_opens_no_door_without_a_key() -> None:
    chosen = arguments("--http", "--host", "0.0.0.0", "--allow-host", "mcp.example.org")
    with pytest.raises(UsageError, match=r"--host 0\.0\.0\.0 opens the server"):
        chosen.run(chosen)


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    chosen = arguments()
    with pytest.raises(UsageError, match=r"pip install 'kaelum-graph\[mcp\]'"):
        chosen.run(chosen)


def test_the_help_needs_no_extra() -> None:
    script = (
        "import sys; sys.modules['mcp'] = None\n"
        "from importlib.metadata import EntryPoint; from kaelum_graph.cli.parser import build_command\n"
        "build_command('mcp', EntryPoint('mcp', 'kaelum_adapters.mcp_command:register', 'kaelum.commands'))\n"
        "print(sorted({'langgraph', 'fastapi', 'uvicorn', 'torch'} & set(sys.modules)))\n"
    )
    how = program(data_dir=Path())
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=how.env)
    assert found.stdout == "[]\n", found.stderr
