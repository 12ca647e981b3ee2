"""The hub: what is an id, which commit a revision is, what is fetched, and what is said where the hub does not give it."""

import io
import json

import pytest
from command_line import refusal_of
from hub_server import serving
from safetensors.torch import load, save

from orca_bench import hub as hub_client
from orca_bench.errors import UserError
from orca_bench.evaluate.config_building import revisions_by_task
from orca_bench.suite import TASK_BY_NAME

MODEL, WINOGRANDE = "psmathur/tiny", "datasets/allenai/winogrande"


@pytest.fixture
def hub():
    with serving() as running:
        yield running


@pytest.fixture
def environment(hub, tmp_path):
    """The variables of a command that asks the hub, with a cache of its own."""
    return hub.environment(tmp_path / "cache")


@pytest.fixture
def tiny_files(tiny_model):
    return {file.name: file.read_bytes() for file in tiny_model.iterdir()}


@pytest.fixture
def commits(hub, tiny_files):
    """Two commits of a model with other weights: a tag v1, and main, where files lie that are not the model's."""
    scaled = {name: tensor * 1.5 for name, tensor in load(tiny_files["model.safetensors"]).items()}
    other = tiny_files | {"model.safetensors": save(scaled, metadata={"format": "pt"})}
    first = hub.push(f"models/{MODEL}", other, "v1")
    unwanted = {"onnx/model.safetensors": b"x", "consolidated.safetensors": b"x", "pytorch_model.bin": b"x"}
    return {"v1": first, "main": hub.push(f"models/{MODEL}", tiny_files | unwanted)}


def rows_of(mini, count=None):
    """The files of a data set of Winogrande as the hub has them, with the mini suite's rows."""
    front = "configs:\n- config_name: winogrande_xl\n  data_files:\n"
    files = {}
    for split in ("train", "validation"):
        lines = (mini["mini:benchmarks"] / "winogrande" / f"{split}.jsonl").read_bytes().splitlines()
        files[f"xl/{split}.jsonl"] = b"\n".join(lines[:count]) + b"\n"
        front += f"  - split: {split}\n    path: xl/{split}.jsonl\n"
    return files | {"README.md": f"---\n{front}---\n".encode()}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_model_of_the_hub_is_evaluated_at_the_revision_that_is_asked_for(command, environment, commits, mini, hub):
    words = ["eval", "--model", MODEL, "--benchmarks", mini["mini:benchmarks"], "--tasks", "arc", "--limit", "2"]
    at_revision, newest = command.several([*words, "--revision", "v1"], words, env=environment)
    assert at_revision.returncode == 0, at_revision.stderr
    assert f"fetching {MODEL}@{commits['v1'][:12]} from the hub" in at_revision.stderr
    old = read(command.folder / "runs" / "psmathur--tiny@v1" / "results" / "orca-limit2.json")["model"]
    assert (old["name"], old["path"], old["revision"], old["commit"]) == (f"{MODEL}@v1", MODEL, "v1", commits["v1"])
    assert newest.returncode == 0, newest.stderr
    new = read(command.folder / "runs" / "psmathur--tiny" / "results" / "orca-limit2.json")["model"]
    assert (new["name"], new["revision"], new["commit"]) == (MODEL, None, commits["main"])
    assert old["identity"]["weights"] != new["identity"]["weights"]
    fetched = {request.split("/", 4)[4] for request in hub.requests if "GET psmathur/tiny/resolve/" in request}
    assert "model.safetensors" in fetched and "tokenizer.json" in fetched
    assert not fetched & {"onnx/model.safetensors", "consolidated.safetensors", "pytorch_model.bin"}
    # Without a network the cache does; what is not in it is said.
    offline = environment | {"HF_HUB_OFFLINE": "1"}
    fresh, absent = command.several([*words, "--fresh"], [*words, "--revision", "v2"], env=offline)
    assert fresh.returncode == 0 and commits["main"][:12] in fresh.stderr, fresh.stderr
    assert "nor in the hub's cache, and HF_HUB_OFFLINE" in refusal_of(absent)


def test_requests_fetch_no_weights_and_generate_does(command, environment, commits, mini, hub):
    words = ["--token-ids", "--model", MODEL, "--revision", commits["v1"], "--benchmarks", mini["mini:benchmarks"]]
    process = command("requests", *words, "--tasks", "arc", "--limit", "1", "--out", "r.jsonl", env=environment)
    assert process.returncode == 0, process.stderr
    assert not any("model.safetensors" in request for request in hub.requests)
    words = ["--model", MODEL, "--revision", "v1", "--greedy", "--max-new-tokens", "2"]
    process = command("generate", "hi", *words, env=environment)
    assert process.returncode == 0 and commits["v1"][:12] in process.stderr, process.stderr


def test_a_model_that_has_only_pickled_weights_is_fetched_with_them(hub, environment, tiny_files, command, tmp_path):
    import torch

    pickled = io.BytesIO()
    torch.save(load(tiny_files.pop("model.safetensors")), pickled)
    hub.push(f"models/{MODEL}", tiny_files | {"pytorch_model.bin": pickled.getvalue()})
    process = command("generate", "hi", "--model", MODEL, "--greedy", "--max-new-tokens", "2", env=environment)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize(
    ("status", "code", "message", "expected"),
    [
        (401, "RepoNotFound", "Invalid username or password.", "HTTP 401: Invalid username or password."),
        (404, "RepoNotFound", "Repository not found", "HTTP 404: Repository not found"),
        (
            403,
            "GatedRepo",
            "You are not in the list.",
            "gives this model only to whom its owners admitted: You are not in",
        ),
        (500, "", "The hub is being repaired", "The hub is being repaired"),
    ],
)
def test_what_the_hub_refuses_is_said_in_its_words(hub_here, status, code, message, expected):
    hub_here.closed["models/owner/model"] = (status, code, message)
    assert expected in refused("owner/model")


def refused(name, revision=None, kind="model"):
    with pytest.raises(UserError) as error:
        hub_client.resolve_commit(name, revision, kind)
    line = str(error.value)
    assert line.startswith(f"{name}: ") and "\n" not in line
    return line


@pytest.fixture
def hub_here(hub, tmp_path, monkeypatch):
    """The hub that this process asks."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return hub


def test_unknown_ids_revisions_and_a_hub_that_is_not_there(hub_here, commits, monkeypatch):
    from huggingface_hub import constants

    assert "check the name; for a private one set HF_TOKEN" in refused("owner/absent")
    assert "no such data set here" in refused("owner/absent", kind="dataset")
    assert "the hub has no revision 'v9' of this model" in refused(MODEL, "v9")
    assert hub_client.resolve_commit(MODEL, "v1").commit_sha == commits["v1"]
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    line = refused("owner/absent")
    assert "no such model here, and the hub does not give it" in line and "refused" in line
    assert hub_client.resolve_commit(MODEL, "v1").commit_sha == commits["v1"]  # by the cache


def test_a_refusal_of_the_hub_is_one_line_of_a_command(command, environment):
    line = command.refused("generate", "hi", "--model", "owner/absent", env=environment)
    assert "the hub shows no such model (HTTP 404: Repository not found)" in line


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("runs/minii", "did you mean 'runs/mini'?"),
        ("runs/other", "'runs' is a folder here, so this is not taken for an id of the hub"),
        ("rnus/mini/model", "did you mean 'runs'?"),
        ("./owner", "give a path, or OWNER/NAME"),
        ("/owner/name", "give a path, or OWNER/NAME"),
        ("model", "give a path, or OWNER/NAME"),
        ("owner/tokenizer.model", "give a path, or OWNER/NAME"),
        ("owner/records.jsonl", "give a path, or OWNER/NAME"),
        ("owner/name@main", "--revision"),
        ("../name", "give a path, or OWNER/NAME"),
        ("owner/na me", "give a path, or OWNER/NAME"),
    ],
)
def test_a_path_that_is_spelled_wrong_is_no_id_of_the_hub(tmp_path, monkeypatch, name, expected):
    (tmp_path / "runs" / "mini").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such model folder") as error:
        hub_client.check_hub_id(name, "model folder")
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nope.gguf", "./nope.gguf: no such GGUF file; did you mean './note.gguf'?"),
        ("nope.gguf", "nope.gguf: no such GGUF file; did you mean 'note.gguf'?"),
        ("./runs/minii", "./runs/minii: no such model folder; did you mean './runs/mini'?"),
        ("owner/xyz.gguf", "owner/xyz.gguf: no such GGUF file; give a path, or OWNER/NAME"),
    ],
)
def test_a_hint_is_a_path_as_it_was_typed_and_a_file_is_no_folder(command, name, message):
    (command.folder / "runs" / "mini").mkdir(parents=True, exist_ok=True)
    (command.folder / "note.gguf").write_bytes(b"")
    assert message in command.refused("eval", "--model", name)


def test_a_hint_at_the_root_has_one_slash():
    with pytest.raises(UserError, match="did you mean '/[^/]"):
        hub_client.check_hub_id("/tmpp/x", "model folder")


@pytest.mark.parametrize("name", ["psmathur/orca_mini_13b", "meta-llama/Llama-3.1-8B", "01-ai/Yi-6B", "a/b.v2"])
def test_ids_of_the_hub_are_ids(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    hub_client.check_hub_id(name, "model folder")


def test_a_folder_has_no_revision(command, tiny_model, mini):
    for words in (("generate", "hi"), ("eval", "--benchmarks", mini["mini:benchmarks"])):
        line = command.refused(*words, "--model", tiny_model, "--revision", "main")
        assert "--revision: " in line and "only models of the hub have revisions" in line


def test_rows_of_the_hub_have_the_commit_that_is_asked_for(command, environment, hub, mini, tiny_model, monkeypatch):
    old = hub.push(WINOGRANDE, rows_of(mini, 12))
    new = hub.push(WINOGRANDE, rows_of(mini))
    words = ["eval", "--model", tiny_model, "--tasks", "winogrande", "--limit", "3"]
    at_old = ["--out", "old.json", "--benchmarks-revision", f"winogrande={old}"]
    # verify reads the rows of the commit that a result names.
    commands = [[*words, "--out", "new.json"], [*words, *at_old], ["verify", "old.json"]]
    *evaluations, verification = command.several(*commands, env=environment)
    assert [process.returncode for process in evaluations] == [0, 0], [process.stderr for process in evaluations]
    assert "not the rows that were asked" not in verification.stdout, verification.stdout + verification.stderr
    results = [read(command.folder / name) for name in ("new.json", "old.json")]
    assert [result["data_commits"] for result in results] == [{"winogrande": new}, {"winogrande": old}]
    assert results[0]["data_hashes"] != results[1]["data_hashes"]
    assert results[1]["tasks"]["winogrande"]["rows"] == 12
    offline = environment | {"HF_HUB_OFFLINE": "1"}
    words += ["--out", "third.json"]
    at_old_revision, newest = command.several([*words, "--benchmarks-revision", old], words, env=offline)
    assert at_old_revision.returncode == 0 and "the cache holds another commit" in newest.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["main"], dict.fromkeys(TASK_BY_NAME, "main")),
        (["arc=a", "gsm8k=b"], {"arc_challenge": "a", "gsm8k": "b"}),
        (["mmlu=a", "main"], dict.fromkeys(TASK_BY_NAME, "main") | {"mmlu": "a"}),
    ],
)
def test_revisions_of_benchmarks_are_for_all_or_for_one_task(words, expected):
    assert revisions_by_task(words, None) == expected


@pytest.mark.parametrize(("word", "expected"), [("arcc=x", "unknown task 'arcc'"), ("arc=", "no revision is named")])
def test_revisions_of_benchmarks_that_are_none(word, expected):
    with pytest.raises(UserError, match=expected):
        revisions_by_task([word], None)


def test_a_revision_of_rows_on_the_disk_is_refused(command, tiny_model, mini):
    words = ["--model", tiny_model, "--benchmarks", mini["mini:benchmarks"], "--benchmarks-revision", "main"]
    assert "only rows of the hub have revisions" in command.refused("eval", *words)


RECORDS = "datasets/psmathur/records"


@pytest.fixture
def recipe(command, hub, commits):
    """A recipe of one step whose base and records come from the hub, at revisions that are not the newest."""
    row = {"system": "S", "instruction": "Say one.", "input": "", "response": "One it is."}
    lines = [json.dumps(row | {"instruction": f"Say {number}."}).encode() for number in range(8)]
    old = hub.push(RECORDS, {"train.jsonl": b"\n".join(lines[:6])}, "v1")
    hub.push(RECORDS, {"train.jsonl": b"\n".join(lines)})
    train = {"processes": 1, "micro_batch": 2, "global_batch": 2, "max_steps": 1, "precision": "fp32"}
    content = {
        "name": "r",
        "model": {"base": MODEL, "revision": "v1"},
        "data": {"records": ["psmathur/records@v1"], "max_length": 64},
        "train": train,
    }
    (command.folder / "r.yaml").write_text(json.dumps(content))
    return {"model.base": commits["v1"], "psmathur/records@v1": old}


def test_a_recipe_trains_on_the_revisions_that_it_names_and_the_manifest_has_the_commits(command, environment, recipe):
    process = command("train", "r.yaml", env=environment)
    assert process.returncode == 0, process.stderr + process.stdout
    assert f"fetching {MODEL}@{recipe['model.base'][:12]}" in process.stdout
    manifest = read(command.folder / "runs" / "r" / "manifest.json")
    assert manifest["commits"] == recipe
    (source,) = manifest["records"]
    assert source["rows"] == 6 and len(source["sha256"]) == 64
    assert source["commit"] == recipe["psmathur/records@v1"]


def test_a_dry_run_fetches_no_weights_nor_does_what_the_hub_does_not_have(command, environment, hub, recipe):
    (command.folder / "runs" / "mini").mkdir(parents=True)
    expected_by_override = {
        "model.revision=v9": "no revision 'v9' of this model",
        "data.records=[psmathur/records@v9]": "no revision 'v9' of this data set",
        "data.records=[psmathur/absent]": "the hub shows no such data set (HTTP 404",
        "model.tokenizer_revision=v1": "there is no model.tokenizer",
        "data.records=[runs/minii]": "no such file of records; did you mean 'runs/mini'?",
        "model.base=runs/minii": "no such model folder; did you mean 'runs/mini'?",
    }
    commands = [["train", "r.yaml", "--dry-run"]]
    for override in expected_by_override:
        commands.append(["train", "r.yaml", *["-o", "model.revision=null"] * ("runs" in override), "-o", override])
    dry_run, *refused_runs = command.several(*commands, env=environment)
    assert dry_run.returncode == 0 and "6 records" in dry_run.stdout, dry_run.stdout + dry_run.stderr
    for process, (override, expected) in zip(refused_runs, expected_by_override.items(), strict=True):
        assert expected in refusal_of(process), override
    assert not any("model.safetensors" in request for request in hub.requests)
