#!/bin/sh
# Naming one class of the kubernetes client's aio package imports models of all API groups, in the middle of whatever names it first.
#
# Expected: `client.CoreV1Api` costs the module of that class; the package is lazy, so that what is not named is not imported.
# Happens: the first access to `client.CoreV1Api` imports over 200 modules at once, which take tens of megabytes, whatever is called of it.
# Matters: the access stands where the call is made, so an event loop stands still for it, and a controller that writes an Event once in
#   its life holds the models ever after. A raw request through ApiClient needs none of them.
# Needs: Python 3.11 or newer, Linux.
set -eu
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check kubernetes==37.0.2 aiohttp==3.14.5

"$work/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import re
import sys
import time


def own_mib() -> float:
    with open("/proc/self/smaps_rollup") as lines:
        return int(re.search(r"^Pss_Anon: +([0-9]+) kB", lines.read(), re.MULTILINE)[1]) / 1024


from kubernetes.aio import client

client.ApiClient
modules, mib, began = len(sys.modules), own_mib(), time.monotonic()
client.CoreV1Api
imported, grown = len(sys.modules) - modules, own_mib() - mib
print("kubernetes", importlib.metadata.version("kubernetes"), "Python", sys.version.split()[0])
print(f"client.CoreV1Api: {imported} modules, {grown:.1f} MiB, {time.monotonic() - began:.2f} s")
assert imported > 150, imported
assert grown > 8, grown
PYTHON
