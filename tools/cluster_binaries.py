"""Build the programs of a Kubernetes cluster from Go modules, once: kept outside the tree, keyed by what go.mod and go.sum pin.

cluster_binaries.py [NAME...]     build what is missing (all of them by default) and print where each is
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

MODULES = Path(__file__).resolve().parent / "cluster"
KUBERNETES = "v1.35.0"
"""Version that the programs of Kubernetes say they are; kubectl and helm look at it."""
PROGRAMS: Mapping[str, tuple[str, str]] = {
    "etcd": ("etcd", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": ("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": ("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kube-scheduler": ("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
    "kubelet": ("kubernetes", "k8s.io/kubernetes/cmd/kubelet"),
    "kube-proxy": ("kubernetes", "k8s.io/kubernetes/cmd/kube-proxy"),
    "kubectl": ("kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
    "helm": ("helm", "helm.sh/helm/v4/cmd/helm"),
    "coredns": ("coredns", "."),
    "kubeconform": ("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform"),
}
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")


class MissingError(Exception):
    """This machine cannot run a node or build the image; the message is one sentence that says what is missing."""


class BuildError(Exception):
    """A program cannot be had on this machine; the message says what is missing."""


def cache_folder() -> Path:
    """Return the folder where programs are kept: SLUICE_CACHE, or `sluice` in the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sluice"
    return Path(os.environ.get("SLUICE_CACHE") or default)


def _key(module: str) -> str:
    digest = hashlib.sha256()
    for path in sorted((MODULES / module).iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(" ".join(_flags(module)).encode())
    return digest.hexdigest()[:16]


def _flags(module: str) -> list[str]:
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    package = "k8s.io/component-base/version"
    says = f" -X {package}.gitVersion={KUBERNETES} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    return ["-trimpath", "-ldflags", "-s -w" + (says if module == "kubernetes" else "")]


def program(name: str) -> Path:
    """Return where a program is, or would be."""
    module, _ = PROGRAMS[name]
    return cache_folder() / "cluster" / f"{module}-{_key(module)}" / name


def build(name: str) -> Path:
    """Build a program unless it is there, and return where it is; raises `BuildError`."""
    path = program(name)
    if path.exists():
        return path
    module, package = PROGRAMS[name]
    if shutil.which("go") is None:
        raise BuildError(f"{name} is built from source: Go 1.25 or newer is missing on this machine")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return path
        with tempfile.TemporaryDirectory(dir=path.parent) as private:
            made = Path(private, name)
            command = ["go", "build", "-mod=readonly", *_flags(module), "-o", str(made), package]
            done = subprocess.run(
                command,
                cwd=MODULES / module,
                env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": ""},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise BuildError(f"{name} does not build:\n{done.stderr[-2000:]}")
            made.rename(path)
    return path


def main(names: list[str]) -> int:
    """Build what is named; return the exit code."""
    for name in names or PROGRAMS:
        if name not in PROGRAMS:
            print(f"{name} was found, {', '.join(PROGRAMS)} would be accepted.", file=sys.stderr)
            return 2
        there = program(name).exists()
        start = time.monotonic()
        if not there:
            print(f"building {name} ...", file=sys.stderr, flush=True)
        try:
            path = build(name)
        except BuildError as error:
            print(error, file=sys.stderr)
            return 1
        if not there:
            print(f"built {name} in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
