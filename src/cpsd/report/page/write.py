"""Write the report page of a run or of a comparison; only files of its folder are read."""

from pathlib import Path
from typing import Any

from cpsd.errors import RunError
from cpsd.files import plain_damage, write_text
from cpsd.report.page.comparison import (
    comparison_context,
    comparison_labels,
    comparison_partitions,
)
from cpsd.report.page.curves import gather_curves
from cpsd.report.page.findings import findings_context, reliability_data, threshold_data
from cpsd.report.page.gallery import gallery
from cpsd.report.page.page_data import curve_data, graph_data, label_data, training_data
from cpsd.report.page.partition_view import partition_views
from cpsd.report.page.render import render
from cpsd.report.page.results import split_results
from cpsd.report.page.run_files import RunFiles
from cpsd.report.page.training import histories

REPORT_FILE = "report.html"
_REMEDY = "Start the command that made it again, with --redo where it is finished."


def write_report(run: Path) -> Path:
    """Write ``report.html`` into a run directory, whole, and return where it lies.

    What the run does not have yet (stages to come, findings, a gallery) is left out with a sentence
    that says how to get it.

    Args:
        run: the run directory.

    Raises:
        RunError: ``run`` is no run directory, or a file of it is damaged.
        PartitionError: its label graph is damaged.
    """
    if not (run / "manifest.json").is_file() or not (run / "labels.json").is_file():
        raise RunError(
            f"{run} has no run to report on: manifest.json and labels.json are missing. Start the "
            "run first (cpsd run)."
        )
    path = run / REPORT_FILE
    with plain_damage(run, _REMEDY):
        page = render("run.html.j2", *_contents(RunFiles(run)))
    write_text(path, page)
    return path


def _contents(files: RunFiles) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the template of a run reads, and what its scripts read."""
    boards = files.boards()
    views = partition_views(files)
    curves = gather_curves(files, boards)
    members = histories(files)
    labels = files.json("labels.json")
    if not isinstance(labels.value, list):
        raise RunError(
            f"{files.path('labels.json')} is damaged: it is no list of labels. Start the run "
            "again to have it written anew."
        )
    manifest = files.json_object("manifest.json")
    found = findings_context(files)
    context = {
        "title": _title(files.folder.resolve()),
        "manifest": manifest,
        "versions": manifest.at("versions", "cpsd"),
        "config": files.yaml("config.yaml"),
        "config_text": _text(files.path("config.yaml")),
        "labels": labels,
        "boards": boards,
        "splits": split_results(files, boards),
        "partitions": views,
        "curves": curves,
        "members": members,
        "gallery": gallery(files),
        **found,
    }
    data = {
        "label-data": label_data(boards, views, curves.sets, list(labels.value)),
        "curve-data": curve_data(files, curves.sets),
        "training-data": training_data(members),
        "graph-data": graph_data(views) if views else None,
        "reliability-data": reliability_data(found["findings"]["calibration"]),
        "threshold-data": threshold_data(found["findings"]["thresholds"]),
    }
    return context, data


def write_comparison_report(folder: Path) -> Path:
    """Write ``report.html`` into the folder of a comparison, whole, and return where it lies.

    Args:
        folder: with ``compare.json``.

    Raises:
        RunError: there is no ``compare.json``, or it is damaged.
    """
    files = RunFiles(folder)
    path = folder / REPORT_FILE
    with plain_damage(folder, _REMEDY):
        data = {"label-data": comparison_labels(files), "graph-data": comparison_partitions(files)}
        page = render("comparison.html.j2", comparison_context(files), data)
    write_text(path, page)
    return path


def _title(run: Path) -> str:
    """Return the name of a run's folder; of one that is named by its seed alone, with its arm's."""
    return f"{run.parent.name}/{run.name}" if run.name.isdecimal() else run.name


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
