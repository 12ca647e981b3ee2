"""The gate on log-probabilities finds faults that are planted in the code, on a tiny model and on the real one.

Each fault is one of a line: the scores of so few questions need not show it, the log-probabilities of many do.
"""

import copy
import json
import re
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import gate_real
import pytest
import regression_rows

from orca_bench import api
from orca_bench.evaluate.benchmark_rows import load_task_rows
from orca_bench.evaluate.engine import tree_engine
from orca_bench.evaluate.request_encoding import HarnessEncoding, OrcaEncoding
from orca_bench.evaluate.tasks import select
from orca_bench.report import gate_formats
from orca_bench.report.gate import check
from orca_bench.report.gate_rules import GateRules
from orca_bench.report.gate_sentence import gate_sentence
from orca_bench.results import reading
from orca_bench.results.hashing import is_unchanged_since_writing

ROOT = Path(__file__).resolve().parents[2]
#: Tasks of short contexts, and how many of their questions (of each subject) are fixed_model.
LIMIT = {"mmlu": 1, "truthful_qa": 4, "winogrande": 4}
RULES = GateRules(max_log_probability_change=float(gate_real.MAX_CHANGE))


# --- the faults ---------------------------------------------------------------------------------------------------


def bos_in_front_of_every_context(monkeypatch):
    """Protocol `leaderboard` has none."""
    context_ids = HarnessEncoding._context_ids
    monkeypatch.setattr(
        HarnessEncoding, "_context_ids", lambda self, text: [self.tokenizer.bos_id, *context_ids(self, text)]
    )


def no_bos(monkeypatch):
    """Protocol `orca` has one."""
    context_ids = OrcaEncoding._context_ids
    monkeypatch.setattr(OrcaEncoding, "_context_ids", lambda self, text: context_ids(self, text)[1:])


def another_rope_base(monkeypatch):
    load_model = tree_engine.load_model

    def load(*arguments, **options):
        model = load_model(*arguments, **options)
        rotary, config = model.model.rotary_emb, copy.deepcopy(model.config)
        config.rope_parameters["rope_theta"] *= 0.5
        rotary.inv_freq = rotary.compute_default_rope_parameters(config)[0]
        return model

    monkeypatch.setattr(tree_engine, "load_model", load)


def first_token_left_out(monkeypatch):
    move_scored_start(monkeypatch, lambda sequence: min(sequence.scored_start + 1, len(sequence.token_ids) - 1))


def one_token_too_many(monkeypatch):
    move_scored_start(monkeypatch, lambda sequence: max(sequence.scored_start - 1, 1))


def move_scored_start(monkeypatch, scored_start):
    """In the engine, behind the hash of the token ids: nothing else can see it."""
    log_likelihoods = tree_engine.TreeEngine.log_likelihoods

    def moved(self, sequences, *arguments):
        sequences = [replace(sequence, scored_start=scored_start(sequence)) for sequence in sequences]
        return log_likelihoods(self, sequences, *arguments)

    monkeypatch.setattr(tree_engine.TreeEngine, "log_likelihoods", moved)


def token_ids_of_the_neighbour(monkeypatch):
    """The continuation begins one token early already where the request is encoded."""
    pair_ids = HarnessEncoding._pair_ids

    def shifted(self, context, continuation):
        context_ids, continuation_ids = pair_ids(self, context, continuation)
        return context_ids[:-1], [context_ids[-1], *continuation_ids]

    monkeypatch.setattr(HarnessEncoding, "_pair_ids", shifted)


# --- the models --------------------------------------------------------------------------------------------------


class FixedModel:
    """A model and rows; its results, computed anew, and the baseline of each protocol without a fault."""

    def __init__(self, folder, model, benchmarks):
        self.folder, self.model, self.benchmarks, self.baselines = folder, model, benchmarks, {}

    def result(self, protocol, name):
        return api.evaluate(
            self.model,
            self.folder / "runs",
            tasks=list(LIMIT),
            protocol=protocol,
            benchmarks=self.benchmarks,
            limit=LIMIT,
            dtype="float32",
            out=self.folder / f"{name}-{protocol}.json",
            fresh=True,
        )[protocol]

    def baseline(self, protocol):
        if protocol not in self.baselines:
            self.baselines[protocol] = self.result(protocol, "baseline")
        return self.baselines[protocol]


@pytest.fixture(scope="module", params=["tiny", pytest.param("real", marks=pytest.mark.long)])
def fixed_model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixed_model")
    if request.param == "tiny":
        model, benchmarks = request.getfixturevalue("tiny_model"), request.getfixturevalue("mini")["mini:benchmarks"]
    else:
        model, benchmarks = request.getfixturevalue("real_model_file"), folder / "rows"
        regression_rows.write_rows(benchmarks)
    return FixedModel(folder, model, benchmarks)


def test_the_same_code_gives_the_same_log_probabilities(fixed_model):
    baseline = fixed_model.baseline("leaderboard")
    report = check(fixed_model.result("leaderboard", "again"), [baseline], RULES)
    assert report.passed, gate_sentence(report)
    assert all(task.largest_change == 0 for task in report.log_probabilities)


@pytest.mark.parametrize(
    ("fault", "protocol", "obstacle"),
    [
        (bos_in_front_of_every_context, "leaderboard", "other token ids"),
        (no_bos, "orca", "other token ids"),
        (another_rope_base, "leaderboard", ""),
        (first_token_left_out, "leaderboard", ""),
        (one_token_too_many, "leaderboard", ""),
        (token_ids_of_the_neighbour, "leaderboard", "other token ids"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_planted_fault_is_found_and_its_questions_are_named(fixed_model, monkeypatch, fault, protocol, obstacle):
    baseline = fixed_model.baseline(protocol)
    fault(monkeypatch)
    result = fixed_model.result(protocol, fault.__name__)
    report = check(result, [baseline], RULES)
    assert not report.passed
    assert obstacle in "; ".join(map(str, report.obstacles)) if obstacle else not report.obstacles
    question_count = sum(task.question_count for task in report.log_probabilities)
    changed_count = sum(len(task.changed_questions) for task in report.log_probabilities)
    # One token too many is the colon after "Answer" or "A" in MMLU and TruthfulQA, of which the real model is certain.
    assert changed_count >= 0.25 * question_count
    assert len(re.findall(r"\brow \d+", gate_formats.to_markdown(report, None))) >= changed_count


# --- the committed baselines and the command ----------------------------------------------------------------------


@pytest.mark.parametrize("protocol", gate_real.PROTOCOLS)
def test_the_committed_baselines_are_of_the_rows_of_the_gate(protocol, tmp_path):
    baseline = reading.read_with_questions(ROOT / gate_real.BASELINES / f"smollm2-{protocol}.json")
    assert baseline.result.complete and is_unchanged_since_writing(baseline.result)
    assert baseline.result.model.dtype == "float32" and baseline.result.protocol.name == protocol
    assert tuple(baseline.questions_by_task) == regression_rows.TASKS
    assert sum(len(task.questions_by_key) for task in baseline.questions_by_task.values()) == 150
    regression_rows.write_rows(tmp_path)
    for task in select(",".join(regression_rows.TASKS)):
        hashes = load_task_rows(task, tmp_path).hashes_by_split
        assert baseline.result.data_hashes[task.name] == hashes, "make gate-real RENEW=1 writes the baselines again"


def test_the_questions_are_of_many_scripts_and_one_is_longer_than_the_window_of_orca():
    texts = json.dumps([row for rows in regression_rows.generate_rows().values() for row in rows], ensure_ascii=False)
    scripts = {unicodedata.name(character, "").split()[0] for character in set(texts) if character.isalpha()}
    assert scripts >= {
        "LATIN",
        "CYRILLIC",
        "GREEK",
        "HEBREW",
        "ARABIC",
        "DEVANAGARI",
        "THAI",
        "CJK",
        "HIRAGANA",
        "HANGUL",
    }
    assert "🎸" in texts and "\u200d" in texts and "def total" in texts
    orca = reading.read_result(ROOT / gate_real.BASELINES / "smollm2-orca.json")
    assert orca.tasks["truthful_qa"].shortened


def test_without_the_model_the_gate_says_which_command_fetches_it(tmp_path):
    process = subprocess.run(
        [sys.executable, gate_real.__file__],
        env={"ORCA_BENCH_CACHE": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2 and process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert line.startswith("error: ") and line.endswith("the real model is not there; make real-model fetches it")
