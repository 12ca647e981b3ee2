"""`orca-bench divergence` and the report of `export`: what they print and write, and what they refuse."""

import json
import shutil

import pytest
from tiny_llamas import make_model

from orca_bench.models.model_folder import ModelFolder
from orca_bench.train.example_encoding import encode_records
from orca_bench.train.record_files import read_records

pytest.importorskip("gguf")

SHAPE = {"hidden_size": 64, "intermediate_size": 128, "max_position_embeddings": 512}


@pytest.fixture(scope="module")
def in_folder(tmp_path_factory, command_in, mini, mini_records):
    """The command in a folder with a model, `base`, its q4_0 file and records."""
    from orca_bench.models.gguf.gguf_export import export_gguf

    folder = tmp_path_factory.mktemp("divergence")
    make_model(folder / "base", mini["mini:tokenizer"], **SHAPE)
    export_gguf(ModelFolder(str(folder / "base")), folder / "base-q4_0.gguf", "q4_0")
    lines = [json.dumps(record) + "\n" for record in mini_records[:60]]
    (folder / "records.jsonl").write_text("".join(lines), encoding="utf-8")
    return command_in(folder)


def _copy_with_factor(folder, other_folder, factor):
    """A copy of a model whose output head is multiplied by a factor."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, other_folder)
    weights = load_file(folder / "model.safetensors")
    name = "lm_head.weight" if "lm_head.weight" in weights else "model.embed_tokens.weight"
    weights[name] = weights[name] * factor
    save_file(weights, other_folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Folders of GGUF files are written to a cache of the test."""
    monkeypatch.setenv("ORCA_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "gguf_cache"))


def test_the_table_the_json_and_the_files_say_the_same(in_folder):
    files = ["--out", "r.md", "--out", "r.json"]
    words = ["divergence", "base-q4_0.gguf", "./base", "--records", "records.jsonl", "--tokens", 200]
    process = in_folder(*words, *files, "--format", "markdown")
    assert process.returncode == 0, process.stderr
    content = json.loads((in_folder.folder / "r.json").read_text())
    assert 200 <= content["tokens"] < 300 and content["tasks"] == []
    (model,) = content["models"]
    assert 4.5 <= model["bits_per_weight"] < 5 and model["kl"]["value"] > 0 and model["same_top"]["value"] < 1
    markdown = (in_folder.folder / "r.md").read_text()
    assert content["sentence"] in process.stdout and process.stdout.splitlines()[2:16] == markdown.splitlines()[2:16]
    assert "the loss is the rounding's alone; llama.cpp's own rounding" in process.stdout
    assert json.loads(in_folder(*words, "--format", "json").stdout) == content


def test_a_model_beside_itself_loses_nothing(in_folder):
    process = in_folder("divergence", "./base", "./base", "--records", "records.jsonl", "--tokens", 50)
    assert process.returncode == 0 and "100.00 [" in process.stdout, process.stderr
    assert "next: orca-bench eval --model ./base" in process.stderr


def test_fewer_tokens_than_wanted_are_all_scored_and_records_are_cut_as_in_training(in_folder):
    words = ["--records", "records.jsonl", "--max-length", 64, "--format", "json"]
    process = in_folder("divergence", "base-q4_0.gguf", "./base", *words)
    content = json.loads(process.stdout)
    assert f"{content['tokens']:,} response tokens of {content['scored_records']} records, 2 models" in process.stderr
    assert (
        f"the records have {content['tokens']:,} response tokens, fewer than 30,000: all are scored" in process.stderr
    )
    folder = ModelFolder(str(in_folder.folder / "base"))
    records, _ = read_records([str(in_folder.folder / "records.jsonl")])
    whole, _ = encode_records(records, folder.tokenizer, 10_000)
    has_response = whole.prompt_lengths < 64
    cut_count, dropped_count = int((has_response & (whole.lengths > 64)).sum()), int((~has_response).sum())
    assert cut_count > 0 and dropped_count > 0 and content["scored_records"] == 60 - dropped_count
    assert [content["records"][key] for key in ("cut_count", "dropped_count")] == [cut_count, dropped_count]
    assert f"{cut_count} records cut at 64 tokens, as in training" in content["notes"]
    assert f"{dropped_count} records left out: cut at 64 tokens, they have no response" in process.stderr


def test_a_record_that_fits_exactly_is_not_cut(in_folder):
    records, _ = read_records([str(in_folder.folder / "records.jsonl")])
    examples, _ = encode_records(records, ModelFolder(str(in_folder.folder / "base")).tokenizer, 10_000)
    words = ["--records", "records.jsonl", "--max-length", int(examples.lengths.max()), "--format", "json"]
    content = json.loads(in_folder("divergence", "./base", "./base", *words).stdout)
    assert content["records"]["cut_count"] == content["records"]["dropped_count"] == 0


@pytest.fixture(scope="module")
def with_results(in_folder, mini):
    """A factory of `eval` on TruthfulQA for a model, with more options."""

    def evaluate(model, *options):
        words = ["--benchmarks", mini["mini:benchmarks"], "--tasks", "truthful_qa", *options]
        process = in_folder("eval", "--model", model, *words)
        assert process.returncode == 0, process.stderr

    return evaluate


DIVERGENCE = ["--records", "records.jsonl", "--tokens", 50]


def test_results_of_both_models_are_compared_task_by_task(in_folder, with_results):
    for model in ("./base", "base-q4_0.gguf"):
        with_results(model, "--limit", 5)
    words = ["divergence", "base-q4_0.gguf", "./base", *DIVERGENCE]
    (comparison,) = json.loads(in_folder(*words, "--format", "json").stdout)["tasks"]
    assert comparison["first"].endswith("base") and comparison["second"] == "base-q4_0"
    assert [line["name"] for line in comparison["lines"] if line["difference"]] == ["truthful_qa"]
    assert "TruthfulQA" in in_folder(*words).stdout


def test_results_of_several_protocols_are_written_as_compare_writes_them(in_folder, with_results):
    for model in ("./base", "base-q4_0.gguf"):
        with_results(model, "--limit", 5)
        with_results(model, "--limit", 4, "--protocol", "plain")
    with_results("./base", "--limit", 3, "--protocol", "leaderboard")
    process = in_folder("divergence", "base-q4_0.gguf", "./base", *DIVERGENCE, "--format", "json")
    content = json.loads(process.stdout)
    compare = in_folder("compare", "base", "base-q4_0", "--format", "json")
    assert content["tasks"] == json.loads(compare.stdout) and len(content["tasks"]) == 2
    assert "base/leaderboard-limit3 has no counterpart" in content["notes"]
    assert "note: base/leaderboard-limit3 has no counterpart" in process.stderr
    markdown = in_folder("divergence", "base-q4_0.gguf", "./base", *DIVERGENCE, "--format", "markdown").stdout
    assert in_folder("compare", "base", "base-q4_0", "--format", "markdown").stdout in markdown
    for path in in_folder.folder.glob("runs/*/results/[pl]*"):
        path.unlink()


def test_results_of_different_settings_are_not_compared_and_the_measurement_stands(in_folder, with_results):
    with_results("./base", "--limit", 3, "--protocol", "leaderboard")
    with_results("base-q4_0.gguf", "--limit", 5)
    for path in (in_folder.folder / "runs/base/results").glob("orca*"):
        path.unlink()
    words = ["divergence", "base-q4_0.gguf", "./base", *DIVERGENCE, "--out", "late.json", "--format", "json"]
    process = in_folder(*words)
    assert process.returncode == 0, process.stderr
    content = json.loads((in_folder.folder / "late.json").read_text())
    assert content["tasks"] == [] and content["models"][0]["kl"]["value"] > 0
    assert any("not compared: no protocol that all were evaluated under" in note for note in content["notes"])
    (in_folder.folder / "late").mkdir()
    process = in_folder(
        "export", "./base", "--gguf", "q4_0", "--out", "late/base-q4_0.gguf", "--report", "records.jsonl"
    )
    assert process.returncode == 0 and "no protocol that all were evaluated under" in process.stderr, process.stderr
    assert json.loads((in_folder.folder / "late/base-q4_0.report.json").read_text())["tasks"] == []
    for path in (in_folder.folder / "runs/base/results").glob("leaderboard*"):
        path.unlink()


def test_results_of_another_model_of_the_same_name_are_left_out(in_folder, with_results):
    for model in ("./base", "base-q4_0.gguf"):
        with_results(model, "--limit", 5)
    _copy_with_factor(in_folder.folder / "base", in_folder.folder / "other_place" / "base", 1.5)
    process = in_folder("divergence", "base-q4_0.gguf", "./other_place/base", *DIVERGENCE, "--format", "json")
    content = json.loads(process.stdout)
    path = "runs/base/results/orca-limit5.json"
    note = f"left out: {path} is of another model than ./other_place/base (by weights), or does not say of which"
    assert content["tasks"] == [] and f"note: {note}" in process.stderr, process.stderr
    assert note in content["notes"]
    (in_folder.folder / "again").mkdir()
    process = in_folder("export", "./other_place/base", "--gguf", "q4_0", "--out", "again/base-q4_0.gguf")
    assert process.returncode == 0, process.stderr
    process = in_folder("divergence", "again/base-q4_0.gguf", "./base", *DIVERGENCE, "--format", "json")
    assert (
        json.loads(process.stdout)["tasks"] == [] and "is of another model than again/base-q4_0.gguf" in process.stderr
    )


def test_a_model_beside_itself_is_measured_also_where_it_has_results(in_folder, with_results):
    with_results("./base", "--limit", 5)
    process = in_folder("divergence", "./base", "./base", *DIVERGENCE)
    assert process.returncode == 0 and "it is the first result itself" in process.stderr


def test_a_model_with_broken_weights_has_an_infinite_perplexity(in_folder):
    _copy_with_factor(in_folder.folder / "base", in_folder.folder / "broken", 1e7)
    words = ["divergence", "./broken", "./base", *DIVERGENCE, "--out", "broken.json"]
    process = in_folder(*words)
    assert process.returncode == 0, process.stderr
    (model,) = json.loads((in_folder.folder / "broken.json").read_text())["models"]
    assert model["perplexity"]["value"] is None and "inf" in process.stdout


def test_the_report_is_printed_before_it_is_written(in_folder):
    process = in_folder(
        "divergence", "./base", "./base", *DIVERGENCE, "--out", "/proc/r.md"
    )  # not even root may write there
    assert process.returncode == 2 and "/proc" in process.stderr and "Traceback" not in process.stderr
    assert "KL divergence, mean" in process.stdout


def test_an_export_writes_its_report_beside_the_file(in_folder):
    words = ["export", "./base", "--gguf", "q8_0", "--out", "e.gguf", "--report", "records.jsonl"]
    process = in_folder(*words)
    assert process.returncode == 0, process.stderr
    content = json.loads((in_folder.folder / "e.report.json").read_text())
    assert content["sentence"] in process.stdout and content["models"][0]["path"] == "e.gguf"
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
        (
            ["base-q4_0.gguf", "./base", "--records", "records.jsonl", "--max-length", "3"],
            "--max-length: all 60 records lose their whole response to the cut at 3 tokens; raise it",
        ),
        (["base-q4_0.gguf", "./base", "--records", "records.jsonl", "--out", "no/r.md"], "no: no such folder"),
        (["base-q4_0.gguf", "./base", "--records", "records.jsonl", "--out", "folder.md"], "folder.md: a folder"),
        (["absent", "./base", "--records", "records.jsonl"], "absent: no such run or model folder"),
        (["records.jsonl", "./base", "--records", "records.jsonl"], "records.jsonl: a file, not a model folder"),
        (["other", "./base", "--records", "records.jsonl"], "other: a vocabulary of 700, and "),
    ],
)
def test_what_is_wrong_is_named(in_folder, sentencepiece_models, words, message):
    (in_folder.folder / "empty.jsonl").write_text("")
    (in_folder.folder / "folder.md").mkdir(exist_ok=True)
    if not (in_folder.folder / "other").exists():
        make_model(in_folder.folder / "other", sentencepiece_models["llama"])
    assert message in in_folder.refused("divergence", *words)


def test_an_input_is_not_overwritten(in_folder):
    (in_folder.folder / "copy.json").write_bytes((in_folder.folder / "records.jsonl").read_bytes())
    words = ["divergence", "base-q4_0.gguf", "./base", "--records", "copy.json", "--out", "copy.json"]
    assert "copy.json is an input, and writing would destroy it" in in_folder.refused(*words)
