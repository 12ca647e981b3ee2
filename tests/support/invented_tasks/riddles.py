"""An invented task whose answers are texts, without few-shot examples."""

from orca_bench import suite
from orca_bench.evaluate.tasks.task import GenerationTask, Row, Score, TextRules


class Riddles(GenerationTask):
    """Riddles whose answer is one word."""

    facts = suite.TASK_BY_NAME["riddles"]
    column_types = {"riddle": str, "answer": str}
    leaderboard_text_rules = TextRules(stop_strings=("\n",), default_max_new_tokens=16)
    orca_text_rules = TextRules(stop_strings=("\n",), default_max_new_tokens=32, scoring_description="the word")

    def question(self, row: Row) -> str:
        """The riddle."""
        return f"{row['riddle']}\nAnswer:"

    def few_shot_answer(self, row: Row) -> str:
        """The word."""
        return " " + row["answer"]

    def score_text(self, row: Row, text: str) -> Score:
        """Right where the text is the word."""
        return Score(float(text == row["answer"]), text, row["answer"], {})


TASK = Riddles()
