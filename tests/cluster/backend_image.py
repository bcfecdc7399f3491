"""The image of the tests' backends: Sluice's own, for its Python, with python-socketio and backend.py as one more layer."""

import hashlib
import importlib
import io
import json
import tarfile
from pathlib import Path

BACKENDS = "localhost/backends:1"
PACKAGES = ("bidict", "engineio", "h11", "simple_websocket", "socketio", "wsproto")
"""What python-socketio needs and Sluice does not, from the environment that runs the tests; all of it plain Python."""
PROGRAM = Path(__file__).with_name("backend.py")


def _layer() -> bytes:
    """Return a tar of the packages and the program, in /backend."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name in PACKAGES:
            found = importlib.import_module(name).__file__
            assert found is not None
            for path in sorted(Path(found).parent.rglob("*.py")):
                tar.add(path, f"backend/{name}/{path.relative_to(Path(found).parent)}")
        tar.add(PROGRAM, "backend/backend.py")
    return written.getvalue()


def write_backends(archive: Path, path: Path) -> Path:
    """Write a docker archive of the image, made of the archive of Sluice's; return its path."""
    layer = _layer()
    digest = hashlib.sha256(layer).hexdigest()
    with tarfile.open(archive) as source, tarfile.open(path, "w") as made:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))

        manifest = json.load(_file(source, "manifest.json"))[0]
        config = json.load(_file(source, manifest["Config"]))
        for name in manifest["Layers"]:
            made.addfile(source.getmember(name), _file(source, name))
        config["rootfs"]["diff_ids"].append(f"sha256:{digest}")
        config["history"] = []
        config["config"]["Env"].append("PYTHONPATH=/backend")
        config["config"]["Cmd"] = ["python", "/backend/backend.py", "8080"]
        add(f"{digest}.tar", layer)
        add("backends.json", json.dumps(config).encode())
        described = {"Config": "backends.json", "RepoTags": [BACKENDS], "Layers": [*manifest["Layers"], f"{digest}.tar"]}
        add("manifest.json", json.dumps([described]).encode())
    return path


def _file(archive: tarfile.TarFile, name: str) -> io.BufferedReader:
    file = archive.extractfile(name)
    assert isinstance(file, io.BufferedReader)
    return file
