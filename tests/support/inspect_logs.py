"""Logs that inspect_ai writes itself, of tasks over invented samples and a model whose answers follow from a name."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from inspect_ai import Epochs, Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import (
    CORRECT,
    INCORRECT,
    NOANSWER,
    PARTIAL,
    Score,
    accuracy,
    choice,
    includes,
    match,
    mean,
    scorer,
    stderr,
)
from inspect_ai.solver import generate, multiple_choice, solver


def sums(count: int = 12) -> MemoryDataset:
    """Sums with the ids q0, q1, …; the right answer is a digit below 4."""
    samples = [
        Sample(id=f"q{number}", input=f"What is {number} + {number % 9}, modulo 4?", target=str(2 * number % 4))
        for number in range(count)
    ]
    return MemoryDataset(samples, name="sums")


def letters(count: int = 9) -> MemoryDataset:
    """Choices among three, without ids: inspect numbers them."""
    samples = [
        Sample(input=f"Pick number {number}.", choices=["one", "two", "three"], target="ABC"[number % 3])
        for number in range(count)
    ]
    return MemoryDataset(samples)


@scorer(metrics=[mean(), stderr()])
def length():
    async def score(state, target):
        return Score(value=float(len(state.output.completion)))

    return score


@scorer(metrics=[accuracy(), stderr()])
def grades():
    async def score(state, target):
        grade = [CORRECT, INCORRECT, PARTIAL, NOANSWER][int(str(state.sample_id)[1:]) % 4]
        return Score(value=grade, answer=state.output.completion, explanation="by its number")

    return score


@scorer(metrics=[accuracy(), stderr()])
def truth():
    async def score(state, target):
        return Score(value=state.output.completion == target.text)

    return score


@scorer(metrics={"first": [mean(), stderr()], "second": [mean()]})
def two_values():
    async def score(state, target):
        return Score(value={"first": int(str(state.sample_id)[1:]) / 10, "second": len(state.output.completion) % 2})

    return score


@solver
def failing(ids: tuple[str, ...] = ("q1", "q5")):
    async def solve(state, generate):
        if state.sample_id in ids:
            raise ValueError("no such thing")
        return await generate(state)

    return solve


#: A task by each name.
TASKS: dict[str, Callable[[], Task]] = {
    "matched": lambda: Task(sums(), solver=generate(), scorer=match(), name="matched"),
    "two_scorers": lambda: Task(sums(), solver=generate(), scorer=[match(), includes()], name="two_scorers"),
    "three_epochs": lambda: Task(
        sums(), solver=generate(), scorer=match(), epochs=Epochs(3, ["mean", "at_least_2"]), name="three_epochs"
    ),
    "voted": lambda: Task(sums(), solver=generate(), scorer=match(), epochs=Epochs(3, "mode"), name="voted"),
    "letters": lambda: Task(letters(), solver=multiple_choice(), scorer=choice(), name="letters"),
    "lengths": lambda: Task(sums(), solver=generate(), scorer=length(), name="lengths"),
    "graded": lambda: Task(sums(), solver=generate(), scorer=grades(), name="graded"),
    "true_or_false": lambda: Task(sums(), solver=generate(), scorer=truth(), name="true_or_false"),
    "dictionary": lambda: Task(sums(), solver=generate(), scorer=two_values(), name="dictionary"),
    "some_errors": lambda: Task(
        sums(), solver=[failing(), generate()], scorer=match(), fail_on_error=False, name="some_errors"
    ),
    "failed": lambda: Task(sums(), solver=[failing(), generate()], scorer=match(), name="failed"),
    "unscored": lambda: Task(sums(), solver=generate(), name="unscored"),
}


def write_logs(
    folder: Path, model_name: str, task_names: Sequence[str], log_format: str = "eval", **options
) -> list[Path]:
    """Let inspect_ai evaluate tasks with the model `mockllm/<model_name>`; returns their log files, in order."""

    def answer(messages, tools, tool_choice, config):
        rng = random.Random(f"{model_name} {messages[-1].text}")
        text = rng.choice(["ANSWER: A", "ANSWER: B"] if "Pick" in messages[-1].text else ["0", "1", "2", "3"])
        output = ModelOutput.from_content("mockllm", text)
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)  # else inspect fetches a tokenizer
        return output

    paths = []
    for task_name in task_names:
        model = get_model(f"mockllm/{model_name}", custom_outputs=answer, memoize=False)
        (log,) = eval(
            TASKS[task_name](), model=model, log_dir=str(folder), log_format=log_format, display="none", **options
        )
        paths.append(Path(log.location.removeprefix("file://")))
    return paths
