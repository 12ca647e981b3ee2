"""Who may use the server: its key, its names, and no page of another site."""

import pytest
from model_servers import serving

PATHS = ("/v1/models", "/metrics", "/page/settings", "/version")


@pytest.fixture(scope="module")
def locked_server(tiny_model):
    with serving(tiny_model, api_key="schlüssel", host_names=("ORCA.example",)) as running:
        yield running


def key(text):
    return {"Authorization": text.encode()}


def test_without_the_key_nothing_is_told_and_nothing_computed(locked_server):
    for headers in ({}, key("Bearer"), key("Bearer schlussel"), key("Basic schlüssel"), key("schlüssel")):
        for path in PATHS:
            response = locked_server.client.get(path, headers=headers)
            assert response.status_code == 401 and response.headers["WWW-Authenticate"] == "Bearer"
        assert locked_server.client.post("/v1/completions", json={}, headers=headers).status_code == 401
    assert locked_server.client.get("/health").status_code == 200
    assert locked_server.client.get("/").status_code == 200


def test_with_the_key_all_is_there(locked_server):
    for path in PATHS:
        assert locked_server.client.get(path, headers=key("Bearer schlüssel")).status_code == 200


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]", "[::1]:8000", "10.1.2.3", "orca.example"]
)
def test_addresses_and_its_own_names_are_taken(locked_server, host):
    assert locked_server.client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example:80"]
)
def test_a_name_that_was_made_to_point_here_is_refused(locked_server, host):
    response = locked_server.client.get("/health", headers={"Host": host})
    assert response.status_code == 421 and "--allow-host" in response.json()["error"]["message"]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1", "file://"])
def test_a_page_of_another_site_is_refused_and_reads_nothing(server, origin):
    for method in ("POST", "OPTIONS", "GET"):
        response = server.client.request(method, "/v1/completions", headers={"Origin": origin}, content=b"{}")
        assert response.status_code == 403
        assert not [name for name in response.headers if name.startswith("access-control")]


def test_the_servers_own_page_is_no_other_site(server):
    body = {"model": "model", "prompt": "Why?", "max_tokens": 1}
    headers = {"Origin": server.url}
    assert server.client.post("/v1/completions", json=body, headers=headers).status_code == 200
