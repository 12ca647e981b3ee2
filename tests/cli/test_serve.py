"""`serve`'s options that are refused before a model is loaded; tests/serve/http has the server itself."""

import socket

import pytest

from orca_bench.cli.command_list import COMMANDS


def test_a_server_for_others_needs_a_key(command, tiny_model):
    line = command.refused("serve", tiny_model, "--host", "0.0.0.0")
    assert "--host: other machines could use the models without a key" in line and "ORCA_BENCH_API_KEY" in line


@pytest.mark.parametrize("key", ["schlüssel", "two words", "a\nb", "a\tb"])
def test_a_key_that_no_request_can_send_is_refused(command, tiny_model, monkeypatch, key):
    monkeypatch.setenv("ORCA_BENCH_API_KEY", key)
    assert "ORCA_BENCH_API_KEY: the key has characters" in command.refused("serve", tiny_model)


def test_wrong_options_and_models_are_refused(command, tiny_model):
    assert "no finished run" in command.refused("serve")
    assert "two models are called " in command.refused("serve", tiny_model, tiny_model)
    assert "--top-k: --greedy always takes" in command.refused("serve", tiny_model, "--greedy", "--top-k", 5)
    assert "no such run or model folder" in command.refused("serve", "nothing")
    assert "--port" in command.refused("serve", tiny_model, "--port", 70000)


def test_a_port_that_is_taken_is_named(command, tiny_model):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        line = command.refused("serve", tiny_model, "--port", port)
    assert f"127.0.0.1:{port}: cannot listen there" in line and "--host and --port name another address" in line


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "no such host"])
def test_a_host_that_cannot_be_listened_at_is_named(command, tiny_model, host):
    line = command.refused("serve", tiny_model, "--host", host, "--port", 0, "--no-key")
    assert f"{host}:0: cannot listen there" in line


def test_the_help_shows_how_others_use_it(command):
    text = command("serve", "--help").stdout
    assert all(
        word in text for word in ("lm_eval --model local-completions", "--engine api", "curl", "ORCA_BENCH_API_KEY")
    )
    assert "serve" in COMMANDS
