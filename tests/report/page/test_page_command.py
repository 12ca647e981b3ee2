"""`orca-bench page` and the page that `publish` writes, from results of a real evaluation."""

import json

from synthetic_results import random_result


def test_a_published_page_has_the_exact_requests(open_page, tiny_model, mini, tmp_path_factory, command_in):
    command = command_in(tmp_path_factory.mktemp("page"))
    eval_ = ["eval", "--model", tiny_model, "--benchmarks", mini["mini:benchmarks"], "--limit", 2, "--out", "r.json"]
    assert command(*eval_, "--tasks", "winogrande,mmlu").returncode == 0
    process = command("page", "r.json", "--out", "index.html")
    assert process.returncode == 0, process.stderr
    requests = command(
        "requests", "--benchmarks", mini["mini:benchmarks"], "--limit", 2, "--tasks", "winogrande", "--out", "q.jsonl"
    )
    assert requests.returncode == 0, requests.stderr
    request = json.loads((command.folder / "q.jsonl").read_text().splitlines()[0])
    tab, log = open_page(command.folder / "index.html")
    tab.select_option("#task", label="Winogrande")
    tab.click("#rows .line >> nth=0")
    tab.click("#detail .request summary")
    tab.wait_for_selector("#detail pre.context >> nth=1")
    assert request["context"] in tab.locator("#detail pre.context").all_text_contents()
    assert json.dumps(request["continuation"], ensure_ascii=False) in tab.text_content("#detail .request")
    assert tab.locator("#detail .choice").count() == 2 and tab.locator("#detail .choice.gold").count() == 1
    assert "_" in tab.text_content("#detail .question")  # the sentence with its blank
    tab.select_option("#task", label="MMLU")
    tab.click("#rows .line >> nth=0")
    tab.wait_for_selector("#detail .choice >> nth=3")
    assert not log


def test_the_command_puts_models_side_by_side_and_finds_where_they_part(open_page, tmp_path, command):
    for label, share, step in (("early", 0.2, 10), ("late", 0.9, 20)):
        random_result(tmp_path, label, share, seed=step, run="r", step=step)
    process = command("page", "early.json", "late.json", "--out", "pages/both.html", "--title", "two <checkpoints>")
    assert process.returncode == 0 and process.stdout.strip() == "pages/both.html", process.stderr
    assert "1,120 scored questions of 2 results" in process.stderr
    tab, log = open_page(tmp_path / "pages" / "both.html")
    assert tab.title() == "two <checkpoints>"
    kinds = tab.eval_on_selector_all("figure[data-picture]", "figures => figures.map((f) => f.dataset.picture)")
    assert kinds == ["differences", "subjects", "steps"]
    tab.select_option("#outcome", label="late right, early wrong")
    assert 300 < int(tab.text_content("#count").split()[0]) < 500  # 0.9 × 0.8 of 560
    tab.select_option("#outcome", label="early right, late wrong")
    assert int(tab.text_content("#count").split()[0]) < 40
    assert not log


def test_a_page_needs_the_questions_and_refuses_what_is_no_result(tmp_path, command):
    random_result(tmp_path, "m", 0.5)
    (tmp_path / "m.questions.jsonl").unlink()
    assert "not beside it" in command.refused("page", "m.json")
    (tmp_path / "x.json").write_text("[1]")
    assert "not an orca-bench result" in command.refused("page", "x.json")
    assert not (tmp_path / "page.html").exists()


def test_rows_that_cannot_be_had_do_not_hinder_a_page(open_page, tmp_path, command):
    random_result(tmp_path, "m", 0.5, tasks=("gsm8k",))
    (tmp_path / "rows" / "gsm8k").mkdir(parents=True)
    process = command("page", "m.json", "--benchmarks", "rows")
    assert process.returncode == 0, process.stderr
    assert "GSM8K: the rows cannot be had" in process.stderr
    tab, log = open_page(tmp_path / "page.html")
    assert "GSM8K: the rows cannot be had" in tab.text_content("footer") and not log
    assert "no such benchmarks directory" in command.refused("page", "m.json", "--benchmarks", "nowhere")
