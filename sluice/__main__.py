"""The commands `sluice` and `sluice-proxy`: they run packages named `controller` and `proxy`, and see first that these are ours.

Other distributions have packages of these names. One that is installed over ours, or stands before it on the path, would be run
instead, with the keys of every host. So nothing of either is imported here before it was looked at.
"""

import base64
import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from importlib.util import find_spec
from pathlib import Path

DISTRIBUTION = "sluice"
PACKAGES = ("controller", "proxy")
HOME = Path(__file__).resolve().parent.parent
"""Where our packages lie beside each other: a folder of installed packages, or a checkout."""


def stranger(package: str) -> str:
    """Return a sentence about what stands in the place of one of our packages; empty: it is ours."""
    spec = find_spec(package)
    found = Path(spec.origin).resolve() if spec is not None and spec.origin is not None else None
    if found == HOME / package / "__init__.py" and not _is_overwritten(package, found):
        return ""
    owners = sorted(set(packages_distributions().get(package, ())) - {DISTRIBUTION})
    whose = f" of the distribution {' or '.join(owners)}" if owners else ""
    where = f"is {found}{whose}, which is not Sluice's" if found is not None else "is not to be found"
    return f'The package "{package}" that this Python imports {where}; an environment of its own for Sluice would be accepted.'


def _is_overwritten(package: str, file: Path) -> bool:
    """Tell whether a file is another than the one that was installed. A checkout has no record of its files."""
    try:
        files = distribution(DISTRIBUTION).files or ()
    except PackageNotFoundError:
        return False
    recorded = next((one.hash for one in files if one.parts == (package, "__init__.py")), None)
    if recorded is None or recorded.mode != "sha256":
        return False
    digest = hashlib.sha256(file.read_bytes()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != recorded.value


def _look() -> None:
    """End with a sentence where a package is not ours."""
    for package in PACKAGES:
        if wrong := stranger(package):
            print(wrong, file=sys.stderr)  # noqa: T201  a message for whoever typed the command
            sys.exit(2)


@contextlib.contextmanager
def without_authorities() -> Iterator[None]:
    """Have TLS contexts made here know no certificate authorities of the machine.

    aiohttp makes two when it is imported, for HTTPS to anybody: 2 MB and a tenth of a second. Ours are made where TLS is used.
    """
    name = "SSL_CERT_FILE"  # OpenSSL's; it is looked at when a context asks for the default authorities
    before = os.environ.get(name)
    os.environ[name] = os.devnull
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def main() -> None:
    """Run `sluice`."""
    _look()
    with without_authorities():
        from controller.cli import main as command  # noqa: PLC0415  it was looked at just now

    command()


def proxy() -> None:
    """Run `sluice-proxy`."""
    _look()
    with without_authorities():
        from proxy.__main__ import main as command  # noqa: PLC0415  it was looked at just now

    command()


if __name__ == "__main__":
    main()
