"""Two machines for a test: network namespaces of this one with host names of their own, joined by a veth pair.

They share the disk and the clock. Needs root and `ip` of iproute2; `missing_needs` says what is missing.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class NetworkNode:
    """One of the two machines. `host` is its name, `address` what the other reaches it by, `interface` its end of the pair."""

    def __init__(self, number: int, prefix: str) -> None:
        self.host, self.address, self.interface = f"node-{number}", f"10.231.7.{number + 1}", f"{prefix}v{number}"
        self._namespace = f"{prefix}n{number}"

    def create(self, other_interface: str) -> None:
        """Create the namespace, and with the first one the pair of interfaces."""
        _ip("netns", "add", self._namespace)
        if self.host == "node-0":
            _ip("link", "add", self.interface, "type", "veth", "peer", "name", other_interface)
        _ip("link", "set", self.interface, "netns", self._namespace)
        _ip("-n", self._namespace, "address", "add", f"{self.address}/24", "dev", self.interface)
        for interface in ("lo", self.interface):
            _ip("-n", self._namespace, "link", "set", interface, "up")

    def start(self, words: Sequence[Any], folder: Path, environment: Mapping[str, str]) -> "subprocess.Popen[str]":
        """Start a program on this machine."""
        in_namespace = ["ip", "netns", "exec", self._namespace, "unshare", "--uts"]
        return subprocess.Popen(
            [*in_namespace, "sh", "-c", f'hostname {self.host} && exec "$@"', "sh", *map(str, words)],
            cwd=folder,
            env=os.environ | environment | {"GLOO_SOCKET_IFNAME": self.interface},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill_all(self) -> None:
        """Kill all programs of this machine, as if it had been switched off and on again."""
        process_ids = subprocess.run(
            ["ip", "netns", "pids", self._namespace], capture_output=True, text=True
        ).stdout.split()
        subprocess.run(["kill", "-KILL", *process_ids], capture_output=True)

    def set_link(self, state: str) -> None:
        """Cut the link (`down`) or join it again (`up`)."""
        _ip("-n", self._namespace, "link", "set", self.interface, state)

    def remove(self) -> None:
        """Remove the namespace and all that runs in it."""
        self.kill_all()
        subprocess.run(["ip", "netns", "delete", self._namespace], capture_output=True)


def missing_needs() -> str | None:
    """Why there can be no such machines here, or None."""
    if os.geteuid() != 0:
        return "not root on this machine"
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return "no programs ip and unshare on this machine"
    probe = subprocess.run(
        ["unshare", "--net", "--uts", "ip", "link", "add", "end-0", "type", "veth", "peer", "name", "end-1"],
        capture_output=True,
    )
    return "no network namespaces on this machine" if probe.returncode else None


def create_nodes() -> list[NetworkNode]:
    """Two machines that reach one another."""
    nodes = [NetworkNode(number, f"ob{os.getpid() % 1_000_000}") for number in range(2)]
    try:
        for node in nodes:
            node.create(nodes[1].interface)
    except subprocess.CalledProcessError:
        for node in nodes:
            node.remove()
        raise
    return nodes


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
