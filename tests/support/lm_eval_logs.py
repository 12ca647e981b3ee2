"""Logs that lm-eval writes itself (`--log_samples --output_path`), of tasks over invented rows that need no network."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import lm_eval
from lm_eval.api.model import LM
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

_NOUNS = ("stone", "river", "candle", "ladder", "violin", "anchor", "basket", "mirror", "button", "feather")
_COLOURS = ("red", "green", "blue", "grey", "white")

_MULTIPLE_CHOICE = """
task: TASK
dataset_path: json
dataset_kwargs: {data_files: {test: "ROWS"}}
output_type: multiple_choice
test_split: test
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{gold}}"
doc_to_choice: "{{choices}}"
"""
_GENERATION = """
task: TASK
dataset_path: json
dataset_kwargs: {data_files: {test: "ROWS"}}
output_type: generate_until
test_split: test
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 6, do_sample: false}
"""
_PLAIN_TEXT = """
task: TASK
dataset_path: json
dataset_kwargs: {data_files: {test: "ROWS"}}
test_split: test
"""

#: By task: the head of its file, and what is its own.
_TASKS = {
    "choice_plain": (_MULTIPLE_CHOICE, "metadata: {version: 1.0}"),
    "choice_norm": (
        _MULTIPLE_CHOICE,
        "metric_list:\n  - {metric: acc, aggregation: mean, higher_is_better: true}\n"
        "  - {metric: acc_norm, aggregation: mean, higher_is_better: true}\nmetadata: {version: 2.0}",
    ),
    "choice_mcc": (
        _MULTIPLE_CHOICE,
        "metric_list:\n  - {metric: mcc}\n  - {metric: f1, aggregation: f1, higher_is_better: true}\n",
    ),
    "choice_brier": (_MULTIPLE_CHOICE, "metric_list:\n  - {metric: brier_score}\n  - {metric: acc}\n"),
    "choice_shots": (
        _MULTIPLE_CHOICE,
        "fewshot_split: test\nnum_fewshot: 2\nmetadata: {version: 1.0}",
    ),
    "part_one": (_MULTIPLE_CHOICE, "metadata: {version: 0.0}"),
    "part_two": (_MULTIPLE_CHOICE, "metadata: {version: 0.0}"),
    "sums": (
        _GENERATION,
        "metric_list:\n  - {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}\n"
        "filter_list:\n  - name: strict-match\n    filter:\n      - {function: regex, regex_pattern: 'is (\\w+)'}\n"
        "      - {function: take_first}\n"
        "  - name: flexible-extract\n    filter:\n      - {function: regex, group_select: -1, regex_pattern: '(\\w+)'}\n"
        "      - {function: take_first}\nmetadata: {version: 3.0}",
    ),
    "translation": (
        _GENERATION,
        "metric_list:\n  - {metric: bleu}\n  - {metric: exact_match}\nmetadata: {version: 1.0}",
    ),
    "last_word": (
        _PLAIN_TEXT,
        'output_type: loglikelihood\ndoc_to_text: "{{text}}"\ndoc_to_target: " {{word}}"\n'
        "metric_list:\n  - {metric: perplexity}\n  - {metric: acc}\nmetadata: {version: 1.0}",
    ),
    "pages": (
        _PLAIN_TEXT,
        'output_type: loglikelihood_rolling\ndoc_to_text: ""\ndoc_to_target: "{{text}}"\n'
        "metric_list:\n  - {metric: word_perplexity}\n  - {metric: byte_perplexity}\n  - {metric: bits_per_byte}\n",
    ),
    "votes": (
        _GENERATION,
        "repeats: 2\nmetric_list:\n  - {metric: exact_match}\n"
        "filter_list:\n  - name: maj@2\n    filter:\n      - {function: majority_vote}\n      - {function: take_first}\n",
    ),
}
_GROUP = "group: parts\ntask: [part_one, part_two]\naggregate_metric_list:\n  - {metric: acc, weight_by_size: true}\n"

#: All tasks, one group among them.
TASK_NAMES = (*(name for name in _TASKS if not name.startswith("part_")), "parts")


def write_tasks(folder: Path, row_count: int = 24) -> Path:
    """Task files of lm-eval for TASK_NAMES, with `row_count` invented rows each; returns the folder for --include_path."""
    folder.mkdir(parents=True, exist_ok=True)
    for task, (head, rest) in _TASKS.items():
        rows_file = folder / f"{task}.jsonl"
        choice_count = 2 if task == "choice_mcc" else 4  # lm-eval's f1 is of two classes
        rows = [_row(random.Random(f"{task} {number}"), number, choice_count) for number in range(row_count)]
        rows_file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        text = f"{head}{rest}\n".replace("ROWS", str(rows_file)).replace("TASK", task)
        (folder / f"{task}.yaml").write_text(text, encoding="utf-8")
    (folder / "parts.yaml").write_text(_GROUP, encoding="utf-8")
    return folder


def _row(rng: random.Random, number: int, choice_count: int) -> dict:
    nouns = rng.sample(_NOUNS, choice_count)
    gold = rng.randrange(choice_count)
    first, second = rng.randrange(20), rng.randrange(20)
    return {
        "question": f"({number}) which of these is the {rng.choice(_COLOURS)} one?",
        "choices": [f"the {noun} of {rng.choice(_COLOURS)}" for noun in nouns],
        "gold": gold,
        "answer": nouns[gold],
        "text": f"Item {number}: the {nouns[0]} lay beside the {nouns[1]}, and {first} + {second} is",
        "word": str(first + second),
    }


class NamedAnswers(LM):
    """A model of lm-eval whose answers follow from its name and each request; it needs no tokenizer and no network."""

    tokenizer_name = ""

    def __init__(self, name: str):
        super().__init__()
        self._name = name

    def loglikelihood(self, requests, disable_tqdm=False):
        return [(-20 * self._rng(request).random(), False) for request in requests]

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        return [-len(request.args[0]) * self._rng(request).random() for request in requests]

    def generate_until(self, requests, disable_tqdm=False):
        return [f"it is {self._rng(request).choice(_NOUNS)}, or a box" for request in requests]

    def apply_chat_template(self, chat_history, add_generation_prompt=True):
        return "".join(f"[{turn['role']}] {turn['content']}" for turn in chat_history)

    def chat_template(self, chat_template=False):
        return "[role] content"

    def _rng(self, request) -> random.Random:
        return random.Random(f"{self._name} {request.args[:2]}")


def write_log(
    task_folder: Path, output: Path, tasks: Sequence[str] = TASK_NAMES, name: str = "first", **options
) -> Path:
    """Let lm-eval evaluate tasks as its command line does with `--log_samples --output_path`; returns the results file.

    The model is `NamedAnswers(name)`; `options` are further arguments of lm-eval's `simple_evaluate`.
    """
    tracker = EvaluationTracker(output_path=str(output))
    options = {"bootstrap_iters": 10, "log_samples": True} | options
    results = lm_eval.simple_evaluate(
        model=NamedAnswers(name),
        model_args={"pretrained": f"someone/{name}"},
        tasks=list(tasks),
        task_manager=TaskManager(include_path=str(task_folder), include_defaults=False),
        evaluation_tracker=tracker,
        **options,
    )
    samples = results.pop("samples", None)
    tracker.save_results_aggregated(results=results, samples=samples)
    for task in results["configs"] if samples else ():
        tracker.save_results_samples(task_name=task, samples=samples[task])
    (path,) = Path(output).rglob(f"*{tracker.date_id}.json")
    return path
