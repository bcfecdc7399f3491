"""Check the pages: links that lead nowhere, and paths of this tree that are not there. Nothing is fetched.

Looked at are README, CONTRIBUTING, CHANGELOG and the pages of docs/, tests/ and benchmarks/. A path is what begins with a folder of
the tree, in backticks or in a block of code, as in CONTRIBUTING's map, where a module may stand without its `.py`. CHANGELOG and
the journal tell of files as they were: there only links count. Comments of the code refer to pages as (docs/page.md, name): of a
promise, of a paragraph that begins in bold, or in quotes of a heading.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ("*.md", "docs/**/*.md", "tests/**/*.md", "benchmarks/*.md", "findings/**/*.md")
CODE = ("controller", "proxy", "sluice")
HISTORIES = frozenset({"CHANGELOG.md", "JOURNAL.md"})
NOT_OURS = frozenset({"build", "dist", "node_modules"})
"""Folders that are made, not written."""

_FENCE = re.compile(r"^(`{3,}).*?^\1`*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`+)(.+?)\1")
_LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_ANCHOR = re.compile(r"<a id=\"([^\"]+)\"")
_PATH = re.compile(r"[A-Za-z][\w.-]*(?:/[\w.*-]+)+/?")
_REFERENCE = re.compile(r"\((docs/[\w-]+\.md)(?:, '([^']+)'|, ([^();]+))?[;)]")
_BOLD = re.compile(r"\*\*([^*]+?)\.?\*\*")
_FILE = re.compile(r"\w[\w-]*\.(?:py|md)")


def main() -> int:
    """Print one line for each; return the exit code."""
    wrong = faults(ROOT)
    for line in wrong:
        print(line)
    return 1 if wrong else 0


def faults(root: Path) -> list[str]:
    """Return the faults of the pages of a tree, as `page: sentence`."""
    found = sorted({page for pattern in PAGES for page in root.glob(pattern) if not NOT_OURS & set(page.parts)})
    pages = {page: page.read_text() for page in found}
    folders = {entry.name for entry in root.iterdir() if entry.is_dir() and entry.name not in NOT_OURS and entry.name[0] != "."}
    files = {path.name for folder in folders for path in (root / folder).rglob("*") if path.suffix in (".py", ".md")}
    files |= {path.name for path in root.glob("*.*")}
    wrong = []
    for page, text in pages.items():
        sentences = list(_broken_links(page, text))
        if page.name not in HISTORIES:
            sentences += _absent_paths(root, page, text, folders, files)
        wrong += [f"{page.relative_to(root)}: {sentence}" for sentence in sentences]
    for path in sorted(path for folder in CODE for path in (root / folder).rglob("*.py")):
        wrong += [f"{path.relative_to(root)}: {sentence}" for sentence in _lost_references(root, path.read_text())]
    return wrong


def _lost_references(root: Path, source: str) -> Iterable[str]:
    for page, heading, name in _REFERENCE.findall(re.sub(r"\s*\n\s*(?:# )?", " ", source)):
        text = (root / page).read_text() if (root / page).exists() else ""
        if not text:
            yield f"{page} is not in the tree"
        elif heading and heading not in _HEADING.findall(text):
            yield f"{page} has no heading '{heading}'"
        elif name and name.lower() not in {
            found.lower() for found in re.findall(r"<a id=[^>]*>([^<]+)", text) + _BOLD.findall(text)
        }:
            yield f"{page} has nothing named {name}"


def _broken_links(page: Path, text: str) -> Iterable[str]:
    for link in _LINK.findall(_CODE.sub("", _FENCE.sub("", text))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists():
            yield f"{link} leads to no file"
        elif anchor and anchor not in anchors(target.read_text()):
            yield f"{link} leads to no heading or anchor"


def anchors(text: str) -> set[str]:
    """Return the anchors of a page: of its headings, as GitHub makes them, and those that are written."""
    names: set[str] = set(_ANCHOR.findall(text))
    times: dict[str, int] = {}
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        number = times[slug] = times.get(slug, -1) + 1
        names.add(f"{slug}-{number}" if number else slug)
    return names


def _absent_paths(root: Path, page: Path, text: str, folders: set[str], files: set[str]) -> Iterable[str]:
    code = [found[0] for found in _FENCE.finditer(text)]
    spans = [found[2] for found in _CODE.finditer(_FENCE.sub("", text))]
    for word in dict.fromkeys(word.strip("\"',;:()").partition("::")[0] for part in code + spans for word in part.split()):
        ours = _PATH.fullmatch(word) and word.partition("/")[0] in folders
        if ours and not any(_exists(start, word) for start in (root, page.parent)):
            yield f"`{word}` is not in the tree"
    for word in dict.fromkeys(span.partition("::")[0] for span in spans):
        if _FILE.fullmatch(word) and word not in files:
            yield f"no file of the tree is named `{word}`"


def _exists(start: Path, path: str) -> bool:
    path = path.rstrip("/")
    return any(True for _ in start.glob(path)) or (start / f"{path}.py").exists()


if __name__ == "__main__":
    sys.exit(main())
