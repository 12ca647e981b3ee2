"""Every command, once: its name, its module, its group and one line about it.

The group's help, the reference in README.md and the tests read this list. Its own module so that all of them can be built
without importing a command.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CommandEntry:
    """One command: the name a user types, the module below `orca_bench.cli` that holds it, and one line about it."""

    name: str
    module: str
    summary: str


#: The commands by group, in the order of the work.
GROUPS: dict[str, tuple[CommandEntry, ...]] = {
    "Data": (CommandEntry("data", "data", "Make records of instructions, check them, and show them."),),
    "Train": (
        CommandEntry("train", "train", "Train the model that a recipe describes, with DeepSpeed ZeRO-3."),
        CommandEntry("plan", "plan", "Estimate memory, hours and dollars of a training before it."),
        CommandEntry("import", "import_gguf", "Write a model folder with what is in a GGUF file."),
        CommandEntry("demo", "demo", "Train and evaluate the small built-in example, offline."),
    ),
    "Evaluate": (
        CommandEntry("eval", "eval", "Evaluate a model on benchmark tasks with lm-evaluation-harness."),
        CommandEntry("lm-eval", "lm_eval", "Run lm-evaluation-harness's own command line with this engine."),
        CommandEntry("requests", "requests", "Write the requests that eval would send, for another engine."),
        CommandEntry("score", "score", "Score the answers of another engine into a result."),
        CommandEntry("verify", "verify", "Recompute a result's scores from its stored answers."),
    ),
    "Decide": (
        CommandEntry("runs", "runs", "List runs and results with their scores; clean up."),
        CommandEntry("table", "table", "Show results beside the reported scores."),
        CommandEntry("compare", "compare", "Test whether one result is better than another."),
        CommandEntry("divergence", "divergence", "Measure what a quantisation costs, token by token."),
        CommandEntry("check", "check", "Fail (exit 1) where a result is worse than its baseline, for CI."),
    ),
    "Publish": (
        CommandEntry("plot", "plot", "Draw results as PNG and SVG pictures."),
        CommandEntry("page", "page", "Write one HTML page with a viewer of every question."),
        CommandEntry("export", "export", "Write a model as a GGUF file or a GPTQ folder; prompt templates."),
        CommandEntry("publish", "publish", "Write tables, pictures, a page and the model card's scores."),
    ),
    "Talk": (
        CommandEntry("generate", "generate", "Answer one instruction in the Orca prompt."),
        CommandEntry("chat", "chat", "Talk to a model in the terminal, turn by turn."),
        CommandEntry("serve", "serve", "Serve models by OpenAI's API, and a page to talk to them."),
    ),
}

COMMANDS: dict[str, CommandEntry] = {entry.name: entry for entries in GROUPS.values() for entry in entries}

#: Options that have another name now: command, then old name to new name. The old name is refused with the new one.
RENAMED_OPTIONS: dict[str, dict[str, str]] = {
    "eval": {"--room": "--max-new-tokens", "--json": "--format json"},
    "requests": {"--room": "--max-new-tokens", "--tokens": "--token-ids"},
    "score": {"--room": "--max-new-tokens", "--cut": "--cut-at-stop", "--json": "--format json"},
    "verify": {"--rows": "--check-rows", "--no-rows": "--no-rescore", "--json": "--format json"},
    "check": {"--json": "--format json"},
    "plot": {"--out": "--to"},
    "publish": {"--out": "--to"},
}
