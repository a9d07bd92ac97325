"""Files that are whole, and say what cannot be. Most were found by fuzzing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cpsd.array_files import read_npz
from cpsd.attempts import attempt
from cpsd.errors import ModelError, PartitionError, RunError, UserError
from cpsd.evaluation.prediction_files import read_predictions
from cpsd.graph import LabelGraph
from cpsd.models.weights import read_weights
from cpsd.report.page import write_report
from hostile_data import LABELS
from hostile_guard import fenced
from hostile_layers import lay
from hostile_readers import targets
from hostile_runs import saved

DAMAGED: tuple[tuple[str, object], ...] = (
    ("soft/manifest.json", {"labels": 3}),
    ("soft/manifest.json", {"strategies": [["a"]]}),
    ("soft/manifest.json", {"chunk_size": 0}),
    ("soft/manifest.json", {"image": 7}),
    ("pack/manifest.json", [[1, 2, 3]]),
    ("pack/manifest.json", {"size": 10**400}),
    ("thresholds", {"default": 10**400}),
    ("temperatures", {"temperature": {"ant": 10**400}}),
    ("run shown, manifest.json", {"stages": {"student": {"cost": {"seconds": "x"}}}}),
    ("run shown, evaluation/test.json", {"predictors": {"baseline": 3}}),
    ("report of explanations/gallery.json", {"entries": [3]}),
)


@pytest.mark.parametrize(("name", "change"), DAMAGED)
def test_damaged_values_are_told(name: str, change: object, tmp_path: Path) -> None:
    target = next(target for target in targets() if target.name == name)
    target.prepare(tmp_path)
    content = json.loads(target.seeds[0])
    changed = content | change if isinstance(change, dict) else change
    (tmp_path / target.file).write_text(json.dumps(changed))
    assert isinstance(fenced(tmp_path, lambda: target.read(tmp_path)), UserError)


@pytest.mark.parametrize(
    ("place", "bytes_there", "told"),
    [
        (b"PK\x01\x02", {6: 128}, "zip file version 12.8"),
        (b"PK\x06\x07", {6: 126}, "span multiple disks"),
    ],
)
def test_archives_that_zipfile_does_not_know_are_refused(
    tmp_path: Path, place: bytes, bytes_there: dict[int, int], told: str
) -> None:
    content = bytearray(saved({"a.weight": torch.zeros(2)}))
    at = content.rindex(place)
    for offset, value in bytes_there.items():
        content[at + offset] = value
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=told):
        read_weights(path)


def test_damaged_footers_of_predictions_leave_as_many_pictures_as_rows(tmp_path: Path) -> None:
    content = next(target for target in targets() if target.name == "predictions").seeds[0]
    path, refused = tmp_path / "p.parquet", 0
    for at in range(len(content) - 1700, len(content)):
        path.write_bytes(content[:at] + b"%" + content[at + 1 :])
        try:
            found = read_predictions(path)
        except RunError:
            refused += 1
        else:
            assert len(found.images) == len(found.logits)
    assert refused > 100


@pytest.mark.parametrize("seconds", ["null", "NaN", "1e999", "9" * 400, "true"])
def test_attempts_that_took_no_number_of_seconds_are_not_counted(
    tmp_path: Path, seconds: str
) -> None:
    rest = '"peak_memory": 3, "peak_gpu_memory": null, "begun": null'
    (tmp_path / "attempts.json").write_text(f'{{"seconds": {seconds}, {rest}}}')
    with attempt(tmp_path):
        pass
    assert 0 <= json.loads((tmp_path / "attempts.json").read_text())["seconds"] < 60


def test_a_predictor_whose_name_no_file_can_have_leaves_the_report_without_its_curves(
    tmp_path: Path,
) -> None:
    lay("run")(tmp_path)
    scores = tmp_path / "evaluation" / "test.json"
    content = json.loads(scores.read_text())
    content["predictors"]["x" * 300] = next(iter(content["predictors"].values()))
    scores.write_text(json.dumps(content))
    assert write_report(tmp_path).is_file()


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("indices", lambda places: places + 2),
        ("indices", lambda places: places - 2),
        ("indptr", lambda ends: ends[[0, 3, 1, 2]]),
        ("indptr", lambda ends: ends * 10**6),
        ("indptr", lambda ends: ends - 1),
        ("indptr", lambda ends: np.array([0, -(2**24), 255, 0], dtype=np.int32)),
        ("data", lambda data: data[:-1]),
    ],
)
@pytest.mark.parametrize("counts", ["both", "unknown"])
def test_a_label_graph_whose_places_lead_beyond_it_is_refused(
    tmp_path: Path, counts: str, part: str, change: Callable[[Any], Any]
) -> None:
    # SciPy believes them, and the process would end with a corrupted heap.
    path = tmp_path / "label_graph.npz"
    targets_NC = np.array([[1, 1, 0], [1, -1, 1], [-1, 1, 1]], dtype=np.int8)
    LabelGraph.from_targets(targets_NC, LABELS).save(path)
    content: dict[str, Any] = read_npz(path)
    content[f"{counts}_{part}"] = change(content[f"{counts}_{part}"])
    np.savez(path, **content)
    with pytest.raises(PartitionError, match="does not hold a label graph"):
        LabelGraph.load(path)
