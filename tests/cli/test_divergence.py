"""`orca-bench divergence` and the report of `export`: what they print and write, and what they refuse."""

import json

import pytest
from tiny_llamas import make_model

pytest.importorskip("gguf")

SHAPE = {"hidden_size": 64, "intermediate_size": 128, "max_position_embeddings": 512}


@pytest.fixture(scope="module")
def in_folder(tmp_path_factory, command_in, mini, mini_records):
    """The command in a folder with a model, `base`, its q4_0 file and records."""
    from orca_bench.models.gguf.gguf_export import export_gguf
    from orca_bench.models.model_folder import ModelFolder

    folder = tmp_path_factory.mktemp("divergence")
    make_model(folder / "base", mini["mini:tokenizer"], **SHAPE)
    export_gguf(ModelFolder(str(folder / "base")), folder / "base-q4_0.gguf", "q4_0")
    lines = [json.dumps(record) + "\n" for record in mini_records[:60]]
    (folder / "records.jsonl").write_text("".join(lines), encoding="utf-8")
    return command_in(folder)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Folders of GGUF files are written to a cache of the test."""
    monkeypatch.setenv("ORCA_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "gguf_cache"))


def test_the_table_the_json_and_the_files_say_the_same(in_folder):
    files = ["--out", "r.md", "--out", "r.json"]
    words = ["divergence", "base-q4_0.gguf", "./base", "--records", "records.jsonl", "--tokens", 200]
    done = in_folder(*words, *files, "--format", "markdown")
    assert done.returncode == 0, done.stderr
    content = json.loads((in_folder.folder / "r.json").read_text())
    assert 200 <= content["tokens"] < 300 and content["tasks"] == []
    (model,) = content["models"]
    assert 4.5 <= model["bits_per_weight"] < 5 and model["kl"]["value"] > 0 and model["same_top"]["value"] < 1
    markdown = (in_folder.folder / "r.md").read_text()
    assert content["sentence"] in done.stdout and done.stdout.splitlines()[2:16] == markdown.splitlines()[2:16]
    assert "the loss is the rounding's alone; llama.cpp's own rounding" in done.stdout
    assert json.loads(in_folder(*words, "--format", "json").stdout) == content


def test_a_model_beside_itself_loses_nothing(in_folder):
    done = in_folder("divergence", "./base", "./base", "--records", "records.jsonl", "--tokens", 50)
    assert done.returncode == 0 and "100.00 [" in done.stdout, done.stderr
    assert "next: orca-bench eval --model ./base" in done.stderr


def test_fewer_tokens_than_wanted_are_all_scored_and_records_are_cut_as_in_training(in_folder):
    words = ["--records", "records.jsonl", "--max-length", 64, "--format", "json"]
    done = in_folder("divergence", "base-q4_0.gguf", "./base", *words)
    content = json.loads(done.stdout)
    assert f"{content['tokens']:,} response tokens of {content['scored_records']} records, 2 models" in done.stderr
    assert f"the records have {content['tokens']:,} response tokens, fewer than 30,000: all are scored" in done.stderr
    assert content["records"]["cut_count"] > 0 and any("cut at 64 tokens" in note for note in content["notes"])


def test_results_of_both_models_are_compared_task_by_task(in_folder, mini):
    options = ["--benchmarks", mini["mini:benchmarks"], "--tasks", "truthful_qa", "--limit", 5]
    for model in ("./base", "base-q4_0.gguf"):
        assert in_folder("eval", "--model", model, *options).returncode == 0
    words = ["divergence", "base-q4_0.gguf", "./base", "--records", "records.jsonl", "--tokens", 50]
    (comparison,) = json.loads(in_folder(*words, "--format", "json").stdout)["tasks"]
    assert comparison["first"].endswith("base") and comparison["second"] == "base-q4_0"
    assert [line["name"] for line in comparison["lines"] if line["difference"]] == ["truthful_qa"]
    assert "TruthfulQA" in in_folder(*words).stdout


def test_an_export_writes_its_report_beside_the_file(in_folder):
    words = ["export", "./base", "--gguf", "q8_0", "--out", "e.gguf", "--report", "records.jsonl"]
    done = in_folder(*words)
    assert done.returncode == 0, done.stderr
    content = json.loads((in_folder.folder / "e.report.json").read_text())
    assert content["sentence"] in done.stdout and content["models"][0]["path"] == "e.gguf"
    assert (in_folder.folder / "e.report.md").read_text().startswith(content["sentence"])
    (in_folder.folder / "e.gguf").unlink()
    assert "e.report.md: exists already" in in_folder.refused(*words)
    (in_folder.folder / "e.report.md").unlink()
    (in_folder.folder / "e.report.json").unlink()
    assert "absent.jsonl: no such file" in in_folder.refused(*words[:-1], "absent.jsonl")
    assert not list(in_folder.folder.glob("e.*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["base-q4_0.gguf", "--records", "records.jsonl"], "MODEL"),
        (["base-q4_0.gguf", "./base"], "--records"),
        (["base-q4_0.gguf", "./base", "--records", "records.jsonl", "--tokens", "0"], "--tokens"),
        (["base-q4_0.gguf", "./base", "--records", "absent.jsonl"], "absent.jsonl: no such file"),
        (["base-q4_0.gguf", "./base", "--records", "empty.jsonl"], "empty.jsonl: no rows"),
        (
            ["base-q4_0.gguf", "./base", "--records", "records.jsonl", "--out", "r.txt"],
            "r.txt: a report is written as .md or",
        ),
        (["base-q4_0.gguf", "./base", "--records", "records.jsonl", "--max-length", "513"], "has a window of 512"),
        (["base-q4_0.gguf", "./base", "--records", "records.jsonl", "--max-length", "3"], "lose their whole response"),
        (["absent", "./base", "--records", "records.jsonl"], "absent: no such run or model folder"),
        (["records.jsonl", "./base", "--records", "records.jsonl"], "records.jsonl: a file, not a model folder"),
        (["other", "./base", "--records", "records.jsonl"], "other: a vocabulary of 700, and "),
    ],
)
def test_what_is_wrong_is_named(in_folder, sentencepiece_models, words, message):
    (in_folder.folder / "empty.jsonl").write_text("")
    if not (in_folder.folder / "other").exists():
        make_model(in_folder.folder / "other", sentencepiece_models["llama"])
    assert message in in_folder.refused("divergence", *words)


def test_an_input_is_not_overwritten(in_folder):
    (in_folder.folder / "copy.json").write_bytes((in_folder.folder / "records.jsonl").read_bytes())
    words = ["divergence", "base-q4_0.gguf", "./base", "--records", "copy.json", "--out", "copy.json"]
    assert "copy.json is an input, and writing would destroy it" in in_folder.refused(*words)
