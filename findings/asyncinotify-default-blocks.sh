#!/bin/sh
# asyncinotify's flag NONBLOCK is O_CLOEXEC, so an Inotify made with the default flags has a blocking descriptor.
#
# Expected: the constructor's default is CLOEXEC | NONBLOCK, and sync_get() is documented to raise a blocking error where the descriptor does
#   not block; inotify_init1(2) has IN_NONBLOCK, equal to O_NONBLOCK, for that.
# Happens: both flags have the value of O_CLOEXEC. With the defaults the descriptor blocks, and sync_get() without an event would wait for one.
#   With os.O_NONBLOCK given by hand it raises BlockingIOError, as documented.
# Matters: a loop that drains the queue until BlockingIOError never comes back, and neither does any reader that shares its thread with an event
#   loop and is woken without an event. os.set_blocking(inotify.fd, False) mends it.
# Needs: Linux, Python 3.11 or newer.
set -eu
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check asyncinotify==4.4.4

"$work/venv/bin/python" -c 'import sys, importlib.metadata as m; print("Python", sys.version.split()[0] + ", asyncinotify", m.version("asyncinotify"))'
cat >"$work/try.py" <<'PYTHON'
import os

from asyncinotify import InitFlags, Inotify

print("NONBLOCK is O_NONBLOCK:", InitFlags.NONBLOCK == os.O_NONBLOCK)
print("NONBLOCK is O_CLOEXEC:", InitFlags.NONBLOCK == os.O_CLOEXEC)
with Inotify() as inotify:
    print("default flags, the descriptor blocks:", os.get_blocking(inotify.fd))
with Inotify(flags=InitFlags.CLOEXEC | os.O_NONBLOCK) as inotify:
    print("os.O_NONBLOCK by hand, the descriptor blocks:", os.get_blocking(inotify.fd))
    try:
        inotify.sync_get()
    except BlockingIOError:
        print("os.O_NONBLOCK by hand, sync_get() without an event: BlockingIOError")
PYTHON
"$work/venv/bin/python" "$work/try.py" >"$work/found"
cat "$work/found"
cat >"$work/expected" <<'TEXT'
NONBLOCK is O_NONBLOCK: False
NONBLOCK is O_CLOEXEC: True
default flags, the descriptor blocks: True
os.O_NONBLOCK by hand, the descriptor blocks: False
os.O_NONBLOCK by hand, sync_get() without an event: BlockingIOError
TEXT
diff "$work/expected" "$work/found" || { echo "The behaviour has changed."; exit 1; }
