"""The house of README's file tree: what each part of the code may import."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TREE = (ROOT / "README.md").read_text(encoding="utf-8").partition("## File tree")[2]
FLOORS = {name: int(floor) for name, floor in re.findall(r"^  (\w+)/ +floor (\d)", TREE, re.MULTILINE)}


def floor(module: str) -> int:
    """Floor of a module, by its package; core/__init__.py is for all."""
    parts = module.split(".")
    if parts[0] == "app":
        return 4
    return 0 if len(parts) == 1 else FLOORS.get(parts[1], 3)


def imported(path: Path) -> Iterator[str]:
    """Names of our own modules that a file imports, at its head or within a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [name for name in modules if (ROOT / f"{name.replace('.', '/')}.py").exists()] or [node.module]
        yield from (name for name in names if name.split(".")[0] in ("app", "core", "benchmarks", "tests"))


def test_a_lower_floor_never_imports_a_higher_one() -> None:
    """Prevents a model that knows the page, which nobody could then use without it."""
    assert [floor(name) for name in ("app.page", "core.engine", "core.align.run", "core.motion.bvh")] == [4, 3, 2, 0]
    seen, wrong = 0, []
    for path in [*(ROOT / "core").rglob("*.py"), *(ROOT / "app").rglob("*.py")]:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name in imported(path):
            seen += 1
            if name.split(".")[0] in ("benchmarks", "tests") or floor(name) > floor(module):
                wrong.append(f"{module} (floor {floor(module)}) imports {name} (floor {floor(name)})")
    assert seen > 500 and not wrong, wrong
