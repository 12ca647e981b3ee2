"""`orca-bench serve`: models in, a server out that answers by OpenAI's API, and a page to talk to them."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path

import click

from orca_bench.cli import options
from orca_bench.cli.generation import check_unicode, sampling_options
from orca_bench.errors import UserError
from orca_bench.serve.sampling import Sampling

#: The environment variable of the key that clients must send.
KEY_VARIABLE = "ORCA_BENCH_API_KEY"


@click.command("serve")
@click.argument("models", nargs=-1, type=options.MODEL, metavar="[MODEL]...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 is every one.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen at; 0 is any free one.",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="A name by which clients may call this host, besides localhost and addresses; may be repeated.",
)
@click.option("--no-key", is_flag=True, help=f"Serve other machines without a key ({KEY_VARIABLE}).")
@options.system
@options.revision_of_argument
@sampling_options
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Type of the weights and of the computation; auto is that of eval.",
)
@click.option(
    "--max-open",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="How many requests of a model are computed at the same time.",
)
@click.option(
    "--max-waiting",
    type=click.IntRange(min=0),
    default=64,
    show_default=True,
    help="How many more may wait; further ones get status 429.",
)
@click.option(
    "--cache-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keys and values are kept for this many tokens of a model.  [default: what the free memory holds]",
)
@click.option(
    "--records", "records_folder", type=options.PATH, metavar="DIR", help="Folder in which the page may keep records."
)
@options.runs
def command(
    models: tuple[str, ...],
    host: str,
    port: int,
    allowed_hosts: tuple[str, ...],
    no_key: bool,
    system: str,
    revision: str | None,
    sampling: Sampling,
    dtype: str,
    max_open: int,
    max_waiting: int,
    cache_tokens: int | None,
    records_folder: Path | None,
    runs: Path,
) -> None:
    """Serve each MODEL by OpenAI's API, and a page to talk to them at http://127.0.0.1:8000/.

    MODEL is a run's name, a model folder, a GGUF file or a hub id; the default is the newest finished run's model. A chat gets
    the prompt of training, to the byte, and the page shows it. Messages have the roles system (or developer), user, input
    (further input to the question before it) and assistant. --system and the options of sampling are for chats that do not
    say them.

    /v1/completions takes texts and token ids, and scores prompts: with echo and logprobs each token of the prompt has its
    log-probability, as eval computes it. Requests are computed together, what several begin with is computed once, and the
    second turn of a conversation computes what is new.

    The server is for this machine alone. With --host 0.0.0.0 others can use it; they need a key unless --no-key: the
    environment variable ORCA_BENCH_API_KEY, which clients send as their API key. Ctrl-C or SIGTERM: the open requests are
    answered, then it ends.

    \b
      orca-bench serve mini
      orca-bench serve base mine --greedy --records records       # two models side by side on the page
      ORCA_BENCH_API_KEY=secret orca-bench serve mini --host 0.0.0.0

    \b
    From elsewhere, with the server's address:
      curl 127.0.0.1:8000/v1/chat/completions -d '{"model": "mini", "messages": [{"role": "user", "content": "Why?"}]}'
      OPENAI_API_KEY=secret orca-bench eval --engine api --base-url http://127.0.0.1:8000/v1 --model mini
      lm_eval --model local-completions --tasks arc_easy \\
        --model_args model=mini,base_url=http://127.0.0.1:8000/v1/completions,tokenizer=runs/mini/model
    """
    check_unicode(system, "--system")
    api_key = os.environ.get(KEY_VARIABLE, "").strip() or None
    if api_key is not None and re.fullmatch("[!-~]+", api_key) is None:
        raise UserError(
            "the key has characters that a request cannot send",
            where=KEY_VARIABLE,
            hint="letters, digits and punctuation of ASCII, without white space",
        )
    if api_key is None and not no_key and not _is_loopback(host):
        raise UserError(
            "other machines could use the models without a key",
            where="--host",
            hint=f"set {KEY_VARIABLE} in the environment, or say --no-key",
        )

    from orca_bench import api
    from orca_bench.cli.console import progress_message
    from orca_bench.files import make_writable_folder
    from orca_bench.models.model_folder import locate_model
    from orca_bench.models.model_warnings import OWN_PROMPT_WARNING
    from orca_bench.system_messages import system_message

    system_text = system_message(system)
    if records_folder is not None:
        make_writable_folder(records_folder)
    words: tuple[str | None, ...] = models or (None,)
    folders = [
        locate_model(api.select_model(word, runs, progress_message), revision, progress_message) for word in words
    ]
    names = [folder.name for folder in folders]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two models are called {repeated}", where="MODEL", hint="rename one of the folders or files")

    from orca_bench.serve.batch_scheduler import BatchScheduler
    from orca_bench.serve.http.app import ModelServer
    from orca_bench.serve.http.served_model import ServedModel
    from orca_bench.serve.http.server import open_socket, run_server

    listener = open_socket(host, port)
    served_models = []
    for folder in folders:
        if folder.has_own_prompt:
            progress_message(f"{folder.name}: {OWN_PROMPT_WARNING}")
        scheduler = BatchScheduler(folder, max_open, max_waiting, cache_tokens, dtype, memory_share=1 / len(folders))
        if scheduler.note is not None:
            progress_message(f"{folder.name}: {scheduler.note}")
        served_models.append(ServedModel(scheduler, system_text, sampling))
    model_server = ModelServer(served_models, records_folder)
    application = model_server.application(api_key, [host, *allowed_hosts])
    bound_port = listener.getsockname()[1]
    url_host = f"[{host}]" if ":" in host else host
    progress_message(f"serving {', '.join(names)} at http://{url_host}:{bound_port}/ (Ctrl-C ends)")
    run_server(model_server, application, listener, progress_message)


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
