"""Tokens, health, metrics, the page, and the API key."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="server", est_seconds=5)

KEY = "a-secret-key"


@pytest.fixture(scope="module")
def server(start: Callable) -> object:
    return start("--api-key", KEY)


@pytest.fixture(scope="module")
def client(server) -> httpx.Client:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        yield client


def test_tokenize_and_back(client):
    tokens = client.post("/v1/tokenize", json={"prompt": "1+1=ü"}).json()
    assert tokens["count"] == len(tokens["tokens"]) == 6
    back = client.post("/v1/detokenize", json={"tokens": tokens["tokens"]}).json()
    assert back["prompt"] == "1+1=ü"


def test_tokenize_of_messages_uses_the_template(client):
    messages = [{"role": "user", "content": "1+1"}]
    tokens = client.post("/v1/tokenize", json={"messages": messages}).json()["tokens"]
    assert tokens == list(b"1+1=")


def test_bad_tokens_are_refused(client):
    assert client.post("/v1/detokenize", json={"tokens": [-1]}).status_code == 400
    assert client.post("/v1/tokenize", json={}).status_code == 400


def test_metrics_tell_the_load_and_the_kernels(client):
    body = {"model": "tiny", "prompt": "1+1=", "temperature": 0}
    assert client.post("/v1/completions", json=body).status_code == 200
    text = client.get("/metrics").text
    for name in (
        "inferplane_running 0.0",
        "inferplane_waiting 0.0",
        "inferplane_output_tokens_total",
        "inferplane_prompt_tokens_total",
        "inferplane_cache_hit_ratio",
        'inferplane_pages{group="full",state="free"}',
        "inferplane_time_to_first_token_seconds_count 1.0",
        "inferplane_inter_token_seconds_count",
        'op="attention"',
    ):
        assert name in text


def test_the_page_and_its_data_are_there(client):
    assert "Inferplane" in client.get("/").text
    assert client.get("/status").json()["state"] == "ready"


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic x", KEY])
def test_without_the_key_nothing_is_answered(server, header):
    headers = {"Authorization": header} if header else {}
    answer = httpx.get(server.url + "/v1/models", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_health_and_metrics_need_no_key(server):
    assert httpx.get(server.url + "/health").status_code == 200
    assert httpx.get(server.url + "/metrics").status_code == 200


def test_the_key_is_in_no_log(server, client):
    client.get("/v1/models")
    assert KEY not in server.log.read_text()
