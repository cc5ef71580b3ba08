"""Who may ask, from where, how much and how often; and that nothing secret is told or written down."""

from __future__ import annotations

import json
import logging
import socket
import stat
from pathlib import Path

import httpx
import openai
import pytest

from seedbed.core.config import build
from seedbed.core.errors import ConfigError
from seedbed.serving.config import ServeConfig
from seedbed.serving.keys import KeyRing, new_key, write_keys
from seedbed.serving.limits import TokenBuckets, too_deep

from .conftest import Running, Serve

_CHAT = {"model": "policy", "messages": [{"role": "user", "content": "a secret question"}], "max_tokens": 2}


def _error(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_keys_open_and_are_kept_as_hashes(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    mine, other = new_key(file, "me"), new_key(file, "other")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert mine not in file.read_text()
    running = serve(keys=file)
    assert running.client(mine).models.list().data
    for path in ("/v1/models", "/metrics", "/openapi.json", "/nothing", "/web/../v1/models"):
        for headers in ({}, {"authorization": "Bearer sk-seedbed-wrong"}, {"authorization": f"Basic {mine}"}):
            assert _error(httpx.get(f"{running.url}{path}", headers=headers)) == (401, "invalid_api_key")
    assert httpx.get(f"{running.url}/health").status_code == httpx.get(running.url).status_code == 200
    write_keys(file, [key for key in KeyRing(file).keys if key.name != "me"])
    with pytest.raises(openai.AuthenticationError):
        running.client(mine).models.list()
    assert running.client(other).models.list().data


def test_a_file_of_keys_that_others_can_read_is_refused(tmp_path: Path) -> None:
    new_key(tmp_path / "keys.json", "")
    (tmp_path / "keys.json").chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        KeyRing(tmp_path / "keys.json")


def test_beyond_this_machine_it_takes_a_key() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.org"):
        with pytest.raises(ConfigError, match="seedbed keys new"):
            build(ServeConfig, {"host": host})
    assert build(ServeConfig, {"host": "::1"}).loopback


def test_other_names_and_pages_of_other_sites_are_refused(running: Running, serve: Serve) -> None:
    url, port = f"{running.url}/v1/models", running.url.rpartition(":")[2]
    assert _error(httpx.get(url, headers={"host": f"rebound.example:{port}"})) == (403, "host_not_allowed")
    assert httpx.get(url, headers={"host": f"localhost:{port}"}).status_code == 200
    foreign = {"origin": "https://example.org"}
    assert _error(httpx.post(f"{running.url}/v1/search", json={"query": "a"}, headers=foreign)) == (
        403, "origin_not_allowed",
    )  # fmt: skip
    assert httpx.get(url, headers={"origin": running.url}).status_code == 200
    allowing = serve(allow_origins=("https://example.org",))
    asked = {**foreign, "access-control-request-method": "POST"}
    before = httpx.options(f"{allowing.url}/v1/search", headers=asked)
    answer = httpx.get(f"{allowing.url}/v1/models", headers=foreign)
    for one in (before, answer):
        assert one.headers["access-control-allow-origin"] == "https://example.org"
    assert before.status_code == 204
    assert "access-control-allow-origin" not in httpx.get(f"{allowing.url}/v1/models").headers


def test_every_answer_carries_the_headers_of_safety(running: Running) -> None:
    for path in ("/", "/v1/models", "/nothing", "/web/nothing"):
        headers = httpx.get(f"{running.url}{path}").headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers
    assert "frame-ancestors 'none'" in httpx.get(f"{running.url}/v1/models").headers["content-security-policy"]


def test_bodies_have_bounds(serve: Serve) -> None:
    running = serve(max_body_bytes=2000, patience=0.5)
    url = f"{running.url}/v1/tokenize"
    large = json.dumps({"model": "base", "prompt": "x" * 2000}).encode()
    kind = {"content-type": "application/json"}
    assert _error(httpx.post(url, content=large, headers=kind)) == (413, "body_too_large")
    assert _error(httpx.post(url, content=iter([large]), headers=kind)) == (413, "body_too_large")  # untold length
    deep = b'{"model": "base", "prompt": ' + b"[" * 100 + b"]" * 100 + b"}"
    assert _error(httpx.post(url, content=deep, headers=kind)) == (400, "nested_too_deeply")
    assert _error(httpx.post(url, content=b"{}", headers={"content-type": "text/plain"})) == (415, "not_json")
    assert httpx.post(url, content=b"\xff{", headers=kind).status_code == 400
    assert httpx.post(url, content=b'{"model": "base", "prompt": "\\ud800"}', headers=kind).status_code == 400
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as never:
        never.sendall(
            f"POST /v1/tokenize HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            "Content-Length: 50\r\n\r\n{".encode()
        )
        told = b"".join(iter(lambda: never.recv(4096), b""))  # until the server closes
    assert told.startswith(b"HTTP/1.1 408")
    assert b"body_timeout" in told
    for beginning in (b"", b"POST /v1/tokenize HT"):
        with socket.create_connection((host, int(port)), timeout=5) as silent:
            silent.sendall(beginning)
            assert silent.recv(100) == b""


def test_depth_is_that_of_brackets_outside_of_texts() -> None:
    def nested(depth: int) -> bytes:
        return b'{"a":[' * (depth // 2) + b"]}" * (depth // 2)

    assert not too_deep(nested(64), 64)
    assert too_deep(nested(66), 64)
    assert not too_deep(json.dumps({"text": '[{"\\[' * 1000}).encode(), 3)
    assert not too_deep(b"[" + b"[],{}," * 1000 + b"[]]", 2)
    assert too_deep(b"[" * 1000, 64)


def test_rates_are_bounded_for_each_client(serve: Serve) -> None:
    now = 0.0
    buckets = TokenBuckets(rate=2, burst=3, clock=lambda: now)
    assert [buckets.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.wait("b") == 0
    now = 1.0
    assert [buckets.wait("a") for _ in range(3)] == [0, 0, 0.5]
    running = serve(requests_per_second=0.01, burst=2)
    found = [httpx.get(f"{running.url}/v1/models") for _ in range(3)]
    assert [one.status_code for one in found] == [200, 200, 429]
    assert int(found[2].headers["retry-after"]) > 50


def test_logs_and_errors_hold_neither_texts_nor_paths(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running = serve()
    caplog.set_level(logging.INFO)
    url = f"{running.url}/v1/chat/completions"
    assert httpx.post(f"{url}?question=secret", json=_CHAT).status_code == 200
    httpx.get(f"{running.url}/secret")

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret question")

    monkeypatch.setattr(running.service.voices["policy"], "encode", broken)
    answer = httpx.post(url, json=_CHAT)
    assert answer.status_code == 500
    assert "RuntimeError" in caplog.text
    assert "POST /v1/chat/completions 200" in caplog.text
    ours = "\n".join(one.getMessage() for one in caplog.records if one.name != "httpx")
    assert "secret" not in answer.text + ours


def test_metrics_count_requests_tokens_and_times(serve: Serve) -> None:
    running = serve()
    answer = httpx.post(f"{running.url}/v1/chat/completions", json=_CHAT).json()
    httpx.get(f"{running.url}/unknown/path")
    found = httpx.get(f"{running.url}/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in found.splitlines() if not line.startswith("#"))
    assert float(lines['seedbed_new_tokens_total{model="policy"}']) == answer["usage"]["completion_tokens"]
    assert float(lines['seedbed_first_token_seconds_count{model="policy"}']) == 1
    assert float(lines['seedbed_requests_total{method="POST",path="/v1/chat/completions",status="200"}']) == 1
    assert float(lines['seedbed_running{model="policy"}']) == 0
    assert "unknown" not in found
