"""Compare the leaderboard protocol with the harness that it reproduces, by running that harness.

    git clone https://github.com/EleutherAI/lm-evaluation-harness && cd lm-evaluation-harness
    git checkout b281b0921b636bc36ad05c0b0b0763bd6dd43463
    python tests/benchmarks/against_b281b092.py CHECKOUT BENCHMARKS [--limit N] [--model FOLDER]

That commit no longer installs, but its evaluator and its task classes still run once the libraries that they import and do
not need here (sacrebleu, rouge_score, …) are empty modules. Its own `evaluator.evaluate` asks a model that records every
request and answers from a fixed rule; the same answers are scored here; every context, continuation, stop list and metric of
every document must be equal, to the last bit. With --model, that commit's own `AutoCausalLM` (hf-causal-experimental) answers the
requests of N documents of each task as well: log-probabilities must agree to 1e-4, texts exactly. Exit code 1 where not.
"""

import argparse
import contextlib
import hashlib
import io
import json
import random
import re
import sys
import types
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def their_harness(checkout: Path):
    """The evaluator and the seven task modules of the checkout, imported under empty stand-ins for what they do not need."""
    for name in [name for name in sys.modules if name == "lm_eval" or name.startswith("lm_eval.")]:
        del sys.modules[name]

    class Anything(types.ModuleType):
        __path__: list = []

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

    for name in ("sacrebleu", "sklearn", "sklearn.metrics", "sqlitedict", "omegaconf", "rouge_score", "peft"):
        sys.modules.setdefault(name, Anything(name))
    # Their packages import every task and every model; stand-ins with the same folders import one at a time.
    for name in ("lm_eval", "lm_eval.tasks", "lm_eval.models"):
        package = types.ModuleType(name)
        package.__path__ = [str(checkout.joinpath(*name.split(".")))]
        sys.modules[name] = package
        if "." in name:
            setattr(sys.modules["lm_eval"], name.split(".")[1], package)
    import importlib

    modules = ("arc", "hellaswag", "hendrycks_test", "truthfulqa", "winogrande", "gsm8k", "drop")
    tasks = {name: importlib.import_module(f"lm_eval.tasks.{name}") for name in modules}
    return importlib.import_module("lm_eval.evaluator"), tasks


def their_tasks(modules: dict, rows: dict[str, dict[str, list]]):
    """(our task name, their task object) of all tasks, over rows by task and split."""

    def task_over(cls, splits, *arguments):
        class Local(cls):
            def download(self, *_, **__):
                self.dataset = splits

        return Local(*arguments)

    plain = {
        "arc_challenge": modules["arc"].ARCChallenge,
        "hellaswag": modules["hellaswag"].HellaSwag,
        "truthful_qa": modules["truthfulqa"].TruthfulQAMultipleChoice,
        "winogrande": modules["winogrande"].Winogrande,
        "gsm8k": modules["gsm8k"].GradeSchoolMath8K,
        "drop": modules["drop"].DROP,
    }
    for name, cls in plain.items():
        if name in rows:
            yield name, task_over(cls, rows[name])
    for subject in modules["hendrycks_test"].SUBJECTS if "mmlu" in rows else ():
        splits = {split: [row for row in part if row["subject"] == subject] for split, part in rows["mmlu"].items()}
        if splits["test"]:
            yield f"mmlu_{subject}", task_over(modules["hendrycks_test"].GeneralHendrycksTest, splits, subject)


def answer_of(context: str, continuation: str | None) -> float | str:
    """A fixed answer to a request: a log-probability that is often equal to another's, or a text made from the context."""
    seed = hashlib.sha256(f"{context}\0{continuation}".encode()).digest()
    rng = random.Random(seed)
    if continuation is not None:
        return rng.choice([-float(rng.randint(1, 9)), rng.uniform(-400, -0.01), -1.5 * len(continuation)])
    words = re.findall(r"\S+", context.rsplit("\n\n", 1)[-1])
    text = " ".join(rng.sample(words, min(len(words), rng.randint(0, 5))))
    number = rng.choice([w for w in words if re.search(r"\d", w)] or ["7"])
    return rng.choice([text, f"{text} #### {number}", f"#### {rng.randint(1, 60)}", number, f" {text}-{number}, the "])


class Recorder:
    """The model that their evaluator calls; `right_answers` may have answers to contexts that are better than the rule's."""

    def __init__(self, right_answers: dict[str, str]):
        self.right_answers = right_answers

    def loglikelihood(self, requests):
        return [(answer_of(*request), False) for request in requests]

    def greedy_until(self, requests):
        return [self.right_answers.get(context, answer_of(context, None)) for context, _ in requests]


def compare(checkout: Path, benchmarks: Path, limit: int | None, names: str = "all") -> dict[str, int]:
    """Compare all tasks; returns how many requests of each were equal, and raises AssertionError where one is not."""
    from orca_bench.evaluate import benchmark_rows, protocols
    from orca_bench.evaluate.tasks import select

    evaluator, modules = their_harness(checkout)
    rows = {task.name: benchmark_rows.load_task_rows(task, benchmarks) for task in select(names)}
    splits = {
        task.name: {
            task.evaluation_split: rows[task.name].evaluation_rows,
            **({task.few_shot_split: rows[task.name].few_shot_pool} if task.few_shot_split else {}),
        }
        for task in select(names)
    }
    splits = json.loads(json.dumps(splits))  # their classes change rows in place
    documents, task_of = {}, {}
    protocol = protocols.Leaderboard()
    for task in select(names):
        for document in protocol.documents(task, rows[task.name], limit):
            documents.setdefault(document.part_name, []).append(document)
            task_of[document.part_name] = task
    right_answers = {}  # a third of the texts are right, so that scores above 0 are compared too
    for name, of_task in documents.items():
        for document in of_task[::3] if task_of[name].generates_text else ():
            right_answers[document.requests[0].context] = task_of[name].few_shot_answer(document.row)
    counts: dict[str, int] = {}
    for name, theirs in their_tasks(modules, splits):
        task, mine = task_of[name], documents.pop(name)
        request_lists, scored = [], []
        make, process = theirs.construct_requests, theirs.process_results

        def construct(doc, ctx, make=make, request_lists=request_lists):
            requests = make(doc, ctx)
            request_lists.append(requests if isinstance(requests, (list, tuple)) else [requests])
            return requests

        def score(doc, results, process=process, scored=scored):
            scored.append(process(doc, results))
            return scored[-1]

        theirs.construct_requests, theirs.process_results = construct, score
        shots = task.shots
        with contextlib.redirect_stdout(io.StringIO()):
            metrics_of_task = evaluator.evaluate(
                lm=Recorder(right_answers), task_dict={name: theirs}, num_fewshot=shots, limit=limit, bootstrap_iters=0
            )["results"][name]
        assert len(request_lists) == len(scored) == len(mine), (name, len(request_lists), len(mine))
        values = []
        for document, requests, metrics in zip(mine, request_lists, scored, strict=True):
            place = f"{name} document {document.document_index}"
            assert len(requests) == len(document.requests), place
            answers = []
            for theirs_, ours in zip(requests, document.requests, strict=True):
                context, second = theirs_.args
                assert context == ours.context, f"{place}: context"
                if task.generates_text:
                    assert second == {"until": list(ours.stop_strings)}, f"{place}: stops"
                    value = right_answers.get(context, answer_of(context, None))
                else:
                    assert second == ours.continuation, f"{place}: continuation"
                    value = answer_of(context, second)
                answers.append(protocols.Answer(value))
            question = protocol.score(task, document, answers)
            assert question.value == float(metrics[task.metric]), (place, question, metrics)
            for metric in set(metrics) & set(question.extra):
                assert question.extra[metric] == float(metrics[metric]), (place, metric, question, metrics)
            values.append(question.value)
        assert sum(values) / len(values) == float(metrics_of_task[task.metric]), name
        counts[task.name] = counts.get(task.name, 0) + sum(map(len, request_lists))
    assert not documents, f"not compared: {sorted(documents)}"
    return counts


def their_model(folder: Path, max_length: int):
    """Their `AutoCausalLM` over a model folder; its constructor asks transformers for arguments that are gone."""
    import importlib

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    sys.modules["peft"].__version__ = "0"
    cls = importlib.import_module("lm_eval.models.huggingface").AutoCausalLM
    lm = cls.__new__(cls)
    lm.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    lm.tokenizer = AutoTokenizer.from_pretrained(folder)
    lm.tokenizer.pad_token, lm.tokenizer.padding_side = lm.tokenizer.eos_token, "left"
    lm._config, lm._max_length, lm._max_gen_toks = lm.model.config, max_length, 256
    lm._add_special_tokens, lm._batch_size, lm._device = None, 1, "cpu"
    lm.cache_hook = type("NoCache", (), {"add_partial": lambda *_: None})()
    return lm


def compare_model(
    checkout: Path, benchmarks: Path, limit: int, model: Path, names: str = "all", window: int = 0
) -> dict:
    """Compare the answers of their model class with ours; returns the largest difference, counts of texts and of cut ones."""
    from orca_bench.evaluate import benchmark_rows, protocols, request_encoding
    from orca_bench.evaluate.engine import tree_engine
    from orca_bench.evaluate.harness.language_model import HarnessModel
    from orca_bench.evaluate.harness.protocol_tasks import run_documents
    from orca_bench.evaluate.tasks import select
    from orca_bench.models.architecture import context_window_tokens as window_of
    from orca_bench.models.model_folder import ModelFolder

    folder = ModelFolder(str(model))
    engine, tokenizer = tree_engine.load_engine(folder), folder.tokenizer
    length = window or window_of(engine.model.config)
    protocol = protocols.Leaderboard()
    ours: dict[protocols.Request, protocols.Answer] = {}
    for task in select(names):
        documents = protocol.documents(task, benchmark_rows.load_task_rows(task, benchmarks), limit)
        rule = request_encoding.LeaderboardEncoding(tokenizer, length)
        questions = run_documents(HarnessModel(engine, rule), task, protocol, documents).questions
        for document, question in zip(documents, questions, strict=True):
            for number, request in enumerate(document.requests):
                greedy = None if question.greedy is None else question.greedy[number]
                full_text = None if question.whole is None else question.whole[number]
                ours[request] = protocols.Answer(question.answers[number], greedy, full_text)
    their_harness(checkout)
    theirs = their_model(model, length)
    pairs = [request for request in ours if request.continuation is not None]
    texts = [request for request in ours if request.continuation is None]
    worst = 0.0
    with contextlib.redirect_stderr(io.StringIO()):
        scores = theirs.loglikelihood([(r.context, r.continuation) for r in pairs])
        generated = theirs.greedy_until([(r.context, {"until": list(r.stop_strings)}) for r in texts])
    for request, (logprob, greedy) in zip(pairs, scores, strict=True):
        worst = max(worst, abs(logprob - ours[request].logprob_or_text))
        assert abs(logprob - ours[request].logprob_or_text) < 1e-4 and greedy == ours[request].is_greedy, (
            request,
            logprob,
            ours[request],
        )
    for request, text in zip(texts, generated, strict=True):
        assert same_text(text, ours[request].logprob_or_text), (request, text, ours[request])
    cut = sum(ours[r].full_text is not None for r in texts)
    return {
        "pairs": len(pairs),
        "worst": worst,
        "texts": len(texts),
        "cut": cut,
        "empty": sum(not t for t in generated),
    }


def same_text(one: str, other: str) -> bool:
    """Equal, but for broken UTF-8, of which `tokenizers` gives up more bytes than SentencePiece does."""
    return one == other or (len(one) == len(other) and one.split("\ufffd")[0] == other.split("\ufffd")[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("benchmarks", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--tasks", default="all")
    parser.add_argument("--model", type=Path, help="let their model class answer too")
    parser.add_argument("--window", type=int, default=0, help="a smaller context window, so that contexts are cut")
    options = parser.parse_args()
    if options.model:
        counts = compare_model(
            options.checkout, options.benchmarks, options.limit or 5, options.model, options.tasks, options.window
        )
        print(json.dumps(counts))
    else:
        equal = compare(options.checkout, options.benchmarks, options.limit, options.tasks)
        print("equal:", ", ".join(f"{name} {count:,} requests" for name, count in equal.items()))
