"""Makes a layer of the image: collects an environment, the Python under it and the libraries of both; compiles what is there.

Left out are parts of Python that a server does not import, what the Python client of Kubernetes has for kinds that Sluice never
asks for, nine tenths of it, and the symbols for debuggers in compiled modules.

Runs in the first stages of the image. Everything gets the same time, and compiled modules carry none, so that the same files make
the same layer. Usage: image_root.py LAYER [ENVIRONMENT] (without an environment, what is in the layer already is compiled)
"""

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

UNUSED = (
    "__pycache__",
    "_curses*",
    "_dbm*",
    "_gdbm*",
    "_sqlite3*",
    "config-*",
    "curses",
    "dbm",
    "dist-packages",
    "distutils",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "nis.*",
    "pydoc_data",
    "readline.*",
    "site-packages",
    "sqlite3",
    "test",
    "tests",
    "tkinter",
    "_tkinter*",
    "turtledemo",
)
"""Parts of the standard library that a server does not import; `config-*` are the files for programs that embed Python."""
CLIENT = (
    "ApiClient",
    "Configuration",
    "CoordinationV1Api",
    "CoreV1Api",
    "CoreV1Event",
    "CustomObjectsApi",
    "NetworkingV1Api",
    "V1Lease",
    "V1LeaseSpec",
    "V1ObjectMeta",
    "V1Pod",
)
"""Names of `kubernetes.aio.client` that the controller uses; what these import comes with them. A test compares."""
GENERATED = ("client/api/*.py", "client/models/*.py")
"""Modules of the client that are made of the API's description: one for each kind, of which hardly any is imported."""
IMPORTED = """
import sys, kopf, kubernetes.aio.client
for name in sys.argv[1:]:
    getattr(kubernetes.aio.client, name)
print(*(module.__file__ for module in list(sys.modules.values()) if getattr(module, "__file__", None)), sep="\\n")
"""
"""Prints the files of the modules that are loaded; kopf imports some of the client too."""
USERS = "root:x:0:0:root:/:/nonexistent\ncontroller:x:10001:10001::/:/nonexistent\nproxy:x:10002:10002::/:/nonexistent\n"
GROUPS = "root:x:0:\nsluice:x:10000:\ncontroller:x:10001:\nproxy:x:10002:\n"
FIXED_TIME = 0
MERGED = ("lib", "lib64")
"""Folders that Debian keeps in /usr; programs name their loader by the old path."""


def libraries(files: Iterable[Path]) -> set[Path]:
    """Return the shared libraries that these programs and modules load, and theirs, as this system's loader finds them."""
    found = set()
    for file in files:
        listed = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=False).stdout
        if "not found" in listed:
            raise FileNotFoundError(f"{file} needs a library that is not there:\n{listed}")
        found |= {Path(path) for path in re.findall(r"(/\S+) \(0x", listed)}
    return found


def copy_file(file: Path, target: Path) -> None:
    """Copy a file to where it is found; links in its folder's path are followed, so that it lies in /usr."""
    to = target / str(file.parent.resolve() / file.name).lstrip("/")
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, to)


def unused_of_client(environment: Path) -> set[Path]:
    """Return the generated modules of the client that nothing imports when the names of `CLIENT` are used."""
    python = environment / "bin" / "python"
    command = [str(python), "-B", "-c", IMPORTED, *CLIENT]
    loaded = {Path(line) for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()}
    (package,) = environment.glob("lib/python*/site-packages/kubernetes")
    return {path for pattern in GENERATED for path in package.rglob(pattern)} - loaded


def strip(folder: Path) -> None:
    """Remove the symbols for debuggers from compiled modules; uvloop's are 9 MB."""
    for file in folder.rglob("*.so*"):
        if not file.is_symlink():
            subprocess.run(["strip", "--strip-debug", str(file)], check=True)


def collect(environment: Path, target: Path) -> None:
    """Copy what runs, and write the few files of /etc that the C library reads."""
    python = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    unused = unused_of_client(environment)

    def ignored(folder: str, names: list[str]) -> set[str]:
        patterns = shutil.ignore_patterns("__pycache__", "Activate.ps1", "activate*")
        return patterns(folder, names) | {name for name in names if Path(folder, name) in unused}

    shutil.copytree(
        library, target / str(library).lstrip("/"), ignore=shutil.ignore_patterns(*UNUSED), ignore_dangling_symlinks=True
    )
    copied = target / str(environment).lstrip("/")
    shutil.copytree(environment, copied, symlinks=True, ignore=ignored, ignore_dangling_symlinks=True)
    strip(copied)
    copy_file(python, target)
    for file in libraries([python, *target.rglob("*.so*")]):
        if target not in file.parents:
            copy_file(file, target)
    for name in MERGED:
        if Path("/", name).is_symlink():
            (target / "usr" / name).mkdir(parents=True, exist_ok=True)
            (target / name).symlink_to(f"usr/{name}")
    etc = target / "etc"
    etc.mkdir(exist_ok=True)
    (etc / "passwd").write_text(USERS)
    (etc / "group").write_text(GROUPS)
    (etc / "nsswitch.conf").write_text("hosts: files dns\n")
    for name in ("ld.so.cache", "os-release"):
        shutil.copy(Path("/etc", name), etc / name)
    (target / "tmp").mkdir()
    (target / "tmp").chmod(0o1777)


def main(target: str, *environments: str) -> int:
    """Collect, compile and set the times; return the exit code."""
    root = Path(target)
    for environment in environments:
        collect(Path(environment), root)
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compiled = compileall.compile_dir(
        root, quiet=1, stripdir=target, prependdir="/", invalidation_mode=mode, workers=0, maxlevels=20
    )
    for path in root.rglob("*"):
        os.utime(path, (FIXED_TIME, FIXED_TIME), follow_symlinks=False)
    return 0 if compiled else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
