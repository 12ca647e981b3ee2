"""`data build` from a recipe to a folder of records, against a real HTTP server: what is written, and what stops it."""

import json
import re

import pytest
from data_recipes import ALPACA_ROWS, DOLLY_ROWS, RECIPE, manifest_of, records_of, write_build_inputs
from hub_server import serving
from teacher_server import answer_text, running_teacher_server

KEY = "sk-a-key-that-is-in-no-file"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def test_records_have_their_texts_and_where_they_came_from(build, command):
    with running_teacher_server() as server:
        process = build(server)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[0] == "20 records: out/records.jsonl"
    records = records_of(command.folder)
    assert [record["id"] for record in records[:13]] == [*(f"alpaca-{n}" for n in range(1, 13)), "dolly-1"]
    first = records[0]
    messages = [{"role": "system", "content": first["system"]}, {"role": "user", "content": first["instruction"]}]
    assert first["response"] == answer_text(messages) and first["instruction"] == ALPACA_ROWS[0]["instruction"]
    assert (first["source"], first["source_row"], first["teacher"]) == ("alpaca", 1, "teacher")
    assert first["parameters"] == {"temperature": 0.7, "max_tokens": 64} and first["served_model"] == "teacher-0301"
    assert first["finish_reason"] == "stop" and first["completion_tokens"] == len(first["response"].split())
    assert "reasoning" not in first
    assert server.bodies[0]["temperature"] == 0.7 and server.bodies[0]["max_tokens"] == 64
    assert server.authorizations == {KEY}


def test_the_manifest_says_what_was_spent_by_source_to_the_token(build, command):
    with running_teacher_server() as server:
        build(server)
    manifest = manifest_of(command.folder)
    assert manifest["is_complete"] and manifest["records"] == 20
    spending = manifest["spending"]
    assert (spending["prompt_tokens"], spending["completion_tokens"]) == (
        server.prompt_tokens,
        server.completion_tokens,
    )
    assert spending["dollars"] == pytest.approx((server.prompt_tokens + 2 * server.completion_tokens) / 1e6, abs=1e-6)
    by_source = [entry["spending"]["prompt_tokens"] for entry in manifest["sources"].values()]
    assert sum(by_source) == server.prompt_tokens and all(by_source)


def test_the_records_are_read_by_training_checks_conversion_and_datasets(build, command):
    from datasets import load_dataset

    from orca_bench.train.record_files import read_records

    with running_teacher_server() as server:
        build(server)
    path = str(command.folder / "out" / "records.jsonl")
    records, sources = read_records([path])
    assert len(records) == 20 and sources[0].rows_by_source == {"alpaca": 12, "dolly": 8}
    assert sources[0].teachers == ["teacher"]
    assert read_records([str(command.folder / "out")])[0] == records  # the folder holds no other data file
    rows = load_dataset("json", data_files=path, split="train", cache_dir=str(command.folder / "cache"))
    assert rows.num_rows == 20 and rows[0]["response"] == records[0].response
    process = command("data", "check", path, "--workers", 1)
    assert process.returncode == 0 and "20 records in 1 file" in process.stdout


def test_published_columns_have_the_names_of_the_published_sets(build, command):
    with running_teacher_server() as server:
        build(server)
        billed = server.billed.total()
        build(server, "--columns", "published")
        assert server.billed.total() == billed  # nothing is asked again
    rows = records_of(command.folder)
    assert len(rows) == 20 and all(list(row) == ["system", "instruction", "input", "output"] for row in rows)


def test_the_same_answers_give_the_same_bytes_in_whatever_order_they_come(build, command):
    import random

    contents = set()
    for attempt in range(2):
        generator = random.Random(attempt)
        faults = ["busy for 50 ms", "error", "cut", *[None] * 6]  # a build waits for seconds after several in a row
        fault_of = lambda number, text: generator.choice(faults)  # noqa: E731, B023
        with running_teacher_server(fault_of) as server:
            assert build(server, "-o", "teacher.attempts=30").returncode == 0
        contents.add((command.folder / "out" / "records.jsonl").read_bytes())
        for file in (command.folder / "out").iterdir():
            file.unlink()
    assert len(contents) == 1


def test_what_is_no_answer_is_no_record_and_is_counted(build, command):
    kinds = {"Name 1 ": "refusal", "Name 2 ": "filter", "Name 4 ": "empty", "Name 5 ": "length"}
    fault_of = lambda number, text: next((fault for start, fault in kinds.items() if text.startswith(start)), None)  # noqa: E731
    with running_teacher_server(fault_of) as server:
        process = build(server)
        assert len(records_of(command.folder)) == 16
        for outcome in ("refused", "filtered", "empty", "truncated"):
            assert f"1 request {outcome}" in process.stdout
        assert manifest_of(command.folder)["sources"]["alpaca"]["outcomes"] == {
            "answered": 8,
            "empty": 1,
            "filtered": 1,
            "refused": 1,
            "truncated": 1,
        }
        card = (command.folder / "out" / "README.md").read_text(encoding="utf-8")
        assert "| cut off by the token limit | 1 | no |" in card


def test_answers_that_were_cut_off_are_records_where_the_recipe_keeps_them(build, command):
    with running_teacher_server(lambda number, text: "length" if text.startswith("Name 5 ") else None) as server:
        build(server, "-o", "keep_truncated=true")
    records = records_of(command.folder)
    assert len(records) == 20 and records[4]["finish_reason"] == "length"


@pytest.mark.parametrize("fault", ["thinking", "thinking tags"])
def test_thinking_is_kept_apart(build, command, fault):
    with running_teacher_server(lambda number, text: fault) as server:
        build(server, "-o", "teacher.thinking=column")
    records = records_of(command.folder)
    assert {record["reasoning"].strip() for record in records} == {"Let me think."}
    assert not any("think" in record["response"] for record in records)


def test_an_estimate_keeps_its_answers(build, command):
    with running_teacher_server() as server:
        process = build(server, "--estimate", "8")
        assert process.returncode == 0, process.stderr
        assert server.billed.total() == 8 and not (command.folder / "out" / "records.jsonl").exists()
        total, low, high = map(
            float, re.search(r"\$([\d.]+) \(95 % interval \$([\d.]+) to \$([\d.]+)\)", process.stdout).groups()
        )
        build(server)
        assert server.billed.total() == 20
    assert 0 < low <= total <= high
    assert low - 1e-4 <= manifest_of(command.folder)["spending"]["dollars"] <= high + 1e-4


@pytest.mark.parametrize("fault", ["no usage", "endless count"])  # no count at all, and that of the prompt alone
def test_a_bill_without_the_teachers_count_is_said_to_be_the_worst_case(build, command, fault):
    with running_teacher_server(lambda number, text: fault) as server:
        process = build(server, "--estimate", "5")
        assert "the teacher told no tokens of 5 answers: this is the worst case, no estimate" in process.stdout
        process = build(server)
    assert "spent: at most $" in process.stdout and "the teacher told no tokens of 20 answers" in process.stdout
    assert manifest_of(command.folder)["spending"]["unmetered_answers"] == 20
    card = (command.folder / "out" / "README.md").read_text(encoding="utf-8")
    assert "as the teacher told no tokens of 20 answers" in card


def test_it_is_said_where_the_key_goes_and_that_there_is_none(build, monkeypatch):
    with running_teacher_server() as server:
        assert "the key in $OPENAI_API_KEY is sent to 127.0.0.1" in build(server).stderr
        monkeypatch.delenv("OPENAI_API_KEY")
        process = build(server)
    assert process.returncode == 0 and "no key in $OPENAI_API_KEY: 127.0.0.1 is asked without one" in process.stderr


def test_requests_that_the_teacher_does_not_take_are_counted_and_end_no_build(build, command):
    with running_teacher_server(lambda number, text: "rejected" if text.startswith("Name ") else None) as server:
        process = build(server)
    assert process.returncode == 0 and "12 requests rejected" in process.stdout, process.stderr
    assert len(records_of(command.folder)) == 8


def test_a_budget_is_not_passed_and_a_larger_one_continues(build, command):
    with running_teacher_server() as server:
        process = build(server, "-o", "budget=0")
        assert (
            process.returncode == 1
            and not server.received
            and "does not allow the worst case of another request" in process.stdout
        )
        process = build(server, "-o", "budget=0.0008")
        manifest = manifest_of(command.folder)
        assert "does not allow the worst case of another request" in process.stdout and not manifest["is_complete"]
        assert 0 < manifest["records"] < 20 and manifest["spending"]["dollars"] <= 0.0008
        assert "**This build is not finished" in (command.folder / "out" / "README.md").read_text(encoding="utf-8")
        build(server)
        assert server.billed.total() == 20 and manifest_of(command.folder)["is_complete"]


@pytest.mark.parametrize("fault", ["wrong key", "unknown model", "no credit", "no access"])
def test_what_no_retry_can_help_stops_at_once_and_never_tells_the_key(build, command, fault):
    with running_teacher_server(lambda number, text: fault) as server:
        process = build(server)
        assert len(server.received) <= 64
    assert process.returncode == 2 and len(re.findall("^error: ", process.stderr, re.MULTILINE)) == 1, process.stderr
    texts = [
        process.stdout,
        process.stderr,
        *(file.read_bytes().decode("latin-1") for file in (command.folder / "out").iterdir()),
    ]
    assert not any(KEY in text for text in texts)


def test_another_recipe_in_the_same_folder_is_refused_before_anything_is_sent(build, command):
    with running_teacher_server() as server:
        build(server)
        before, received = (command.folder / "out" / "records.jsonl").read_bytes(), len(server.received)
        process = build(server, "-o", "teacher.parameters.temperature=0.1")
        assert process.returncode == 2 and "another recipe was built here: teacher.parameters was" in process.stderr
        assert len(server.received) == received
    assert (command.folder / "out" / "records.jsonl").read_bytes() == before


def test_a_pilot_is_not_paid_twice_and_rows_that_stay_keep_their_answers(build, command):
    with running_teacher_server() as server:
        build(server, "-o", "sources.alpaca.sample=4", "-o", "sources.dolly.sample=4")
        assert server.billed.total() == 8 == len(records_of(command.folder))
        assert build(server).returncode == 0 and server.billed.total() == 20 and len(records_of(command.folder)) == 20
        rows = "".join(json.dumps(row) + "\n" for row in [*DOLLY_ROWS[:-1], {**DOLLY_ROWS[0], "instruction": "New?"}])
        (command.folder / "dolly.jsonl").write_text(rows, encoding="utf-8")
        process = command("data", "build", command.folder / "recipe.yaml", "-o", "output=out")
        assert "dolly: another source than that of the last build here" in process.stderr
        assert server.billed.total() == 21 and records_of(command.folder)[-1]["instruction"] == "New?"


def test_what_becomes_of_answers_may_change_without_asking_again(build, command):
    with running_teacher_server(lambda number, text: "length" if text.startswith("Name 5 ") else "thinking") as server:
        build(server)
        assert len(records_of(command.folder)) == 19 and "reasoning" not in records_of(command.folder)[0]
        build(server, "-o", "keep_truncated=true", "-o", "teacher.thinking=column")
        assert server.billed.total() == 20
    assert len(records_of(command.folder)) == 20 and records_of(command.folder)[0]["reasoning"] == "Let me think."


def test_the_answers_of_the_ledger_are_written_when_the_teacher_is_gone(build, command):
    with running_teacher_server(lambda number, text: "wrong key" if number > 10 else None) as server:
        process = build(server, "-o", "teacher.most_in_flight=1", "-o", "teacher.attempts=1")
        assert process.returncode == 2 and "records of the ledger's answers: out/records.jsonl" in process.stderr
    assert len(records_of(command.folder)) == 10 and not manifest_of(command.folder)["is_complete"]


def test_an_estimate_without_a_budget_says_what_one_request_may_cost(build, command):
    with running_teacher_server() as server:
        process = build(server, "--estimate", "8", "-o", "budget=0")
    line = process.stderr.splitlines()[-1]
    assert process.returncode == 2 and not server.received
    assert re.fullmatch(
        r"error: budget: \$0.00 does not allow one request, which may cost \$0.000\d; set it .*", line
    ), line


def test_a_ledger_that_is_gone_is_not_paid_again_in_silence(build, command):
    with running_teacher_server() as server:
        build(server)
        (command.folder / "out" / "ledger.sqlite").unlink()
        process = build(server)
        assert process.returncode == 2 and "were answered here, and the ledger is empty or gone" in process.stderr
        assert server.billed.total() == 20


@pytest.mark.parametrize("name", ["README.md", "records.jsonl", "recipe.yaml"])
def test_files_that_no_build_wrote_are_not_replaced(build, command, name):
    (command.folder / "out").mkdir()
    (command.folder / "out" / name).write_text("mine", encoding="utf-8")
    with running_teacher_server() as server:
        process = build(server)
        assert process.returncode == 2 and "a file that no build wrote stands where the output goes" in process.stderr
        assert not server.received
    assert (command.folder / "out" / name).read_text(encoding="utf-8") == "mine"


def test_a_recipe_in_its_own_output_folder_is_not_replaced(command):
    with running_teacher_server() as server:
        recipe = write_build_inputs(command.folder, base_url=server.base_url)
        text = recipe.read_text(encoding="utf-8")
        assert "a file that no build wrote" in command.refused("data", "build", recipe, "-o", "output=.")
    assert recipe.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dry-run", "--estimate", "5"], "--dry-run sends nothing, and --estimate asks the teacher"),
        (["--tokenizer", "t"], "--tokenizer belongs to --dry-run"),
        (["--estimate", "1"], "--estimate"),
        (["-o", "sources.dolly.files=absent.jsonl"], "absent.jsonl: no such file"),
        (["-o", "output=recipe.yaml"], "this is a file, and the output is a folder"),
    ],
)
def test_wrong_words_end_in_one_line(command, words, message):
    recipe = write_build_inputs(command.folder)
    assert message in command.refused("data", "build", recipe, *words)


def test_a_bad_line_of_an_instruction_file_is_named_before_anything_is_sent(command):
    with running_teacher_server() as server:
        recipe = write_build_inputs(command.folder, base_url=server.base_url)
        with open(command.folder / "dolly.jsonl", "a", encoding="utf-8") as handle:
            handle.write("{\n")
        assert "dolly.jsonl:9: not JSON" in command.refused("data", "build", recipe, "-o", "output=out")
        assert not server.received and not (command.folder / "out").exists()


def test_a_set_of_the_hub_is_read_at_the_commit_of_the_first_build(command, tmp_path):
    rows = [json.dumps({"instruction": f"Say {number}.", "output": "x"}).encode() for number in range(6)]
    with serving() as hub, running_teacher_server() as server:
        environment = hub.environment(tmp_path / "cache")
        first_commit = hub.push("datasets/owner/set", {"train.jsonl": b"\n".join(rows[:4])})
        recipe = write_build_inputs(
            command.folder, RECIPE.replace("files: dolly.jsonl", "hub: owner/set"), server.base_url
        )
        words = ["data", "build", recipe, "-o", "output=out"]
        assert command(*words, "--estimate", "2", env=environment).returncode == 0
        hub.push("datasets/owner/set", {"train.jsonl": b"\n".join(rows)})
        process = command(*words, env=environment)
        assert process.returncode == 0, process.stderr
    assert [record["id"] for record in records_of(command.folder)][12:] == [f"dolly-{n}" for n in range(1, 5)]
    assert manifest_of(command.folder)["sources"]["dolly"]["version"] == first_commit
    card = (command.folder / "out" / "README.md").read_text(encoding="utf-8")
    assert "[owner/set](https://huggingface.co/datasets/owner/set)" in card
