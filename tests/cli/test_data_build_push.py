"""`data build --push`: a finished build's folder as a data set of the hub, against a real hub over HTTP."""

import pytest
from data_recipes import manifest_of, write_build_inputs
from hub_server import serving
from teacher_server import running_teacher_server

TOKEN = "hf_a-token-that-is-in-no-file"
REPOSITORY = "datasets/me/small"


@pytest.fixture
def hub():
    with serving() as hub:
        yield hub


@pytest.fixture
def push(command, hub, tmp_path):
    """Runs `data build --push me/small` on the small recipe in the command's folder, with the token in the environment."""

    def run(server, *words, token=TOKEN):
        recipe = write_build_inputs(command.folder, base_url=server.base_url)
        environment = hub.environment(tmp_path / "cache") | {"HF_TOKEN": token}
        return command("data", "build", recipe, "-o", "output=out", "--push", "me/small", *words, env=environment)

    return run


def newest_files(hub):
    return hub.commits[REPOSITORY][hub.branches[REPOSITORY]["main"]]


def uploads(hub):
    return [request for request in hub.requests if request.startswith("PUT ")]


def test_a_finished_build_is_uploaded_and_its_address_is_said(command, hub, push):
    hub.push(REPOSITORY, {".gitattributes": b""})
    with running_teacher_server() as server:
        process = push(server)
    assert process.returncode == 0, process.stderr
    sha = hub.branches[REPOSITORY]["main"]
    assert process.stdout.splitlines()[-1] == f"uploaded: {hub.url}/{REPOSITORY}/commit/{sha}"
    out = command.folder / "out"
    names = ("records.jsonl", "README.md", "manifest.yaml")
    assert newest_files(hub) == {".gitattributes": b"", **{name: (out / name).read_bytes() for name in names}}
    assert hub.tokens == {TOKEN} and len(uploads(hub)) == 1
    assert TOKEN not in process.stdout + process.stderr
    assert not any(TOKEN.encode() in file.read_bytes() for file in out.iterdir())
    assert manifest_of(command.folder)["sources"]["alpaca"]["files"] == "alpaca.json"


def test_an_upload_that_broke_off_goes_on_with_the_same_command_and_ends_once(hub, push):
    hub.push(REPOSITORY, {})
    hub.takes_commits = False
    with running_teacher_server() as server:
        process = push(server)
        assert process.returncode == 2 and "error: me/small: the hub did not take the records" in process.stderr
        assert len(uploads(hub)) == 1 and not newest_files(hub)
        hub.takes_commits = True
        assert push(server).returncode == 0
        sha = hub.branches[REPOSITORY]["main"]
        process = push(server)
        assert process.returncode == 0 and f"uploaded: {hub.url}" in process.stdout
        assert server.billed.total() == 20
    assert len(uploads(hub)) == 1 and hub.branches[REPOSITORY]["main"] == sha and len(newest_files(hub)) == 3


def test_a_build_that_is_not_finished_is_not_uploaded(hub, push):
    hub.push(REPOSITORY, {})
    with running_teacher_server() as server:
        process = push(server, "-o", "budget=0.0008")
    assert process.returncode == 1 and "not uploaded to me/small: the build is not finished" in process.stderr
    assert not hub.tokens and not newest_files(hub)


def test_without_a_token_nothing_is_asked_and_nothing_uploaded(hub, push, command):
    hub.push(REPOSITORY, {})
    with running_teacher_server() as server:
        process = push(server, token="")
        assert process.returncode == 2 and "error: --push: no token; set HF_TOKEN" in process.stderr
        assert not server.received
    assert not hub.requests and not (command.folder / "out").exists()


def test_a_repository_that_is_not_there_is_named(push):
    with running_teacher_server() as server:
        process = push(server)
    assert process.returncode == 2 and "error: me/small: the hub did not take the records" in process.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--push", "mine"], "'mine' is no repository of the hub"),
        (["--push", "me/small", "--dry-run"], "--push: only a finished build is uploaded"),
        (["--push", "me/small", "--estimate", "5"], "--push: only a finished build is uploaded"),
    ],
)
def test_wrong_words_of_a_push_end_in_one_line(command, words, message):
    assert message in command.refused("data", "build", write_build_inputs(command.folder), *words)
