"""The rules of docs/architecture.md that a machine can hold."""

import ast
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[1] / "src" / "cpsd"
LAYERS = (
    "errors",
    "files",
    "addresses",
    "copies",
    "csv_cells",
    "array_files",
    "yaml_files",
    "cost",
    "peak_memory",
    "attempts",
    "seeds",
    "memory",
    "freed_memory",
    "flops",
    "strategies",
    "machine_config",
    "shares",
    "process_group",
    "model_config",
    "config",
    "config_yaml",
    "computing",
    "stage",
    "stage_files",
    "run",
    "whole_files",
    "folder_copy",
    "lease",
    "sending",
    "run_copy",
    "run_home",
    "execution",
    "labels",
    "affinity",
    "graph",
    "cut_states",
    "spectral",
    "normalized_cut",
    "partition_json",
    "partition",
    "data",
    "smoke",
    "models",
    "losses",
    "training",
    "evaluation",
    "run_predictions",
    "method",
    "inference_cost",
    "fast",
    "report",
    "manifest",
    "fingerprints",
    "given_models",
    "trained",
    "explain",
    "importing",
    "findings",
    "run_models",
    "training_work",
    "scoring_work",
    "pipeline",
    "comparison",
    "argument_errors",
    "parsers",
    "arguments",
    "cluster",
    "verbs",
    "cli",
    "__main__",
)
"""Modules and packages of cpsd, the lowest first: each imports earlier ones only."""
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc"}
MOST_LINES = 350

FILES = sorted(SOURCES.rglob("*.py"))
MODULES = [path for path in FILES if path != SOURCES / "__init__.py"]


def name_of(path: Path) -> str:
    return path.relative_to(SOURCES).as_posix()


def layer_of(path: Path) -> str:
    return path.relative_to(SOURCES).with_suffix("").parts[0]


def imported_layers(source: str) -> set[str]:
    """Return the layers that a module imports, inside functions too."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # `from cpsd import method` names the module last, `from cpsd.method import fit` not.
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("cpsd.")}


def test_imports_are_read_in_every_form() -> None:
    source = (
        "import cpsd.run\nfrom cpsd import method\ndef f():\n    from cpsd.data.rows import Row\n"
    )
    assert imported_layers(source + "import os\nfrom torch import nn\n") == {
        "run",
        "method",
        "data",
    }


def test_every_module_has_its_layer() -> None:
    found = {layer_of(path) for path in MODULES}
    assert found == set(LAYERS)
    assert len(set(LAYERS)) == len(LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_to_earlier_layers(path: Path) -> None:
    layer = layer_of(path)
    earlier = {*LAYERS[: LAYERS.index(layer)], layer}
    assert imported_layers(path.read_text(encoding="utf-8")) <= earlier


@pytest.mark.parametrize(
    ("layer", "others"),
    [
        ("run", {"attempts", "cost", "errors", "files", "stage", "stage_files"}),
        ("evaluation", {"config", "errors", "files", "labels", "memory", "strategies"}),
        ("losses", {"config", "labels", "losses"}),
        (
            "report",
            {
                *("errors", "files", "addresses", "csv_cells", "yaml_files"),
                *("labels", "graph", "partition"),
                *("data", "training", "evaluation"),
            },
        ),
        ("cli", {"addresses", "arguments", "errors", "files", "verbs"}),
    ],
)
def test_some_layers_know_little(layer: str, others: set[str]) -> None:
    for path in MODULES:
        if layer_of(path) == layer:
            assert imported_layers(path.read_text(encoding="utf-8")) <= others | {layer}


def test_training_never_asks_how_predictions_are_scored() -> None:
    for path in MODULES:
        if layer_of(path) == "training":
            assert "evaluation" not in imported_layers(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_are_short_and_their_names_say_something(path: Path) -> None:
    parts = path.relative_to(SOURCES).with_suffix("").parts
    assert not {part.strip("_") for part in parts} & NAMES_THAT_SAY_NOTHING
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
