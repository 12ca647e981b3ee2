"""Small real parts that the tests share: SentencePiece models, model folders, the mini suite, the command line."""

import json
import os
import shutil
from pathlib import Path

import pytest
import real_model
from browsers import chromium_program, open_browser
from command_line import Command
from tiny_llamas import make_model
from waiting import PATIENCE_S

from recipes import RECIPE

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


#: The files that take longest, longest first: they start first, so that no core waits for another one at the end.
LONGEST = (
    "models/gguf/test_real_model.py",
    "train/test_stopping.py",
    "train/test_training.py",
    "train/test_killed_trainings.py",
    "evaluate/test_golden.py",
    "test_hub.py",
    "evaluate/answers/test_work_sharing.py",
    "train/test_packed_training.py",
    "test_wheel.py",
    "train/test_watching.py",
    "evaluate/test_evaluation.py",
    "train/test_faults.py",
    "evaluate/servers/test_completions_client.py",
    "train/test_model_export.py",
    "benchmarks/test_bench_training.py",
    "evaluate/answers/test_resume.py",
    "train/test_checkpoints.py",
    "evaluate/test_harness_evaluation.py",
    "cli/test_commands.py",
    "evaluate/servers/test_answer_formats.py",
    "models/gptq/test_gptq_export.py",
    "cli/test_data_build_interruptions.py",
    "evaluate/test_offline_scoring.py",
    "evaluate/engine/test_architectures.py",
    "report/page/test_page_command.py",
    "report/page/test_questions.py",
    "serve/page/test_page.py",
    "report/test_gate.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; `make test` tells pytest-xdist to keep this order."""
    place = {ROOT / "tests" / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))


def pytest_terminal_summary(terminalreporter):
    """With ORCA_BENCH_NO_SKIPS, as in CI, name the tests that were skipped for want of something that CI can install."""
    for line in _avoidable_skips(terminalreporter):
        terminalreporter.write_line(f"skipped, and CI can run it: {line}", red=True)


def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and _avoidable_skips(reporter) and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _avoidable_skips(reporter) -> list[str]:
    if not os.environ.get("ORCA_BENCH_NO_SKIPS"):
        return []
    reports = reporter.stats.get("skipped", [])
    lines = [f"{report.nodeid}: {str(report.longrepr[-1]).removeprefix('Skipped: ')}" for report in reports]
    return [line for line in lines if not line.endswith(NOT_HERE)]


#: How the reasons end of skips that no machine can help by installing something.
NOT_HERE = ("on this machine", "no such device here", "names no checkout of lm-evaluation-harness b281b092")


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory):
    """A user's cache for all tests, removed at the end: no test reads or fills that of the person who runs them.

    Only the real model is in it, if `make real-model` has put it into the user's own.
    """
    folder = tmp_path_factory.mktemp("user_cache")
    real_model_folder = real_model.cached_path(real_model.REAL_MODEL).parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORCA_BENCH_CACHE", str(folder))
        if real_model_folder.is_dir():
            link = real_model.cached_path(real_model.REAL_MODEL).parent
            link.parent.mkdir(parents=True)
            link.symlink_to(real_model_folder, target_is_directory=True)
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shared():
    """The real rows; a test that asks for them is skipped where they are absent."""
    if not SHARED.is_dir():
        pytest.skip("the real benchmark and instruction rows are not on this machine")
    return SHARED


@pytest.fixture(scope="session")
def real_model_file():
    """SmolLM2-135M-Instruct as a GGUF file of Q4_1; a test that asks for it is skipped where `make real-model` has not run."""
    path = real_model.cached_path(real_model.REAL_MODEL)
    if not real_model.is_whole(real_model.REAL_MODEL, path):
        pytest.skip("the real model is not there: make real-model")
    return path


@pytest.fixture(scope="session")
def real_model_folder(tmp_path_factory, real_model_file):
    """The folder that is imported from the real model's file, float32; 540 MB that are removed at the end."""
    from orca_bench.models.gguf.gguf_import import import_gguf, read_gguf

    folder = tmp_path_factory.mktemp("real_model") / "model"
    import_gguf(read_gguf(real_model_file), folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def real_tokenizer_folder(tmp_path_factory, real_model_file):
    """What `real_model_folder` has besides the weights: the byte-level BPE of 49,152 tokens, and the configuration."""
    from orca_bench.files import write_json
    from orca_bench.models.gguf.gguf_import import read_gguf
    from orca_bench.models.gguf.gguf_tokenizer import write_tokenizer

    folder = tmp_path_factory.mktemp("real_tokenizer")
    model = read_gguf(real_model_file)
    write_tokenizer(model.file, folder)
    write_json(folder / "config.json", {key: value for key, value in model.configuration.items() if value is not None})
    return folder


@pytest.fixture(scope="session")
def mini(tmp_path_factory):
    """The embedded default's files."""
    from orca_bench.mini import materialize

    return materialize(tmp_path_factory.mktemp("mini"))


@pytest.fixture(scope="session")
def mini_records(mini):
    return [json.loads(line) for line in mini["mini:records"].read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def sentencepiece_models(tmp_path_factory, mini_records):
    """SentencePiece models of several kinds, trained on real sentences and the mini corpus."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("sentencepiece")
    corpus = folder / "corpus.txt"
    license_text = (ROOT / "LICENSE").read_text(encoding="utf-8").splitlines()
    lines = license_text + [r["response"].replace("\n", " ") for r in mini_records[:2000]]
    corpus.write_text("\n".join(line for line in lines if line.strip()), encoding="utf-8")
    with_markup = folder / "markup.txt"
    with_markup.write_text(corpus.read_text(encoding="utf-8") + "\n1 < 2 / 3 > 0" * 50, encoding="utf-8")
    like_llama = {
        "model_type": "bpe",
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "byte_fallback": True,
    }
    kinds = {
        "llama": like_llama,
        "default": {"model_type": "bpe"},  # nmt_nfkc, extra spaces removed: like OpenLLaMA's first models
        "casefold": {"model_type": "bpe", "normalization_rule_name": "nfkc_cf", "byte_fallback": True},
        "no_prefix": like_llama | {"add_dummy_prefix": False},
        "symbols": like_llama | {"user_defined_symbols": ["<sep>", "[CODE]"]},
        "unigram": {"model_type": "unigram", "input": str(with_markup)},
        "unigram_without_markup": {"model_type": "unigram"},  # has no piece for `<`: tokenizers cannot spell out </s>
    }
    for name, options in kinds.items():
        sentencepiece.SentencePieceTrainer.train(
            **{"input": str(corpus), "vocab_size": 700, "hard_vocab_limit": False, "minloglevel": 2} | options,
            model_prefix=str(folder / name),
        )
    return {name: folder / f"{name}.model" for name in kinds}


@pytest.fixture(scope="session")
def byte_level(tmp_path_factory, mini_records):
    """A tokenizer folder like LLaMA 3's: byte-level BPE, special tokens after the vocabulary, BOS in front of a text."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    fast = Tokenizer(models.BPE(ignore_merges=True))
    words = Regex(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+"
    )
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    fast.train_from_iterator((record["response"] for record in mini_records[:2000]), trainer)
    fast.add_special_tokens([AddedToken(f"<|{name}|>") for name in ("begin_of_text", "end_of_text", "pad", "eot_id")])
    bos = "<|begin_of_text|>"
    fast.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, fast.token_to_id(bos))]
    )
    folder = tmp_path_factory.mktemp("byte_level")
    fast.save(str(folder / "tokenizer.json"))
    settings = {
        "bos_token": bos,
        "eos_token": "<|end_of_text|>",
        "pad_token": "<|pad|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def byte_fallback(tmp_path_factory, sentencepiece_models):
    """A tokenizer folder that has lost its SentencePiece file: the ids and the byte tokens of one, in tokenizer.json alone."""
    from orca_bench import tokenizers

    folder = tmp_path_factory.mktemp("byte_fallback")
    tokenizers.export_tokenizer(tokenizers.load_tokenizer(sentencepiece_models["llama"]), folder)
    (folder / "tokenizer.model").unlink()
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, mini):
    """A model folder with the mini tokenizer."""
    return make_model(tmp_path_factory.mktemp("tiny") / "model", mini["mini:tokenizer"])


@pytest.fixture
def command(tmp_path):
    return Command(tmp_path)


@pytest.fixture(scope="session")
def command_in():
    """A factory of commands in a given folder, for tests that share one."""
    return Command


@pytest.fixture(scope="module")
def orca(tmp_path_factory, mini, mini_records, command_in):
    """Runs `orca-bench` in a folder with 92 records and a recipe, r.yaml, for two processes."""
    folder = tmp_path_factory.mktemp("trainings")
    records = [r for r in mini_records if len(r["instruction"]) < 400][:92]
    (folder / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    (folder / "r.yaml").write_text(RECIPE.format(name="r", tokenizer=mini["mini:tokenizer"]), encoding="utf-8")
    return command_in(folder)


@pytest.fixture(scope="session")
def in_mini_folder(tmp_path_factory, command_in, tiny_model, mini):
    """The command that works in a folder with a real result of all seven tasks of the mini suite, a.json."""
    command = command_in(tmp_path_factory.mktemp("mini_result"))
    options = ["--benchmarks", mini["mini:benchmarks"], "--limit", 12, "--protocol", "orca", "--out", "a.json"]
    process = command("eval", "--model", tiny_model, *options)
    assert process.returncode == 0, process.stderr
    return command


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, closed after the file's tests: while playwright runs, no other event loop can in its process."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = chromium_program()
    if program is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as playwright_session:
        running = open_browser(playwright_session, program)
        yield running
        running.close()


@pytest.fixture
def open_tab(browser):
    """Open an address; gives the tab and a log of its console, dialogs, and requests to anything but `own_address`.

    `ready` selects the element whose presence says that the page is ready.
    """
    contexts = []

    def open_address(address, own_address, ready="html[data-ready]", **context_options):
        context = browser.new_context(**context_options)
        context.set_default_timeout(1000 * PATIENCE_S)
        contexts.append(context)
        tab, log = context.new_page(), []
        own_addresses = (own_address, "data:", "blob:")
        tab.on("console", lambda message: log.append(message.text))
        tab.on("pageerror", lambda error: log.append(str(error)))
        tab.on("dialog", lambda dialog: (log.append("dialog"), dialog.dismiss()))
        tab.on("request", lambda request: request.url.startswith(own_addresses) or log.append(request.url))
        tab.goto(address)
        tab.wait_for_selector(ready, state="attached")
        return tab, log

    yield open_address
    for context in contexts:
        context.close()
