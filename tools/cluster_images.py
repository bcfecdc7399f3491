"""Docker archives written by hand: small images for a node that can pull none."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
"""Debian's busybox-static: one program that needs no library."""
APPLETS = (
    "cat",
    "cp",
    "env",
    "grep",
    "httpd",
    "id",
    "ls",
    "mkdir",
    "nc",
    "nslookup",
    "printf",
    "sh",
    "sleep",
    "test",
    "touch",
    "wget",
)


def _add(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    archive.addfile(member, io.BytesIO(content))


def write_image(
    path: Path, name: str, files: Mapping[str, bytes], command: Sequence[str], *, links: Mapping[str, str] | None = None
) -> Path:
    """Write an image of executable files (path below / -> content) and symbolic links as a docker archive; return its path."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        for file, content in files.items():
            _add(archive, file, content, mode=0o755)
        for link, target in (links or {}).items():
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": list(command), "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        _add(archive, "manifest.json", json.dumps(manifest).encode())
        _add(archive, "config.json", json.dumps(config).encode())
        _add(archive, "layer.tar", layer.getvalue())
    return path


def write_busybox(path: Path, name: str, command: Sequence[str], applets: Iterable[str] = APPLETS) -> Path:
    """Write an image of busybox alone, its applets in /bin."""
    links = {f"bin/{applet}": "busybox" for applet in applets}
    return write_image(path, name, {"bin/busybox": BUSYBOX.read_bytes()}, command, links=links)
