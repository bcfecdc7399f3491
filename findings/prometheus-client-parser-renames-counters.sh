#!/bin/sh
# prometheus_client's parser of the text format gives counters names that do not stand on the page.
#
# Expected: a sample has the name of its line: the text format 0.0.4 knows no suffix of counters (only OpenMetrics asks for _total), and
#   Prometheus stores under the name that it reads.
# Happens: text_string_to_metric_families() appends _total to samples of type counter that lack it, and takes it off the family's name. Pages
#   with and without the suffix come out the same. The same samples without a TYPE line, or with the type gauge, keep their names.
# Matters: a test that reads an exporter's page by this parser passes for either name, so it cannot hold the names that dashboards and alerts
#   ask for; a relay that parses and exposes again renames series. Many exporters have counters without the suffix. Compare the text itself.
# Needs: Python 3.11 or newer.
set -eu
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check prometheus-client==0.26.0

"$work/venv/bin/python" -c 'import importlib.metadata as m; print("prometheus-client", m.version("prometheus-client"))'
cat >"$work/try.py" <<'PYTHON'
from prometheus_client.parser import text_string_to_metric_families

PAGES = (
    "# TYPE requests counter\nrequests 5\n",
    "# TYPE requests_total counter\nrequests_total 5\n",
    "# TYPE requests gauge\nrequests 5\n",
    "requests 5\n",
)
for page in PAGES:
    families = [
        f"family {family.name} ({family.type}), samples {', '.join(sample.name for sample in family.samples)}"
        for family in text_string_to_metric_families(page)
    ]
    print(f"{page!r}: {'; '.join(families)}")
PYTHON
"$work/venv/bin/python" "$work/try.py" >"$work/found"
cat "$work/found"
cat >"$work/expected" <<'TEXT'
'# TYPE requests counter\nrequests 5\n': family requests (counter), samples requests_total
'# TYPE requests_total counter\nrequests_total 5\n': family requests (counter), samples requests_total
'# TYPE requests gauge\nrequests 5\n': family requests (gauge), samples requests
'requests 5\n': family requests (unknown), samples requests
TEXT
diff "$work/expected" "$work/found" || { echo "The behaviour has changed."; exit 1; }
