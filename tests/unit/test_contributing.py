"""CONTRIBUTING's map of the house names every folder of the tree."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
MADE = frozenset({"__pycache__", "build", "dist", "generated", "node_modules"})
"""Folders that are made, not written."""
ALIKE = frozenset({"tests/fuzz/corpus", "tools/cluster"})
"""Folders of folders that hold one thing each: the map names these alone."""


def folders() -> list[str]:
    """Every folder that has files."""
    found = []
    for folder in sorted(ROOT.rglob("*/")):
        path = folder.relative_to(ROOT)
        if any(part in MADE or part[0] == "." or part.endswith(".egg-info") for part in path.parts):
            continue
        if str(path.parent) not in ALIKE and (str(path) in ALIKE or any(entry.is_file() for entry in folder.iterdir())):
            found.append(str(path))
    return found


def test_map_names_every_folder() -> None:
    words = {word.strip(",;:") for word in (ROOT / "CONTRIBUTING.md").read_text().split("```")[1].split()}

    assert [folder for folder in folders() if folder not in words] == []
    assert {"proxy/model", "tests/wire", "tests/fuzz/corpus", "charts/sluice/templates/tests"} <= set(folders())
