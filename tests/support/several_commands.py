"""Several `orca-bench` commands in one process, for variables that libraries read when they are imported.

    python several_commands.py < REQUEST

REQUEST is a JSON object: `environment`, variables by name, and `commands`, lists of words. Each command is run by `main` in the
folder in which the process was started. The last line of output is a JSON list with the arguments of a CompletedProcess for each.
A process for each command would import PyTorch each time.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from command_line import Command


def main() -> None:
    """Run the commands of standard input."""
    request = json.load(sys.stdin)
    os.environ.update(request["environment"])  # before `main` imports anything
    command = Command(Path.cwd())
    outcomes = [command(*words) for words in request["commands"]]
    print(json.dumps([(outcome.args, outcome.returncode, outcome.stdout, outcome.stderr) for outcome in outcomes]))


if __name__ == "__main__":
    main()
