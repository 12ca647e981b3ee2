"""One of several processes that watch one another: `watched_process.py SILENCE_S FOLDER`, with RANK and WORLD_SIZE.

Prints `watching`, then waits for ever; prints `ended: ` and the reason where another process was lost. The folder stands for the
launcher's store: torch, whose store it would be, takes seconds to import.
"""

import os
import sys
import time
from pathlib import Path

from orca_bench import launcher_environment
from orca_bench.files import write_text
from orca_bench.train import peer_watch


class FolderStore:
    """A store whose values are files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def set(self, key: str, value: str) -> None:
        write_text(self._folder / key, value)

    def get(self, key: str) -> bytes:
        while not (self._folder / key).is_file():
            time.sleep(0.02)
        return (self._folder / key).read_bytes()


def end_process(failure: peer_watch.Failure) -> None:
    print(f"ended: {failure.message}", flush=True)
    os._exit(failure.exit_code)


if __name__ == "__main__":
    peer_watch._SILENCE_S, peer_watch._BEAT_INTERVAL_S, peer_watch._END_TIMEOUT_S = float(sys.argv[1]), 0.3, 0.1
    rank = launcher_environment.rank()
    store = FolderStore(Path(sys.argv[2]))
    watch = peer_watch.watch_peers(store, rank, launcher_environment.world_size(), f"node-{rank}", end_process)
    print("watching", flush=True)
    while True:
        time.sleep(60)
