"""The rules of ARCHITECTURE.md, enforced on the source with `ast`."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "smalti"
FILES = sorted(SOURCE.rglob("*.py"))
RANK = {
    "labels": 0, "label_table": 0, "geometry": 0, "files": 0, "json_files": 0, "command_log": 0, "terminal": 0,
    "hardware": 0, "ownership": 0, "settings": 0, "telemetry": 0,
    "containers": 1,
    "recipe": 2, "parts": 2, "data": 2, "metrics": 2, "draw": 2,
    "models": 3,
    "checkpoint": 4,
    "training": 5, "export": 5,
    "predict": 6,
    "evaluation": 7,
    "session": 8, "exporting": 8, "diagnostics": 8,
    "studies": 9,
    "cli_options": 9, "cli": 10, "__init__": 10, "__main__": 10,
}  # fmt: skip
SAME_RANK_ALLOWED = {
    ("data", "recipe"), ("labels", "label_table"), ("labels", "json_files"), ("label_table", "settings")
}  # fmt: skip
FORBIDDEN = {
    "parts": {"labels", "containers"},
    "models": {"data", "metrics", "draw"},
    "checkpoint": {"data", "metrics", "draw"},
    "predict": {"training"},
    "evaluation": {"training"},
    "export": {"data", "metrics", "draw"},
}
FRAMEWORK_ROOMS = {
    "lightning": ("training/",),
    "timm": ("parts/encoders/timm_encoder.py",),
    "matplotlib": ("evaluation/plots.py",),
    "jinja2": ("evaluation/report.py",),
    "typer": ("cli.py", "cli_options.py"),
    "nncf": ("export/quantisation.py",),
    "onnx": ("export/forms.py", "export/quantisation.py", "predict/runtimes.py"),
    "onnxruntime": ("predict/runtimes.py",),
    "openvino": ("export/forms.py", "export/quantisation.py", "predict/runtimes.py"),
    "rasterio": ("predict/gdal.py", "predict/geotiff.py", "predict/raster_polygons.py"),
    "shapely": ("predict/raster_polygons.py",),
    "pyogrio": ("predict/raster_polygons.py",),
    "av": ("predict/video_reading.py", "predict/video_writing.py"),
    "zarr": ("predict/writers/semantic.py",),
}
BANNED_NAMES = {"utils", "helpers", "common", "misc", "core", "base", "manager", "engine", "wrapper", "tools", "lib"}
LONGEST_FILE, LONGEST_FUNCTION, MOST_PARAMETERS = 400, 60, 6


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def modules_imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" if node.module == "smalti" else node.module for alias in node.names}
    return found


def functions(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_down(path):
    here = room(path)
    assert here in RANK, f"{here} has no rank: add the room to ARCHITECTURE.md and to RANK"
    if here in ("cli", "__init__", "__main__"):
        return
    for module in modules_imported(path):
        parts = module.split(".")
        if parts[0] != "smalti" or len(parts) == 1:
            continue
        there = parts[1]
        if there == here or there not in RANK:
            continue
        lower = RANK[there] < RANK[here] or (here, there) in SAME_RANK_ALLOWED
        assert lower, f"{path.name} ({here}) may not import {module}"
        assert there not in FORBIDDEN.get(here, set()), f"{path.name} ({here}) may not see {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_frameworks_stay_in_their_rooms(path):
    place = path.relative_to(SOURCE).as_posix()
    for module in modules_imported(path):
        rooms = FRAMEWORK_ROOMS.get(module.split(".")[0])
        assert rooms is None or place.startswith(rooms), f"{place} may not import {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_sizes_and_names(path):
    assert path.stem not in BANNED_NAMES
    assert len(path.read_text().splitlines()) <= LONGEST_FILE
    for function in functions(path):
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= LONGEST_FUNCTION, f"{function.name} has {length} lines"
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        count = sum(a.arg not in ("self", "cls") for a in arguments)
        assert count <= MOST_PARAMETERS or place_is_command(path), f"{function.name} has {count} parameters"


def place_is_command(path: Path) -> bool:
    """A command's options are its parameters, and those of the function of the same name."""
    return path.name == "cli.py" or path == SOURCE / "__init__.py"


def test_every_room_has_a_rank_and_every_rank_a_room():
    rooms = {room(p) for p in FILES}
    # geometry comes with the first network that needs edges or boxes
    assert rooms <= RANK.keys()


def test_no_dead_source_files():
    """Every module is imported by another one, or is a table entry or an entry point."""
    imported = set()
    for path in FILES:
        for module in modules_imported(path):
            imported.add(module)
            imported.add(module.rsplit(".", 1)[0])
    from smalti.models import MODELS

    entries = {f"smalti.models.{m}" for m in MODELS} | {"smalti", "smalti.cli", "smalti.__main__"}
    for path in FILES:
        dotted = ".".join(("smalti", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
        has_children = any(m.startswith(dotted + ".") for m in imported | entries)
        assert dotted in imported | entries or has_children, f"nobody imports {dotted}"
