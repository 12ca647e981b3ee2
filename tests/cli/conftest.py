"""What several files of this folder use."""

import pytest
from data_recipes import write_build_inputs


@pytest.fixture
def build(command):
    """Runs `data build` on the small recipe in the command's folder, with a server's address."""

    def run(server, *words, runner=command):
        recipe = write_build_inputs(command.folder, base_url=server.base_url)
        return runner("data", "build", recipe, "-o", "output=out", *words)

    return run
