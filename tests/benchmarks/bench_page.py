"""The page at its largest: 20 models with the seven tasks in full, measured in Chromium; writes results/bench/page.md.

    python tests/benchmarks/bench_page.py [--models 20] [--questions 28000] [--keep FOLDER]

Rows, requests and answers are invented, with the lengths of the real tasks: few-shot examples are drawn from pools of the real
sizes, so that as much is shared between requests as on the real rows. Needs playwright and a Chromium on the PATH.
"""

import argparse
import platform
import random
import resource
import tempfile
import time
from pathlib import Path

from browsers import chromium_program, open_browser
from playwright.sync_api import sync_playwright

from orca_bench.report.html_page import write_page
from orca_bench.results.models import RESULT_FORMAT, ModelDescription, Question, Result, SuiteDescription
from orca_bench.results.protocol_description import ProtocolDescription
from orca_bench.results.question_texts import QuestionTexts
from orca_bench.results.reading import ResultFile, TaskQuestions
from orca_bench.results.summary import compute_averages, summarize_task
from orca_bench.suite import ALL_TASKS

ROOT = Path(__file__).resolve().parents[2]

#: By task: characters of a question, of its passage, of a few-shot example, of a choice (0: the answer is a text), choices.
LENGTHS = {
    "arc_challenge": (130, 0, 170, 30, 4),
    "hellaswag": (220, 0, 330, 120, 4),
    "mmlu": (290, 0, 420, 60, 4),
    "truthful_qa": (60, 0, 0, 60, 7),
    "winogrande": (100, 0, 110, 10, 2),
    "gsm8k": (235, 0, 520, 0, 0),
    "drop": (60, 1100, 90, 0, 0),
}
PASSAGES = {"questions": 582, "examples": 5565}  # of DROP; several questions ask about one
SUBJECTS = 57
TEXT_LENGTHS = {"gsm8k": 420, "drop": 12}


class Words:
    """Invented English-like text: words by Zipf's law, so that it is compressed as text is."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        letters = "etaoinshrdlucmfwypvbgk"
        self.words = ["".join(self.random.choices(letters, k=self.random.randint(2, 10))) for _ in range(20_000)]
        self.weights = [1 / (rank + 3) for rank in range(len(self.words))]
        self.pool = self.random.choices(self.words, self.weights, k=2_000_000)

    def text(self, characters: int) -> str:
        if not characters:
            return ""
        start = self.random.randrange(len(self.pool) - 400)
        return " ".join(self.pool[start : start + max(1, characters // 6)]).capitalize() + "."


def invent_texts(question_count: int) -> dict[tuple[str, int], QuestionTexts]:
    """The texts of every question by part and row, with the requests of the leaderboard's form."""
    words, texts = Words(0), {}
    share = question_count / sum(task.full_question_count for task in ALL_TASKS)
    for task in ALL_TASKS:
        question_length, passage_length, example_length, choice_length, choice_count = LENGTHS[task.name]
        passages = [words.text(passage_length) for _ in range(PASSAGES["questions"])] if passage_length else [""]
        example_passages = [words.text(passage_length) for _ in range(PASSAGES["examples"])] if passage_length else [""]
        pool_size = task.row_count_by_split[task.few_shot_split] if task.few_shot_split else 0
        pool = [words.text(example_length) for _ in range(pool_size)]
        example_passage_numbers = [words.random.randrange(len(example_passages)) for _ in range(pool_size)]
        for row in range(max(1, round(task.full_question_count * share))):
            part = f"mmlu_subject_{row % SUBJECTS}" if task.name == "mmlu" else task.name
            question = words.text(question_length)
            passage = words.random.choice(passages)
            choices = tuple(words.text(choice_length) for _ in range(choice_count))
            if task.name == "mmlu":
                numbers = [row % SUBJECTS * task.shots + number for number in range(task.shots)]
            else:
                numbers = words.random.sample(range(pool_size), task.shots) if pool_size else []
            examples = "".join(
                (f"Passage: {example_passages[example_passage_numbers[number]]}\n" if passage else "")
                + f"Question: {pool[number]}\nAnswer: {number}\n\n"
                for number in numbers
            )
            context = examples + (f"Passage: {passage}\n" if passage else "") + f"Question: {question}\nAnswer:"
            continuations = [f" {choice}" for choice in choices] or [None]
            requests = tuple((context, continuation, () if choices else ("\n",)) for continuation in continuations)
            texts[part, row] = QuestionTexts(question, passage, choices, requests)
    return texts


def invent_result(number: int, texts: dict[tuple[str, int], QuestionTexts]) -> ResultFile:
    """One model's result over these questions."""
    rng, words = random.Random(number), Words(number)
    ability = 0.3 + 0.025 * number
    questions_by_task: dict[str, list[Question]] = {}
    for index, ((part, row), question_texts) in enumerate(texts.items()):
        is_right = rng.random() < ability
        choice_count = len(question_texts.choices)
        if choice_count:
            gold = index % choice_count
            answers: list[float | str] = [-rng.expovariate(0.05) for _ in range(choice_count)]
            prediction = gold if is_right else (gold + 1) % choice_count
            score = round(rng.random(), 6) if part == "truthful_qa" else float(is_right)
            question = Question(
                task=part, index=index, row=row, prediction=prediction, gold=gold, score=score, answers=answers
            )
        else:
            answer = words.text(TEXT_LENGTHS[part])
            question = Question(
                task=part,
                index=index,
                row=row,
                prediction=str(rng.randrange(100)),
                gold="12",
                score=float(is_right),
                answers=[answer],
            )
        questions_by_task.setdefault(question.suite_task, []).append(question)
    tasks = {task.name: summarize_task(task, questions_by_task[task.name]) for task in ALL_TASKS}
    result = Result(
        format=RESULT_FORMAT,
        complete=True,
        protocol=ProtocolDescription(name="leaderboard", version=1),
        suite=SuiteDescription(name="open-llm-leaderboard-v1", comparable=True),
        model=ModelDescription(name=f"organisation/model-with-a-long-name-{number}"),
        tasks=tasks,
        averages=compute_averages(tasks),
    )
    by_task = {
        name: TaskQuestions({question.part_and_row: question for question in questions})
        for name, questions in questions_by_task.items()
    }
    return ResultFile(Path(f"model-{number}.json"), result.model.name, result, by_task)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--questions", type=int, default=28_000)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    texts = invent_texts(options.questions)
    results = [invent_result(number, texts) for number in range(options.models)]
    with tempfile.TemporaryDirectory() as temporary_folder:
        page = (options.keep or Path(temporary_folder)) / "page.html"
        start = time.monotonic()
        lookups = [lambda part, row: texts.get((part, row))]
        write_page(page, "models", results, None, lookups * options.models)
        write_seconds = time.monotonic() - start
        figures = measure(page)
    figures = {
        "size, MiB": f"{figures.pop('bytes') / 2**20:.1f}",
        "written in, s": f"{write_seconds:.0f}",
        "memory of the writer, GiB": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f}",
        **{name: f"{value:.0f}" for name, value in figures.items()},
    }
    lines = "\n".join(f"| {name} | {value} |" for name, value in figures.items())
    text = (
        "# The page at its largest\n\n"
        f"`python tests/benchmarks/bench_page.py --models {options.models} --questions {options.questions}`, "
        f"{time.strftime('%Y-%m-%d')}; {platform.machine()}, headless Chromium. Invented rows and answers with the lengths of "
        f"the seven tasks: {options.models} models × {len(texts):,} questions.\n\n| what | |\n|---|--:|\n{lines}\n"
    )
    print(text)
    if not options.keep:
        (ROOT / "results" / "bench" / "page.md").write_text(text, encoding="utf-8")


def measure(page: Path) -> dict[str, float]:
    """Milliseconds of what a reader does, the median of three openings."""
    runs: list[dict[str, float]] = []
    with sync_playwright() as playwright:
        for _ in range(3):
            browser = open_browser(playwright, chromium_program())
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            start = time.monotonic()
            tab.goto(page.resolve().as_uri(), wait_until="commit")
            tab.wait_for_selector("table.scores")
            table_ms = 1000 * (time.monotonic() - start)
            tab.wait_for_selector("html[data-ready]", state="attached")
            ready_ms = float(tab.get_attribute("html", "data-ready"))
            tab.wait_for_load_state("domcontentloaded")
            whole_ms = 1000 * (time.monotonic() - start)
            figures = {"bytes": page.stat().st_size, "table in sight after, ms": table_ms, "usable after, ms": ready_ms}
            figures["all of it read after, ms"] = whole_ms
            figures["filter, ms"] = timed(tab, "document.getElementById('outcome').value = 1; applyIt('outcome')")
            figures["open a question, ms"] = timed_question(tab)
            figures["open its request, ms"] = timed_request(tab)
            figures["first search, ms"] = timed_search(tab, "ethe zzz")
            figures["later search, ms"] = timed_search(tab, "etho")
            runs.append(figures)
            browser.close()
    return {name: sorted(run[name] for run in runs)[1] for name in runs[0]}


def timed(tab, script: str) -> float:
    return tab.evaluate(
        f"""async () => {{
            const applyIt = (id) => document.getElementById(id).dispatchEvent(new Event("input"));
            const start = performance.now(); {script};
            await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
            return performance.now() - start;
        }}"""
    )


def timed_question(tab) -> float:
    start = time.monotonic()
    before = tab.get_attribute("#detail", "data-question")
    tab.focus("#list")
    tab.keyboard.press("End")
    tab.wait_for_selector(f"#detail:not([data-question='{before}'])")
    return 1000 * (time.monotonic() - start)


def timed_request(tab) -> float:
    tab.wait_for_selector("#detail details.request summary")
    start = time.monotonic()
    tab.click("#detail details.request summary >> nth=0")
    tab.wait_for_selector("#detail pre.context")
    return 1000 * (time.monotonic() - start)


def timed_search(tab, query: str) -> float:
    start = time.monotonic()
    before = tab.text_content("#count")
    tab.fill("#search", query)
    while tab.text_content("#count") == before or tab.get_attribute("#count", "aria-busy") == "true":
        time.sleep(0.01)
    return 1000 * (time.monotonic() - start)


if __name__ == "__main__":
    main()
