"""`eval --protocol plain` of tasks that the suite does not have: lm-eval's own values, our errors, kept answers, bad input."""

import json
import re

import pytest
from harness_rows import Inventor, _mmlu, write_rows

from orca_bench.evaluate.harness.harness_entries import load_entries
from orca_bench.evaluate.harness.harness_scores import score_entry
from orca_bench.results import reading
from orca_bench.results.consistency import check_harness_task_value
from orca_bench.results.harness_summary import follows_from_questions, summarize_harness_metric
from orca_bench.results.task_results import HarnessTaskResult

pytestmark = pytest.mark.slow

TASKS = ("arc_easy", "boolq", "lambada_openai", "wikitext", "cola", "mmlu_social_sciences", "gsm8k_cot_zeroshot")
SUBJECTS = (
    *("econometrics", "high_school_geography", "high_school_government_and_politics", "high_school_macroeconomics"),
    *("high_school_microeconomics", "high_school_psychology", "human_sexuality", "professional_psychology"),
    *("public_relations", "security_studies", "sociology", "us_foreign_policy"),
)


PLAIN = ("--protocol", "plain", "--tasks")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Rows of lm-eval's tasks, and of MMLU's social sciences, of which each subject has another number."""
    folder = write_rows(tmp_path_factory.mktemp("rows"))
    for number, subject in enumerate(SUBJECTS):
        for split, count in (("dev", 5), ("test", 3 + number % 4)):
            invent = Inventor(f"{subject} {split}")
            file = folder / "cais/mmlu" / subject / f"{split}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(json.dumps(_mmlu(invent)) + "\n" for _ in range(count)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, command_in, tiny_model, rows):
    """The command's folder and the result of eight tasks, with its questions."""
    command = command_in(tmp_path_factory.mktemp("harness"))
    process = command(
        *("eval", "--model", tiny_model, "--protocol", "plain", "--tasks", ",".join(TASKS)),
        *("--benchmarks", rows, "--out", "plain.json"),
    )
    assert process.returncode == 0, process.stderr
    return command, reading.read_with_questions(command.folder / "plain.json"), process


def test_each_name_is_an_entry_with_lm_evals_own_values(evaluated):
    _, file, _ = evaluated
    result = file.result
    assert list(result.tasks) == list(TASKS) and result.complete
    for name, entry in result.tasks.items():
        assert isinstance(entry, HarnessTaskResult)
        own_values = result.lm_eval[name]["results"][name]
        for metric_name, metric in entry.metrics.items():
            assert metric.value == own_values[metric_name if "," in metric_name else f"{metric_name},none"]
        assert entry.value == entry.metrics[entry.metric].value
        questions = list(file.questions_by_task[name].questions_by_key.values())
        if follows_from_questions(entry.harness.aggregation):
            again = summarize_harness_metric(questions, entry.harness.aggregation, entry.unit, entry.weighting)
            assert again["value"] == pytest.approx(entry.value, rel=1e-12)
    wikitext = result.tasks["wikitext"]
    assert (wikitext.metric, wikitext.unit, wikitext.higher_is_better) == ("word_perplexity", "perplexity", False)
    assert list(wikitext.metrics) == ["word_perplexity", "byte_perplexity", "bits_per_byte"]
    assert result.tasks["gsm8k_cot_zeroshot"].metric == "exact_match,strict-match"
    cola = result.tasks["cola"]
    assert cola.unit == "" and "over all questions at once" in cola.interval_note


def test_the_standard_error_of_a_mean_is_lm_evals_own(evaluated):
    from lm_eval.api.metrics import mean_stderr

    entry, questions = evaluated[1].result.tasks["boolq"], evaluated[1].questions_by_task["boolq"]
    scores = [question.score for question in questions.questions_by_key.values()]
    assert entry.stderr == pytest.approx(mean_stderr(scores), rel=1e-12)


def test_a_group_is_one_entry_with_its_tasks_as_parts(evaluated):
    group = evaluated[1].result.tasks["mmlu_social_sciences"]
    assert list(group.subjects) == [f"mmlu_{subject}" for subject in SUBJECTS] and group.weighting == "questions"
    total = sum(part.n for part in group.subjects.values())
    assert group.n == total == sum(3 + number % 4 for number in range(12))
    assert sum(part.n * part.value for part in group.subjects.values()) / total == pytest.approx(group.value, rel=1e-12)
    questions = evaluated[1].questions_by_task["mmlu_social_sciences"].questions_by_key.values()
    assert {question.suite_task for question in questions} == {"mmlu_social_sciences"}


def test_a_group_whose_parts_count_alike_is_their_plain_mean(rows):
    from dataclasses import replace

    from lm_eval.api.group import Group
    from lm_eval.config.group import AggMetricConfig

    (mmlu_entry,) = load_entries(["mmlu_social_sciences"], rows)
    tasks = {name: mmlu_entry.tasks_by_name[name] for name in ("mmlu_econometrics", "mmlu_sociology")}
    group = Group("pair", aggregate_metric_list=[AggMetricConfig(metric="acc", weight_by_size=False)])
    for task in tasks.values():
        group.add(task)
    entry = replace(mmlu_entry, name="pair", tasks_by_name=tasks, group=group)
    scores = {"mmlu_econometrics": [1, 0, 1], "mmlu_sociology": [1, 0, 0, 0, 0]}
    samples = {
        name: [
            {"doc_id": n, "target": 0, "arguments": [("a", " b")], "resps": [[(-1.0, True)]], "filtered_resps": [0]}
            | {"filter": "none", "metrics": ["acc"], "doc_hash": f"{name}{n}", "acc": score}
            for n, score in enumerate(own_scores)
        ]
        for name, own_scores in scores.items()
    }
    values = {name: {"acc,none": sum(own) / len(own)} for name, own in scores.items()}
    values["pair"] = group.aggregate({name: {**values[name], "sample_len": len(own)} for name, own in scores.items()})
    result = score_entry(entry, {"samples": samples, "results": values}).task_result
    assert result.value == pytest.approx((2 / 3 + 1 / 5) / 2) and result.weighting == "parts"
    part_errors = [part.stderr for part in result.subjects.values()]
    assert result.stderr == pytest.approx(sum(error**2 for error in part_errors) ** 0.5 / 2, rel=1e-12)


def test_hidden_labels_are_warned_of(rows):
    (entry,) = load_entries(["boolq"], rows)
    samples = [
        {"doc_id": n, "target": target, "arguments": [("a", " b")], "resps": [[(-1.0, True)], [(-2.0, True)]]}
        | {"filtered_resps": [0, 0], "filter": "none", "metrics": ["acc"], "doc_hash": str(n), "acc": 0.0}
        for n, target in enumerate((-1, 0, 2, 1))
    ]
    scores = score_entry(entry, {"samples": {"boolq": samples}, "results": {"boolq": {"acc,none": 0.0}}})
    assert "the right answer of 2 of 4 questions is none of their choices" in scores.task_result.warnings[0]


def test_questions_have_what_lm_eval_scored(evaluated):
    file = evaluated[1]
    for question in file.questions_by_task["wikitext"].questions_by_key.values():
        assert question.score == question.answers[0] < 0 < question.weight and len(question.document_sha256) == 64
        assert question.metrics["byte_perplexity"][0] == question.score
    for question in file.questions_by_task["arc_easy"].questions_by_key.values():
        assert question.score == (question.prediction == question.gold) == question.metrics["acc"]
    text = next(iter(file.questions_by_task["gsm8k_cot_zeroshot"].questions_by_key.values()))
    assert isinstance(text.answers[0], str) and set(text.metrics) == {
        *("exact_match,strict-match", "exact_match,flexible-extract")
    }


def test_the_same_command_takes_all_answers_from_the_cache(evaluated, rows, tiny_model):
    command, file, _ = evaluated
    before = (command.folder / "plain.questions.jsonl").read_text()
    process = command(
        *("eval", "--model", tiny_model, "--protocol", "plain", "--tasks", "wikitext,arc_easy,cola"),
        *("--benchmarks", rows, "--out", "plain.json", "--processes", 2),
    )
    assert process.returncode == 0, process.stderr
    assert "wikitext: 8 answers were cached" in process.stderr and "which stay in the result" in process.stderr
    again = reading.read_with_questions(command.folder / "plain.json")
    assert again.result.complete and list(again.result.tasks) == list(TASKS)
    assert sorted(before.splitlines()) == sorted((command.folder / "plain.questions.jsonl").read_text().splitlines())
    assert {name: entry.requests_sha256 for name, entry in again.result.tasks.items()} == {
        name: entry.requests_sha256 for name, entry in file.result.tasks.items()
    }


def test_a_limit_holds_for_each_task_and_the_result_is_verified(evaluated, rows, tiny_model):
    command, file, _ = evaluated
    process = command(
        *("eval", "--model", tiny_model, "--protocol", "plain", "--tasks", "mmlu_social_sciences,wikitext"),
        *("--benchmarks", rows, "--limit", 2, "--out", "two.json"),
    )
    assert process.returncode == 0, process.stderr
    result = reading.read_with_questions(command.folder / "two.json").result
    assert {name: entry.n for name, entry in result.tasks.items()} == {"mmlu_social_sciences": 24, "wikitext": 2}
    assert result.data_hashes["wikitext"] == file.result.data_hashes["wikitext"]
    verified = command("verify", "two.json", "-v")
    assert verified.returncode == 0 and "wikitext: value" in verified.stdout, verified.stdout


def test_lm_evals_tasks_have_limits_and_token_limits_of_their_own(evaluated, rows, tiny_model):
    command, file, _ = evaluated
    tasks = "mmlu_social_sciences,wikitext,boolq,gsm8k_cot_zeroshot"
    process = command(
        *("eval", "--model", tiny_model, *PLAIN, tasks, "--benchmarks", rows, "--limit", 3, "--limit", "wikitext=2"),
        *("--limit", "mmlu_social_sciences=1", "--limit", "gsm8k_cot_zeroshot=all"),
        *("--max-new-tokens", "gsm8k_cot_zeroshot=5", "--name", "m"),
    )
    assert process.returncode == 0, process.stderr
    (path,) = (command.folder / "runs/m/results").glob("*.json")
    assert path.name.startswith("plain-gsm8k_cot_zeroshot-room5-limit3-")
    result = reading.read_with_questions(path).result
    full_count = file.result.tasks["gsm8k_cot_zeroshot"].n
    assert {name: entry.n for name, entry in result.tasks.items()} == {
        **{"mmlu_social_sciences": 12, "wikitext": 2, "boolq": 3, "gsm8k_cot_zeroshot": full_count}
    }
    assert [result.question_limit.of_task(name) for name in result.tasks] == [1, 2, 3, None]
    assert str(result.question_limit) == (
        "first 3 questions of boolq, 1 of mmlu_social_sciences, 2 of wikitext, all of gsm8k_cot_zeroshot"
    )
    texts, limited = file.result.tasks["gsm8k_cot_zeroshot"], result.tasks["gsm8k_cot_zeroshot"]
    assert limited.harness.generation["max_gen_toks"] == 5 and limited.requests_sha256 != texts.requests_sha256
    assert result.protocol.max_new_tokens["gsm8k_cot_zeroshot"] == 5
    assert "max_new_tokens" in result.protocol.differing_keys(file.result.protocol, ["gsm8k_cot_zeroshot"])
    verified = command("verify", path, "-v")
    assert verified.returncode == 0, verified.stdout


def test_verify_finds_a_changed_value_and_a_changed_score(evaluated, rows, tiny_model):
    command, file, _ = evaluated
    questions_by_task = {
        name: list(questions.questions_by_key.values()) for name, questions in file.questions_by_task.items()
    }
    paths: set[tuple[str, ...]] = set()
    assert check_harness_task_value(file.result, "wikitext", questions_by_task["wikitext"], paths).matches
    assert ("tasks", "wikitext", "metrics", "bits_per_byte", "value") in paths
    assert check_harness_task_value(file.result, "cola", questions_by_task["cola"], paths).matches is None
    changed = [question.model_copy() for question in questions_by_task["wikitext"]]
    changed[0].score -= 1
    finding = check_harness_task_value(file.result, "wikitext", changed, paths)
    assert finding.matches is False and "value" in finding.detail


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--protocol", "plain", "--tasks", "arc_esy"), "no task, group or tag 'arc_esy'.*arc_easy"),
        (("--tasks", "wikitext"), "unknown task 'wikitext'.*only --protocol plain"),
        (("--protocol", "plain", "--tasks", "swag"), "swag.*cannot be had"),
        (("--protocol", "plain", "--tasks", "humaneval"), "humaneval"),
        (("--protocol", "plain", "--tasks", ","), "no task named"),
        (
            (*PLAIN, "arc_easy", "--limit", "arc_esy=2"),
            "--limit: 'arc_esy' is no task of this.*did you mean 'arc_easy'",
        ),
        ((*PLAIN, "arc_easy", "--limit", "piqa=2"), "--limit: 'piqa' is no task of this evaluation; it has arc_easy"),
        ((*PLAIN, "winogrande", "--limit", "arc_easy=2"), "--limit: unknown task 'arc_easy'"),
        (
            (*PLAIN, "mmlu_social_sciences", "--limit", "mmlu_sociology=2"),
            "a part of mmlu_social_sciences.*give mmlu_social_sciences=N",
        ),
        ((*PLAIN, "arc_easy", "--max-new-tokens", "arc_easy=2"), "--max-new-tokens: arc_easy is no task whose answers"),
        (
            (*PLAIN, "gsm8k_cot_zeroshot", "--max-new-tokens", "gsm8k_cot_zeroshto=2"),
            "did you mean 'gsm8k_cot_zeroshot'",
        ),
        ((*PLAIN, "gsm8k_cot_zeroshot", "--max-new-tokens", "gsm8k_cot_zeroshot=0"), "gives no number of tokens"),
    ],
)
def test_what_cannot_be_evaluated_is_said_in_one_line(command, rows, tiny_model, arguments, problem):
    process = command("eval", "--model", tiny_model, "--benchmarks", rows, *arguments)
    assert process.returncode == 2 and "Traceback" not in process.stderr, process.stderr
    assert re.search(problem, process.stderr), process.stderr
