"""What `sluice standalone` holds and has imported while nobody asks it anything."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from demo import await_ready, sluice
from e2e.standalone import FREE, WAIT
from idle_memory import children, held_by_standalone

EXAMPLES = Path(__file__).parents[2] / "manifests" / "examples"
MOST_KIB = 70_000_000 // 1024
"""Of all three processes, what they share counted once."""
PACKAGES = {
    *("aiohttp", "aiohappyeyeballs", "aiosignal", "asyncinotify", "attr", "click", "frozenlist", "idna", "msgspec", "multidict"),
    *("propcache", "re2", "typing_extensions", "uvloop", "yaml", "yarl"),
    "prometheus_client",  # a proxy is scraped sooner or later, and its supervisor should not stop for an import then
}
"""Of others, what an idle `sluice standalone` needs."""
NOT_OF_PYTHON = {
    *("unittest", "multiprocessing", "concurrent.futures.process", "xml", "sqlite3", "pydoc", "doctest", "pdb", "tkinter"),
    *("xmlrpc", "ensurepip", "venv", "lib2to3", "curses", "dbm", "smtplib", "imaplib", "ftplib", "profile", "turtle"),
}
"""Of Python's own, what costs memory and is needed by nobody here."""


def objects(folder: Path) -> Path:
    """Copy what a reader of the documentation would begin with."""
    folder.mkdir()
    for file in EXAMPLES.glob("*.yaml"):
        shutil.copy(file, folder)
    return folder


def mapped(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def test_idle_standalone_with_one_worker_holds_at_most_seventy_megabytes(tmp_path: Path) -> None:
    with sluice(objects(tmp_path / "objects"), FREE) as (process, _):
        found = held_by_standalone(process.pid)

    assert [one.role for one in found] == ["controller", "supervisor", "worker"]
    assert sum(one.pss_anon for one in found) <= MOST_KIB, found


def test_processes_of_standalone_share_most_of_what_they_hold(tmp_path: Path) -> None:
    """The proxy is a fork of the controller, and a worker one of its supervisor: on its own each is twice as large."""
    with sluice(objects(tmp_path / "objects"), FREE) as (process, _):
        _, *proxy = held_by_standalone(process.pid)
        alone = {one.pid: own(one.pid) for one in proxy}

    assert all(alone[one.pid] < one.rss / 2 for one in proxy), (proxy, alone)


def own(pid: int) -> int:
    """KiB that nobody shares with a process."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(size) for size in re.findall(r"^Private_(?:Clean|Dirty): +(\d+)", rollup, re.MULTILINE))


def test_idle_standalone_has_imported_only_what_it_needs(tmp_path: Path) -> None:
    """Without WsRoutes nothing validates by their schema, without Secrets nothing reads certificates; a cluster is not there."""
    folder = tmp_path / "objects"
    folder.mkdir()
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-X", "importtime", "-P", "-m", "controller.cli", "standalone", str(folder), *FREE],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            await_ready(process, line.rsplit("admin=", 1)[1].strip())
            (supervisor,) = children(process.pid)
            pids = [process.pid, supervisor, *children(supervisor)]
            maps = [mapped(pid) for pid in pids]
        finally:
            process.terminate()
            process.communicate(timeout=WAIT)
    # Forks of the interpreter tell their imports too.
    imported = set(re.findall(r"^import time:.*\| +([\w.]+)$", (tmp_path / "log").read_text(), re.MULTILINE))
    installed = Path(__import__("aiohttp").__file__).parents[1]
    others = {name.partition(".")[0] for name in imported if is_of(installed, name.partition(".")[0])}

    assert {"controller.standalone", "proxy.processes.worker", "asyncio"} <= imported
    # The default certificate is made in a process that ended at once.
    assert others - PACKAGES - {"cryptography", "_cffi_backend"} == set()
    assert imported & NOT_OF_PYTHON == set()
    assert len(maps) == 3
    assert not any("cryptography" in text for text in maps)


def is_of(installed: Path, name: str) -> bool:
    """Tell whether a package lies where others' are; one that was tried and is not there does not."""
    return (
        not name.startswith("__editable__")
        and name != "_distutils_hack"
        and ((installed / name).is_dir() or (installed / f"{name}.py").exists() or any(installed.glob(f"{name}.*.so")))
    )


@pytest.mark.parametrize("module", ["controller.standalone", "proxy.__main__"])
def test_what_a_process_starts_with_knows_neither_kubernetes_nor_cryptography(module: str) -> None:
    command = f"import sys, {module}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-P", "-c", command], capture_output=True, text=True, timeout=WAIT, check=True)
    found = {name.partition(".")[0] for name in ran.stdout.split()}

    assert "aiohttp" in found
    assert found & {"kopf", "kubernetes", "cryptography", "jsonschema", "referencing", *NOT_OF_PYTHON} == set()


@pytest.mark.parametrize("environment", [{}, {"SSL_CERT_FILE": "/of/the/machine"}])
def test_authorities_are_unknown_to_what_is_imported_and_nothing_else(environment: dict[str, str]) -> None:
    command = """import os, ssl, sluice.__main__ as ours
before = dict(os.environ)
with ours.without_authorities():
    context = ssl.create_default_context()
print(len(context.get_ca_certs()), os.environ == before, os.environ.get("SSL_CERT_FILE"))
"""
    inherited = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    ran = subprocess.run(
        [sys.executable, "-P", "-c", command], capture_output=True, text=True, env=inherited | environment, check=True
    )

    assert ran.stdout == f"0 True {environment.get('SSL_CERT_FILE')}\n"
