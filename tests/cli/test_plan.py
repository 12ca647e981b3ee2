"""`orca-bench plan`: what it prints of a recipe that is here and of one whose records are not, and what it refuses."""

import json

import pytest

CARD = ["plan", "13b", "--records", "137000", "--tokens-per-record", "307"]


def test_the_cards_run_is_planned_without_its_records(command_in, tmp_path):
    process = command_in(tmp_path)(*CARD)
    assert process.returncode == 0, process.stderr
    text = " ".join(process.stdout.split())
    assert "13,015,864,320 parameters; 137,000 examples of 307 tokens" in text and "25,688 steps of 16" in text
    assert "bound by communication: ZeRO-3 sends 68 GB per GPU and step; stage 2 sends 46 GB per GPU and step" in text
    assert "GiB fit" in text and "settings that fit, cheapest first" in text
    assert not (tmp_path / "runs").exists()


def test_a_recipe_with_records_is_planned_by_their_lengths_and_json_has_all_settings(command_in, tmp_path):
    process = command_in(tmp_path)(
        "plan", "mini", "--gpu", "l4", "--price", "0.5", "-o", "train.precision=bf16", "--format", "json"
    )
    assert process.returncode == 0, process.stderr
    plan = json.loads(process.stdout)
    own = plan["recipe"]
    assert own["steps"] == 363 and own["bound_by"] == "Python" and own["fits"]
    assert own["dollars"] == pytest.approx(own["hours"] * 2 * 0.5)
    assert sum(own["seconds_by_cause"].values()) == pytest.approx(own["step_seconds"])
    assert {setting["packing"] for setting in plan["settings"]} == {"none", "exact"}
    dollars = [setting["dollars"] for setting in plan["settings"]]
    assert dollars[0] == min(dollars)


def test_a_gpu_that_is_not_in_the_table_is_planned_by_its_figures(command_in, tmp_path):
    figures = ["--tflops", "500", "--memory-gb", "96", "--memory-gb-s", "2000", "--link-gb-s", "64"]
    process = command_in(tmp_path)(*CARD, "--gpu", "new", *figures, "--price", "2")
    assert process.returncode == 0, process.stderr
    assert "8 × new in 1 node; $2.00 per GPU-hour" in process.stdout


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--gpu", "a100"], ["--gpu: 'a100' is not in the table", "did you mean", "a100-", "--tflops"]),
        (["--gpus", "4"], ["--gpus: ", "4 GPUs for 8 processes", "-o train.processes=4"]),
        (
            ["--gpu", "l4", "--memory-gb", "8", "-o", "train.processes=1", "-o", "train.micro_batch=16"],
            ["no setting fits", "--gpu a100-80g"],
        ),
        (["--gpu", "l4", "--nodes", "2"], ["--nodes: ", "--network-gb-s"]),
        (["--price", "-1"], ["--price: "]),
        (["--price", "nan"], ["--price: "]),
        (["--nodes", "0"], ["--nodes: "]),
        (["--records", "0"], ["--records: "]),
        (["--tokens-per-record", "2000"], ["--tokens-per-record: ", "1 to 1024"]),
        (["--step-seconds", "0"], ["--step-seconds: "]),
        (["-o", "train.precision=fp32"], ["train.precision: ", "bf16"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("-") else "",
)
def test_what_cannot_be_planned_is_refused_in_one_line(command_in, tmp_path, words, parts):
    process = command_in(tmp_path)(*CARD, *words)
    assert process.returncode == 2 and not process.stdout
    assert all(part in process.stderr for part in parts), process.stderr
    assert len(process.stderr.splitlines()) == 1


def test_records_that_cannot_be_reached_are_replaced_by_options(command_in, tmp_path):
    process = command_in(tmp_path)("plan", "13b")
    assert process.returncode == 2
    assert "--records" in process.stderr and "--tokens-per-record" in process.stderr
    process = command_in(tmp_path)("plan", "13b", "--tokens-per-record", "307")
    assert process.returncode == 2 and "add --records N" in process.stderr


def test_where_no_full_training_fits_lora_is_listed_as_another_training(command_in, tmp_path):
    words = [*CARD, "--gpu", "a100-40g", "-o", "train.processes=1", "-o", "train.micro_batch=16"]
    process = command_in(tmp_path)(*words)
    assert process.returncode == 0, process.stderr
    text = " ".join(process.stdout.split())
    assert "which does not fit" in text and "no setting fits 1 × a100-40g" in text
    assert "LoRA (-o train.lora.rank=16 -o train.lora.alpha=32) fits, and is another training" in text
    assert "settings with LoRA that fit, cheapest first" in text
    process = command_in(tmp_path)(*words, "-o", "train.lora.rank=16", "-o", "train.lora.alpha=32", "--format", "json")
    plan = json.loads(process.stdout)
    assert plan["recipe"]["lora"] == {"rank": 16, "alpha": 32.0, "targets": None}
    assert plan["settings"] and not plan["lora_settings"] and plan["problem"] is None
