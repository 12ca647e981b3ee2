"""What `export` refuses of its options before a model is looked up, and of its folder before records are read."""

import pytest

pytest.importorskip("gguf")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gptq"], "--gptq: which records is the rounding calibrated on?; give --records"),
        (["--gptq", "--gptq-iterations", "3"], "--gptq: which records is the rounding calibrated on?"),
        (["--gptq", "--gptq-iterations", "0", "--records", "absent.jsonl"], "--records: --gptq-iterations 0 rounds to"),
        (["--gptq", "--records", "absent.jsonl", "--gguf", "q8_0"], "--gguf: an option of GGUF files"),
        (["--gptq-iterations", "3"], "--gptq-iterations: only with --gptq"),
        (["--records", "absent.jsonl"], "--records: only with --gptq"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_the_model_is_looked_up(command, options, message):
    assert message in command.refused("export", "nobody/none", *options)


def test_a_folder_that_is_not_there_is_refused_before_the_records_of_a_report_are_read(command, tiny_model):
    words = ["export", tiny_model, "--gptq", "--gptq-iterations", "0", "--out", "no/m", "--report", "absent.jsonl"]
    assert "no: no such folder" in command.refused(*words)
