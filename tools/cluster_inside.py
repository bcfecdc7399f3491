"""The first process of a node of Kubernetes: makes its mounts and its network, starts its programs, and ends when one of them ends.

Runs in namespaces of its own as cluster_node.py starts it, and reads plan.json in the state folder. It says `unshared`, `started`
or what failed on standard output; standard input stays open as long as the owner lives. With this process the kernel ends all
others of the node. Usage: cluster_inside.py STATE-FOLDER
"""

import contextlib
import json
import os
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

SYSCTLS = {
    "vm/overcommit_memory": 1,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
"""Values that the kubelet insists on. It is shown files with these: the machine's own stay as they are."""
ANSWERS_WITHIN = 120.0
"""Seconds within which the API server must answer; 2 to 5 were seen on a machine that does nothing else."""


def run(*command: str) -> None:
    """Run a program to its end; raises `CalledProcessError`."""
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def bind(source: Path, target: str) -> None:
    """Show `source` at `target`."""
    run("mount", "--bind", str(source), target)


def make_mounts(state: Path, cgroups: list[tuple[str, str]]) -> None:
    """Hide what is the machine's and must not be changed, and give each its own instead."""
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "sysfs", "sysfs", "/sys")
    run("mount", "-t", "tmpfs", "tmpfs", "/sys/fs/cgroup")
    for name, options in cgroups:
        Path("/sys/fs/cgroup", name).mkdir()
        run("mount", "-t", "cgroup", "-o", options, "cgroup", f"/sys/fs/cgroup/{name}")
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    Path("/run/lock").mkdir()
    for folder in ("/var/log", "/var/lib/cni"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        own = state / folder.lstrip("/")
        own.mkdir(parents=True)
        bind(own, folder)
    bind(state / "hosts", "/etc/hosts")
    bind(state / "resolv.conf", str(Path("/etc/resolv.conf").resolve()))
    for name, value in SYSCTLS.items():
        file = state / "sysctl" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
        bind(file, f"/proc/sys/{name}")
    run("mount", "--make-rshared", "/")


def make_network(own: str, link: str, address: str) -> None:
    """Give the node its address, and the link to the machine the other one."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", f"{own}/32", "dev", "lo")
    # So that the address of a Service has a route before it is rewritten.
    run("ip", "route", "add", "default", "dev", "lo", "src", own)
    run("ip", "address", "add", address, "dev", link)
    run("ip", "link", "set", link, "up")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


class Programs:
    """The programs of the node, each with its log."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._lock = threading.Lock()
        self._names: dict[int, str] = {}

    def start(self, command: list[str]) -> None:
        """Start one; its output goes to NAME.log."""
        name = Path(command[0]).name
        to_log = (os.POSIX_SPAWN_OPEN, 1, str(self._logs / f"{name}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        no_input = (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)
        with self._lock:
            started = os.posix_spawn(command[0], command, os.environ, file_actions=[no_input, to_log, (os.POSIX_SPAWN_DUP2, 1, 2)])
            self._names[started] = name

    def wait(self) -> tuple[str, int]:
        """Collect what ends, also processes that lost their parent, until it is a program; return its name and exit status."""
        while True:
            ended, status = os.waitpid(-1, 0)
            with self._lock:
                name = self._names.get(ended)
            if name is not None:
                return name, os.waitstatus_to_exitcode(status)


def wait_for_api(url: str, authority: Path) -> None:
    """Return when the API server is ready; raises `TimeoutError`."""
    context = ssl.create_default_context(cafile=str(authority))
    deadline = time.monotonic() + ANSWERS_WITHIN
    while time.monotonic() < deadline:
        # URLError, HTTPError and a reset are all of them OSErrors.
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5, context=context):  # noqa: S310 - https
            return
        time.sleep(0.05)
    raise TimeoutError(f"the API server did not answer within {ANSWERS_WITHIN:.0f} s")


def say(text: str) -> None:
    """Write a line to the owner."""
    print(text, flush=True)


def end(status: int) -> None:
    """End the node, whichever thread finds that it must."""
    os._exit(status)


def main() -> None:
    """Make the node and keep it."""
    state = Path(sys.argv[1])
    say("unshared")
    # The owner moves the link here, and answers.
    if not sys.stdin.readline():
        end(1)
    plan = json.loads((state / "plan.json").read_text())
    try:
        make_mounts(state, plan["cgroups"])
        make_network(*plan["network"])
    except subprocess.CalledProcessError as error:
        say(f"{' '.join(error.cmd)}: {error.stderr.decode().strip()}")
        end(1)
    programs = Programs(state)
    for command in plan["first"]:
        programs.start(command)

    def follow() -> None:
        try:
            wait_for_api(plan["api"], state / "ca.crt")
        except TimeoutError as error:
            say(f"{error}")
            end(1)
        for command in plan["then"]:
            programs.start(command)
        say("started")
        sys.stdin.read()
        end(0)

    threading.Thread(target=follow, daemon=True).start()
    name, status = programs.wait()
    say(f"{name} ended with {status}")
    end(1)


if __name__ == "__main__":
    main()
