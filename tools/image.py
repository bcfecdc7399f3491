"""`make image`: build/sluice-image.tar, a docker archive of Sluice's image, made on this machine without a registry of images.

The base is a small Debian by mmdebstrap, the build is the Dockerfile's by buildah; the base, the layers and the archive are kept in
the cache folder, keyed by what goes in. Needs root and the packages of install-cluster-packages, but no package of Python.
Usage: image.py
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from cluster_binaries import MissingError, cache_folder

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "localhost/sluice:dev"
ARCHIVE = ROOT / "build" / "sluice-image.tar"
PACKAGES = ("binutils", "ca-certificates", "gcc", "libc6-dev", "python3", "python3-dev", "python3-venv")
INPUTS = (
    "Dockerfile",
    ".dockerignore",
    "LICENSE",
    "README.md",
    "controller",
    "proxy",
    "pyproject.toml",
    "requirements",
    "setup.py",
    "sluice",
)
"""Files that the Dockerfile copies, and itself."""
GIVEN = ("/etc/pip.conf", "/etc/ssl/certs")
"""Of this machine, shown to the build and not kept in the image: how pip reaches an index, and whom it trusts."""
KEPT = 4
"""Archives that the cache keeps."""
KEPT_LAYERS = 100
"""Layers that the cache may hold before all of them go; a change of the controller adds nine."""


class ImageError(Exception):
    """The image does not build; the message has the end of what was said."""


def run(command: list[str], *, environment: Mapping[str, str] | None = None) -> str:
    """Run a program to its end; return what it wrote to standard output. Raises `ImageError` with the end of what it wrote."""
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"{' '.join(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def key(paths: Iterable[Path]) -> str:
    """Return a digest of files and folders, without what Python and compilers leave in them."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".so":
                digest.update(f"{file.relative_to(ROOT)}\0{file.stat().st_mode & 0o111}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def make_base(archive: Path) -> None:
    """Write an archive of the base's root file system: Debian as this machine has it, with Python and a C compiler."""
    sources = [
        path for path in (Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*.sources")) if path.is_file()
    ]
    options = archive.with_name("apt.conf")
    # mmdebstrap knows nothing of how this machine's apt reaches packages; of its other settings nothing is wanted.
    options.write_text(run(["apt-config", "dump", "Acquire"]))
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", f"--aptopt={options}"]
    run([*command, suite(), str(archive), *map(str, sources)])


def suite() -> str:
    """Return the name of this machine's Debian."""
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def build(folder: Path, private: Path) -> Path:
    """Build the image with the layers in `folder`; return a docker archive of it in `private`."""
    environment = {**os.environ, "STORAGE_DRIVER": "overlay", "BUILDAH_ISOLATION": "chroot"}
    # buildah leaves mounts behind: they go with the namespace that each command has for itself.
    buildah = ["unshare", "--mount", "buildah", "--root", str(folder / "storage"), "--runroot", str(private / "run")]
    layers = run([*buildah, "images", "--all", "--quiet"], environment=environment).split()
    if len(layers) > KEPT_LAYERS:
        run([*buildah, "rmi", "--all", "--force"], environment=environment)
    tag = f"localhost/sluice-base:{hashlib.sha256(' '.join((suite(), *PACKAGES)).encode()).hexdigest()[:16]}"
    if subprocess.run([*buildah, "inspect", "--type=image", tag], env=environment, capture_output=True, check=False).returncode:
        make_base(private / "base.tar")
        container = run([*buildah, "from", "scratch"], environment=environment).strip()
        run([*buildah, "add", "--quiet", container, str(private / "base.tar"), "/"], environment=environment)
        run([*buildah, "commit", "--quiet", "--rm", container, tag], environment=environment)
    shown = [f"--volume={path}:{path}:ro" for path in GIVEN if Path(path).exists()]
    # Every file and the image itself carry a fixed time: the same tree makes the same image.
    fixed = ["--timestamp=0", "--layers", "--isolation=chroot", "--pull-never"]
    run([*buildah, "bud", "--quiet", *fixed, f"--build-arg=BASE={tag}", f"--tag={IMAGE}", *shown, "."], environment=environment)
    archive = private / "image.tar"
    run([*buildah, "push", "--quiet", IMAGE, f"docker-archive:{archive}:{IMAGE}"], environment=environment)
    return archive


def image() -> Path:
    """Return the path of the archive of what the tree has now, made where it was not; raises `MissingError`, `ImageError`."""
    for program in ("mmdebstrap", "buildah"):
        if shutil.which(program) is None:
            raise MissingError(f"The image is built by {program}, which is missing: run tools/install-cluster-packages.")
    if os.geteuid() != 0:
        raise MissingError("The image is built as root on this machine.")
    folder = cache_folder() / "image"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = folder / f"sluice-{key([*(ROOT / name for name in INPUTS), ROOT / 'tools' / 'image_root.py', Path(__file__)])}.tar"
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=folder) as private:
                build(folder, Path(private)).rename(made)
        os.utime(made)
        for old in sorted(folder.glob("sluice-*.tar"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
            old.unlink()
        ARCHIVE.parent.mkdir(exist_ok=True)
        fresh = ARCHIVE.with_suffix(".new")
        shutil.copy(made, fresh)
        fresh.rename(ARCHIVE)
    return ARCHIVE


def main() -> int:
    """Make the image and say where it is; return the exit code."""
    start = time.monotonic()
    try:
        path = image()
    except (MissingError, ImageError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{IMAGE} is in {path.relative_to(ROOT)}: {path.stat().st_size / 1e6:.0f} MB, {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
