"""Print the ten longest modules and functions, and fail when a module passes 600 lines or a function 80 (see CONTRIBUTING.md)."""

import ast
import sys
from pathlib import Path

MODULE_LIMIT = 600
FUNCTION_LIMIT = 80


def main() -> int:
    """Measure `controller` and `proxy`; return the exit code."""
    modules: list[tuple[int, str]] = []
    functions: list[tuple[int, str]] = []
    for folder in ("controller", "proxy"):
        for path in sorted(Path(folder).rglob("*.py")):
            source = path.read_text()
            modules.append((source.count("\n"), str(path)))
            functions += [
                ((node.end_lineno or node.lineno) - node.lineno + 1, f"{path}:{node.name}")
                for node in ast.walk(ast.parse(source))
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
    for title, rows in (("modules", modules), ("functions", functions)):
        print(f"longest {title}:")
        for lines, name in sorted(rows, reverse=True)[:10]:
            print(f"  {lines:5} {name}")
    over = [
        (name, limit)
        for rows, limit in ((modules, MODULE_LIMIT), (functions, FUNCTION_LIMIT))
        for lines, name in rows
        if lines > limit
    ]
    for name, limit in over:
        print(f"{name} has more than {limit} lines: split it")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
