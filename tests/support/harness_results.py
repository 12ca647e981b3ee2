"""Small results of tasks that the suite does not have: a task of right or wrong, a perplexity, and a group of two tasks."""

import random

from orca_bench.results import reading, writing
from orca_bench.results.models import RESULT_FORMAT, HarnessQuestion, ModelDescription, Result, SuiteDescription
from orca_bench.results.protocol_description import ProtocolDescription
from orca_bench.results.summary import compute_averages
from orca_bench.results.task_results import HarnessTask, HarnessTaskResult, MetricResult, PartResult

ROW_HASH = "d" * 64


def harness_result(target, label="a model", share=0.5, nats_per_word=4.0, seed=0, count=40, **heading):
    """A written and read result of `arc_easy` (acc), `wikitext` (perplexity of a word) and the group `pair` of two tasks.

    `share` is the probability that a question is right, `nats_per_word` what a word of a text costs.
    """
    from orca_bench.results.harness_summary import summarize_harness_metric

    rng = random.Random(seed)
    questions = [
        HarnessQuestion(task=task, index=n, row=n, score=float(rng.random() < share), answers=[-1.0, -2.0], group=group)
        for task, group in (("arc_easy", "arc_easy"), ("pair_a", "pair"), ("pair_b", "pair"))
        for n in range(count if task != "pair_b" else count // 2)
    ]
    for n in range(12):
        words = float(rng.randint(20, 60))
        nats = -words * (nats_per_word + rng.random())
        metrics = {"word_perplexity": [nats, words], "byte_perplexity": [nats, 5 * words]}
        questions.append(
            HarnessQuestion(
                task="wikitext",
                index=n,
                row=n,
                score=nats,
                answers=[nats],
                group="wikitext",
                weight=words,
                metrics=metrics,
            )
        )
    tasks = {}
    for name, metric, harness, facts in (
        ("arc_easy", "acc", HarnessTask(split="test", output_type="multiple_choice"), {}),
        (
            "wikitext",
            "word_perplexity",
            HarnessTask(split="test", output_type="loglikelihood_rolling", aggregation="weighted_perplexity"),
            {"unit": "perplexity", "higher_is_better": False},
        ),
        ("pair", "acc", HarnessTask(split="test"), {"weighting": "questions"}),
    ):
        own = [question for question in questions if question.group == name]
        estimate = summarize_harness_metric(own, harness.aggregation, facts.get("unit", ""), facts.get("weighting"))
        parts = sorted({question.task for question in own})
        subjects = {}
        if len(parts) > 1:
            for part in parts:
                of_part = [question for question in own if question.task == part]
                value = summarize_harness_metric(of_part, harness.aggregation, "", None)
                subjects[part] = PartResult(**value, n=len(of_part))
        tasks[name] = HarnessTaskResult(
            title=name,
            metric=metric,
            n=len(own),
            **estimate,
            **facts,
            **({"subjects": subjects} if subjects else {}),
            harness=harness,
            requests_sha256="c" * 64,
            metrics={
                metric: MetricResult(
                    **estimate,
                    aggregation=harness.aggregation,
                    **{key: value for key, value in facts.items() if key != "weighting"},
                )
            },
        )
    result = Result(
        format=RESULT_FORMAT,
        complete=True,
        order=list(tasks),
        protocol=ProtocolDescription(name="plain", version=1, lm_eval="0.4.13"),
        suite=SuiteDescription(name="lm-eval", comparable=False),
        model=ModelDescription(**({"name": label, "path": None} | heading)),
        tasks=tasks,
        averages=compute_averages(tasks),
        data_hashes={name: {"test": ROW_HASH} for name in tasks},
    )
    writing.write_result(target, result, questions)
    return reading.read_with_questions(target, label)
