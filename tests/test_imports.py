"""Data runs one way: a module imports only from what stands before it."""

from __future__ import annotations

import ast
from pathlib import Path

import wavescale

PACKAGE = Path(wavescale.__file__).parent

# From the ground up. A module may import from the rows above its own, and from its own row.
ORDER = (
    ("errors",),
    ("rows", "bits"),
    ("taking",),
    ("axes", "resampling", "artifacts"),
    ("architectures",),
    ("spec",),
    ("sizes", "operators", "matching", "inputs"),
    ("expressions",),
    ("methods", "target_config", "wording", "rounding"),
    ("plan_json",),
    ("plan",),
    ("ranks",),
    ("planning", "checkpoint", "execute", "memory", "card", "progress", "moments"),
    ("optimizer",),
    ("pairing", "calibration", "learned"),
    ("analysis", "similarity", "ordering", "merging", "picking", "arranging"),
    ("findings", "sentence_modules"),
    ("resizing", "spectrum", "verification", "recipe"),
    ("on_disk", "in_memory"),
    ("demo",),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, row in enumerate(ORDER) for name in row}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("wavescale."):
            found.add(node.module.split(".")[1])
    return found


def test_no_arrow_points_backwards() -> None:
    modules = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]
    assert len(modules) > 30
    for path in modules:
        name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for other in imports(path):
            assert LEVEL[other] <= LEVEL[name], f"{path.relative_to(PACKAGE)} imports {other}"


def test_the_engine_knows_nothing_of_wavelets() -> None:
    for name in ("execute.py", "rows.py", "checkpoint/row_reader.py", "checkpoint/writer.py"):
        text = (PACKAGE / name).read_text(encoding="utf-8").lower()
        assert "wavelet" not in text
        assert "haar" not in text


def test_tables_hold_data_only() -> None:
    for path in (PACKAGE / "architectures").glob("*.py"):
        if path.name == "schema.py":
            continue
        kinds = {type(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))}
        assert not kinds & {ast.FunctionDef, ast.If, ast.For, ast.Lambda, ast.IfExp, ast.ClassDef}, path.name


def test_public_names_are_listed_and_found() -> None:
    assert {"resize", "plan_resize", "verify", "__version__"} <= set(dir(wavescale))
    assert all(hasattr(wavescale, name) for name in dir(wavescale))
    assert not {"on_disk", "Any"} & set(dir(wavescale))
