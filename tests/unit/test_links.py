"""The check of `make lint` for links and paths: what it finds wrong, and what it leaves alone."""

from pathlib import Path

import check_links
import pytest


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of three files."""
    for path, text in {
        "README.md": "# It\n\n[the page](docs/page.md#what-is-it-1), [here](#it), [elsewhere](https://example.com/x#y)\n",
        "docs/page.md": '# Page\n\n## What is `it`?\n\n## What is it\n\n| <a id="named">named</a> |\n|---|\n',
        "proxy/exchange/http.py": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def test_links_and_paths_of_this_tree_are_there() -> None:
    assert check_links.faults(check_links.ROOT) == []


@pytest.mark.parametrize(
    "text",
    [
        "[a](docs/page.md#named) [b](docs/page.md#page) [c](proxy/exchange/http.py) [d](docs)",
        "`proxy/exchange/http.py` `proxy/exchange/` `http.py` `proxy/*/http.py` `proxy/exchange/http.py::test_it`",
        "```\n  proxy/exchange/http   what it is\n```",
        "`shop/chat`, `timeouts/idle`, `a.b`, `/proxy/none`, `[x](none.md)`",
        "```\n[x](none.md)\n```",
    ],
)
def test_what_is_there_and_what_is_no_path_is_left_alone(tree: Path, text: str) -> None:
    (tree / "CONTRIBUTING.md").write_text(text)

    assert check_links.faults(tree) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[a](docs/none.md)", "docs/none.md leads to no file"),
        ("[a](docs/page.md#none)", "docs/page.md#none leads to no heading or anchor"),
        ("[a](docs/page.md#what-is-it-2)", "docs/page.md#what-is-it-2 leads to no heading or anchor"),
        ("[a](#none)", "#none leads to no heading or anchor"),
        ("see `proxy/none.py`", "`proxy/none.py` is not in the tree"),
        ("see `python proxy/none.py`", "`proxy/none.py` is not in the tree"),
        ("```\nproxy/none  what it is\n```", "`proxy/none` is not in the tree"),
        ("see `none.py`", "no file of the tree is named `none.py`"),
    ],
)
def test_what_is_not_there_is_said_with_its_page(tree: Path, text: str, sentence: str) -> None:
    (tree / "CONTRIBUTING.md").write_text(text)

    assert check_links.faults(tree) == [f"CONTRIBUTING.md: {sentence}"]


@pytest.mark.parametrize(
    ("comment", "sentence"),
    [
        ("(docs/none.md)", "docs/none.md is not in the tree"),
        ("(docs/page.md, none)", "docs/page.md has nothing named none"),
        ("(docs/page.md, none; RFC 9112)", "docs/page.md has nothing named none"),
        ("(docs/page.md, 'None')", "docs/page.md has no heading 'None'"),
    ],
)
def test_comment_that_refers_to_nothing_is_said(tree: Path, comment: str, sentence: str) -> None:
    (tree / "proxy" / "there.py").write_text(
        "# (docs/page.md), (docs/page.md, named), (docs/page.md, 'Page'), (docs/page.md,\n# 'What is it')"
    )
    (tree / "proxy" / "wrong.py").write_text(f'"""It {comment}."""')

    assert check_links.faults(tree) == [f"proxy/wrong.py: {sentence}"]


def test_history_may_name_files_that_are_gone_but_not_link_to_them(tree: Path) -> None:
    (tree / "CHANGELOG.md").write_text("`proxy/none.py`, [x](none.md)")

    assert check_links.faults(tree) == ["CHANGELOG.md: none.md leads to no file"]
