"""The words for questions in the training records, which are the same in every report."""

from synthetic_results import listed_result, random_result

from orca_bench.report import overlap_text
from orca_bench.report.card_scores import scores_section
from orca_bench.report.conclusions import scores_sentence
from orca_bench.report.html_page import page_pieces
from orca_bench.report.notes import merge_notes, note_line
from orca_bench.report.result_tables import result_grids
from orca_bench.report.score_table import build_score_table
from orca_bench.results.summary import mean_of_tasks, summarize_overlap
from orca_bench.results.task_results import TaskResult
from orca_bench.suite import ALL_TASKS, TASK_BY_NAME

NONE = {task.name: 0 for task in ALL_TASKS}
TEXT = "12 of 80 questions overlap with the training records; without them"


def entry(**overlap):
    return TaskResult(title="GSM8K", metric="acc", value=0.5, n=20, overlap=overlap)


def test_each_number_of_questions_has_its_words():
    without = {"value": 0.25, "stderr": 0.0125}
    assert overlap_text.overlap_text(entry(questions=2, without=without)) == (
        "2 of 20 questions overlap with the training records; without them 25.00 ± 1.25"
    )
    assert overlap_text.overlap_text(entry(questions=1, without=without)) == (
        "1 of 20 questions overlaps with the training records; without it 25.00 ± 1.25"
    )
    assert overlap_text.overlap_text(entry(questions=20)) == "all 20 questions overlap with the training records"
    assert overlap_text.overlap_text(entry(questions=0, without=without)) == ""
    assert overlap_text.overlap_text(TaskResult(title="GSM8K", metric="acc", value=0.5, n=20)) == ""
    assert (
        overlap_text.relatives_text(entry(questions=0, relatives=1)) == "1 of 20 questions resembles a training record"
    )
    assert overlap_text.relatives_text(entry(questions=0, relatives=3)) == "3 of 20 questions resemble training records"
    assert overlap_text.relatives_text(entry(questions=0, relatives=0)) == ""


def lines_of(result_file):
    return [note_line(note) for note in overlap_text.overlap_notes("m", result_file.result)]


def test_a_result_without_a_report_says_nothing(tmp_path):
    assert lines_of(random_result(tmp_path, "m", 0.5)) == []


def test_no_overlap_is_said_once_with_the_number_of_questions_compared(tmp_path):
    tasks = ("gsm8k", "arc_challenge")
    result_file = random_result(tmp_path, "m", 0.5, tasks=tasks, overlapping=dict.fromkeys(tasks, 0))
    assert lines_of(result_file) == ["m: no overlap with the training records (160 questions compared)"]


def test_a_task_with_overlap_has_its_note_and_its_means_theirs(tmp_path):
    result_file = random_result(tmp_path, "m", 0.5, overlapping=NONE | {"gsm8k": 12})
    task_line, *mean_lines = lines_of(result_file)
    assert task_line.startswith(f"m GSM8K: {TEXT}")
    entries = [entry.overlap.without if name == "gsm8k" else entry for name, entry in result_file.result.tasks.items()]
    mean = 100 * mean_of_tasks(entries).value
    assert f"without the questions that overlap with the training records {mean:.2f} ± " in mean_lines[0]
    assert len(mean_lines) == 2


def test_a_task_without_other_questions_leaves_no_mean_without_them(tmp_path):
    result_file = random_result(tmp_path, "m", 0.5, overlapping=NONE | {"gsm8k": 80})
    assert lines_of(result_file) == ["m GSM8K: all 80 questions overlap with the training records"]


def test_a_task_that_was_not_compared_is_not_said_to_be_clean(tmp_path):
    result_file = random_result(tmp_path, "m", 0.5, tasks=["arc_challenge", "gsm8k"], overlapping={"gsm8k": 0})
    assert lines_of(result_file) == [
        "m ARC-Challenge: not compared with the training records",
        "m GSM8K: no overlap with the training records (80 questions compared)",
    ]
    partly = random_result(tmp_path, "partly", 0.5, overlapping={"gsm8k": 12})
    assert not any("without the questions" in line for line in lines_of(partly)), "a mean of all tasks"


def test_subjects_without_other_questions_are_counted(tmp_path):
    questions = [(f"mmlu_subject_{row % 4}", row, 1.0, 0, []) for row in range(8)]
    file = listed_result(tmp_path / "r.json", "m", questions)
    own = [question for task in file.questions_by_task.values() for question in task.questions_by_key.values()]
    for question in own:
        question.overlap = 1.0 if question.task == "mmlu_subject_1" or question.row == 0 else None
    file.result.tasks["mmlu"].overlap = summarize_overlap(TASK_BY_NAME["mmlu"], own, "e" * 64)
    assert overlap_text.overlap_text(file.result.tasks["mmlu"]).endswith(" (of 3 of 4 subjects)")
    own[1].overlap = own[5].overlap = None
    assert summarize_overlap(TASK_BY_NAME["mmlu"], own, "e" * 64).subjects is None


def test_table_leaderboard_page_and_card_have_the_same_words(tmp_path):
    results = [
        random_result(tmp_path, name, 0.5, seed, overlapping={"gsm8k": 12}) for seed, name in enumerate(("a", "b", "c"))
    ]
    text = overlap_text.overlap_text(results[0].result.tasks["gsm8k"])
    assert text.startswith(TEXT)
    table = build_score_table([("a", results[0].result)], None)
    assert text in [note.text for note in table.notes if note.kind == "warning"]
    (grid,) = result_grids(results, None, "models")
    assert text in [note.text for note in grid.notes]
    assert text in "".join(page_pieces("t", results[:1], None, [None]))
    card = scores_section(results[:1], [], None)
    assert f"GSM8K: {text}." in card
    clean = random_result(tmp_path, "clean", 0.5, tasks=["gsm8k"], overlapping={"gsm8k": 0})
    assert "- No overlap with the training records (80 questions compared)." in scores_section([clean], [], None)


def test_equal_notes_of_several_results_are_one(tmp_path):
    results = [random_result(tmp_path, name, 0.5, tasks=["gsm8k"], overlapping={"gsm8k": 0}) for name in ("a", "b")]
    notes = [note for file in results for note in overlap_text.overlap_notes(file.label, file.result)]
    (note,) = merge_notes(notes, ["a", "b"])
    assert note.numbers == ()


def test_relatives_are_a_remark_of_their_own(tmp_path):
    questions = [("gsm8k", row, 1.0, "1", ["1"]) for row in range(4)]
    result_file = listed_result(tmp_path / "r.json", "m", questions, compared_tasks=["gsm8k"])
    result_file.result.tasks["gsm8k"].overlap.relatives = 2
    assert lines_of(result_file) == [
        "m GSM8K: 2 of 4 questions resemble training records",
        "m: no overlap with the training records (4 questions compared)",
    ]


def test_training_rows_of_the_benchmark_are_said_wherever_the_score_is(tmp_path):
    questions = [("gsm8k", row, 1.0, "1", ["1"]) for row in range(4)]
    result_file = listed_result(tmp_path / "r.json", "m", questions, compared_tasks=["gsm8k"])
    result_file.result.tasks["gsm8k"].overlap.training_rows = 1969
    text = "tuned on 1,969 rows of the benchmark's own training data"
    assert lines_of(result_file)[0] == f"m GSM8K: {text}"
    (note,) = [note for note in build_score_table([("m", result_file.result)], None).notes if note.text == text]
    assert note.is_always_shown
    assert f"GSM8K: {text}" in scores_section([result_file], [], None)
    result_file.result.tasks["gsm8k"].overlap.training_rows = 0
    assert not any("tuned" in line for line in lines_of(result_file))


def test_the_first_sentence_of_a_report_names_the_tasks(tmp_path):
    leaky = random_result(tmp_path, "leaky", 0.9, overlapping={"gsm8k": 12, "mmlu": 80, "drop": 0})
    clean = random_result(tmp_path, "clean", 0.2, seed=1, overlapping={"gsm8k": 0})
    counts = "all 80 of MMLU, 12 of 80 of GSM8K"
    assert scores_sentence([leaky]).endswith(f"Questions overlap with the training records: {counts}.")
    assert scores_sentence([leaky, clean]).endswith(f"Questions overlap with the training records of leaky: {counts}.")
    third = random_result(tmp_path, "third", 0.2, seed=2, overlapping={"gsm8k": 1})
    assert scores_sentence([leaky, clean, third]).endswith(
        f"of leaky: {counts}; with the training records of third: 1 of 80 of GSM8K."
    )
    assert "overlap" not in scores_sentence([clean])
