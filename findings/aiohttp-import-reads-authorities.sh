#!/bin/sh
# `import aiohttp` reads the machine's bundle of certificate authorities, also in a program that never speaks TLS.
#
# Expected: a module reads files of others when it is asked to connect; ssl.create_default_context() is documented to load default CAs.
# Happens: aiohttp.connector makes two SSL contexts while it is imported, one that verifies and one that does not, and the first of them
#   loads every certificate of the bundle. With SSL_CERT_FILE naming an empty file the same import is faster and holds less.
# Matters: a server that only accepts, or each of a pool's processes, pays for authorities that nobody will ask, at every start.
# Needs: Python 3.11 or newer, Linux, a bundle of authorities (the script brings certifi's).
set -eu
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check aiohttp==3.14.5 certifi==2026.4.22

cat >"$work/try.py" <<'PYTHON'
import ssl

loaded = []
plain = ssl.SSLContext.load_default_certs


def load(context, *rest):
    plain(context, *rest)
    loaded.append(context.cert_store_stats()["x509_ca"])


ssl.SSLContext.load_default_certs = load
import aiohttp

print("aiohttp", aiohttp.__version__, "authorities loaded by its import:", loaded)
PYTHON
bundle="$("$work/venv/bin/python" -c 'import certifi; print(certifi.where())')"
with="$(SSL_CERT_DIR="$work" SSL_CERT_FILE="$bundle" "$work/venv/bin/python" "$work/try.py")"
: >"$work/none.pem"
without="$(SSL_CERT_DIR="$work" SSL_CERT_FILE="$work/none.pem" "$work/venv/bin/python" "$work/try.py")"
echo "a whole bundle: $with"
echo "an empty one:   $without"
"$work/venv/bin/python" - "$with" "$without" <<'PYTHON'
import ast
import sys

whole, empty = (ast.literal_eval(line.partition("import: ")[2]) for line in sys.argv[1:])
assert whole and whole[0] > 50, whole
assert set(empty) == {0}, empty
PYTHON
