"""Write manifests/install.yaml from the chart, with the namespace that it goes to; `--check` says whether it is up to date."""

import re
import subprocess
import sys
from pathlib import Path

from cluster_binaries import BuildError, build

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "sluice"
INSTALL = ROOT / "manifests" / "install.yaml"
NAMESPACE = "sluice-system"
RENDER_SECONDS = 60

_HEAD = f"""\
# Sluice with the chart's default values, for kubectl apply --server-side. Rendered by `make manifests`; edit charts/sluice.
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    app.kubernetes.io/part-of: sluice
    pod-security.kubernetes.io/enforce: restricted
"""
# Helm does not look after what kubectl installs.
_HELMS_OWN = re.compile(r"^ +(app\.kubernetes\.io/managed-by|helm\.sh/chart): .*\n", re.MULTILINE)


def render() -> str:
    """Return the manifests; raises `BuildError` where there is no helm, `CalledProcessError` where the chart is wrong."""
    done = subprocess.run(
        [str(build("helm")), "template", "sluice", str(CHART), "--namespace", NAMESPACE, "--include-crds", "--skip-tests"],
        capture_output=True,
        text=True,
        timeout=RENDER_SECONDS,
        check=True,
    )
    documents = [part.strip("\n") for part in re.split(r"^---\n", done.stdout, flags=re.MULTILINE) if part.strip()]
    return _HEAD + "".join(f"---\n{_HELMS_OWN.sub('', part + chr(10))}" for part in documents)


def main() -> int:
    """Write or check; return the exit code."""
    try:
        wanted = render()
    except BuildError as error:
        print(error, file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(error.stderr, file=sys.stderr)
        return 2
    if "--check" in sys.argv:
        return 0 if INSTALL.exists() and INSTALL.read_text() == wanted else 1
    INSTALL.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
