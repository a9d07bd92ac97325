import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cpsd.data.boxes import read_boxes
from cpsd.data.images import read_image
from cpsd.data.records import Records
from cpsd.errors import ConfigError, DataError, RunError, UserError
from cpsd.evaluation.prediction_files import read_predictions
from cpsd.evaluation.thresholds import Criterion, LabelThreshold, Thresholds
from cpsd.explain.maps import record_maps
from cpsd.explain.overlay import fitted, overlay
from cpsd.explain.panel import PanelColumn, PanelLayout, PanelRow, panel_layout
from cpsd.explain.picture import explain_picture, heading
from cpsd.machine_config import MachineConfig
from cpsd.run_predictions import predictions_file
from cpsd.trained import load_trained, pictures_as_records

MACHINE = MachineConfig(accelerator="cpu")
NAMES = ("baseline", "teachers/co-occurrence", "teachers/dis-occurrence", "student")
ROW = 3  # of the test pictures
FILL = (0x3B, 0x6E, 0xA8)


@pytest.fixture
def picture(digits: Path) -> Path:
    return digits.parent / "images" / f"test-{ROW:05d}.jpg"


def layout_of(picture: Path, labels: list[str], num_columns: int) -> PanelLayout:
    one = PanelColumn("x", np.zeros(1), np.zeros((1, 1, 1), dtype=np.float32))
    rows = [PanelRow(label) for label in labels]
    return panel_layout(read_image(picture), rows, [one] * num_columns, "note")


def cell(panel: Image.Image, layout: PanelLayout, row: int, column: int) -> Image.Image:
    left, top = layout.corner(row, column)
    width, height = layout.cell
    return panel.crop((left, top, left + width, top + height))


def bar(panel: Image.Image, layout: PanelLayout, row: int, column: int) -> float:
    """Return the probability that the bar below a cell shows."""
    left, top = layout.corner(row, column)
    line = np.asarray(panel)[top + layout.cell[1] + 14, left : left + layout.cell[0] - 56]
    return float((line == FILL).all(axis=1).mean())


def test_the_panel_shows_what_each_predictor_of_the_run_says(
    finished: Path, picture: Path, tmp_path: Path
) -> None:
    labels = ["red 0", "blue 3"]
    out = tmp_path / "panel.png"
    assert explain_picture(finished, picture, labels=labels, out=out, machine=MACHINE) == out
    with Image.open(out) as opened:
        assert opened.format == "PNG"
        panel = opened.convert("RGB")
    layout = layout_of(picture, labels, 4)
    assert panel.width == layout.width
    shown = fitted(read_image(picture), 240)
    for c, name in enumerate(NAMES, start=1):
        trained = load_trained(finished, name)
        records = pictures_as_records([picture], trained.labels)
        columns = trained.labels.indices(labels).tolist()
        config = trained.config(MACHINE)
        maps = record_maps(trained.predictor, records, [(0, col) for col in columns], config)
        file = predictions_file(finished, name, "test")
        stored = read_predictions(file).logits[ROW, columns]
        for r in range(2):
            if maps[r].any():
                found = np.asarray(cell(panel, layout, r, c)).astype(int)
                assert np.abs(found - np.asarray(overlay(shown, maps[r]))).max() <= 1
            probability = 1 / (1 + np.exp(-float(stored[r])))
            assert bar(panel, layout, r, c) == pytest.approx(probability, abs=0.01)


def test_a_picture_of_the_runs_data_has_its_place_framed(
    finished: Path, picture: Path, digits: Path, tmp_path: Path
) -> None:
    labels = load_trained(finished, "student").labels
    stored = read_predictions(predictions_file(finished, "student", "test"))
    path, targets = stored.images[ROW], stored.targets[ROW]
    records = Records((path,), targets[None], labels, ("test",), digits.parent, ("row",))
    name = labels.names[int(np.flatnonzero(targets == 1)[0])]
    box = read_boxes(records)[path, name][0].as_shares(48, 48)
    elsewhere = tmp_path / picture.name
    shutil.copy(picture, elsewhere)
    layout = layout_of(picture, [name], 4)
    cells: list[NDArray[np.int64]] = []
    for place in (picture, elsewhere):  # of a copy nothing is known
        out = tmp_path / f"{place.parent.name}-{len(cells)}.png"
        explain_picture(finished, place, labels=[name], out=out, machine=MACHINE)
        cells.append(np.asarray(cell(Image.open(out), layout, 0, 0)).astype(np.int64))
    plain = np.asarray(fitted(read_image(picture), 240))
    np.testing.assert_array_equal(cells[1], plain)
    rows, columns = np.nonzero((cells[0] != plain).any(axis=2))
    corners = [columns.min(), rows.min(), columns.max(), rows.max()]
    np.testing.assert_allclose(corners, np.array(box) * 240, atol=5)


def test_without_labels_those_that_are_predicted_are_shown(
    finished: Path, picture: Path, tmp_path: Path
) -> None:
    probabilities = np.zeros(20)
    for name in ("baseline", "student"):
        stored = read_predictions(predictions_file(finished, name, "test"))
        probabilities = np.maximum(probabilities, 1 / (1 + np.exp(-stored.logits[ROW])))
        labels = stored.labels
    order = np.argsort(-probabilities)
    number = min(int((probabilities >= 0.5).sum()), 8) or 3
    wanted = [labels.names[c] for c in order[:number]]
    paths = [tmp_path / "chosen.png", tmp_path / "named.png"]
    explain_picture(finished, picture, out=paths[0], machine=MACHINE)
    explain_picture(finished, picture, labels=wanted, out=paths[1], machine=MACHINE)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_labels_are_predicted_by_thresholds_of_their_own_where_a_model_keeps_them(
    finished: Path, picture: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    labels = load_trained(run).labels
    never, always = (LabelThreshold(value, 1, 1.0, 1.0, 1.0) for value in (1 - 1e-9, 1e-9))
    by_label = {name: always if name == labels.names[7] else never for name in labels}
    chosen = Thresholds(Criterion.from_text("f1"), 0.5, by_label, (), ())
    for name in ("baseline", "student"):
        (run / name / "thresholds.json").write_text(json.dumps(chosen.to_json()))
    paths = [tmp_path / f"{name}.png" for name in ("chosen", "named", "of-the-run")]
    explain_picture(run, picture, out=paths[0], machine=MACHINE)
    explain_picture(run, picture, labels=[labels.names[7]], out=paths[1], machine=MACHINE)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    explain_picture(finished, picture, labels=[labels.names[7]], out=paths[2], machine=MACHINE)
    assert paths[2].read_bytes() != paths[1].read_bytes(), "the footer tells of the thresholds"


def test_a_model_folder_is_explained_alone_and_a_label_once(
    finished: Path, picture: Path, tmp_path: Path
) -> None:
    out = tmp_path / "panel.png"
    explain_picture(
        finished / "student", picture, labels=["red 0", "red 0"], out=out, machine=MACHINE
    )
    with Image.open(out) as panel:
        assert panel.width == layout_of(picture, ["red 0"], 1).width
        assert panel.height < 700


def test_the_panel_is_named_after_the_picture(
    finished: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = explain_picture(finished / "student", picture, labels=["red 0"], machine=MACHINE)
    assert found == Path(f"test-{ROW:05d}-explained.png")
    assert (tmp_path / found).is_file()


def test_nothing_is_overwritten(finished: Path, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "panel.png"
    out.write_bytes(b"precious")
    with pytest.raises(RunError, match=r"panel\.png is there already; name another file"):
        explain_picture(finished, picture, labels=["red 0"], out=out, machine=MACHINE)
    assert out.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"labels": ["rad 0"]}, DataError, "'rad 0' is not among .* Did you mean 'red 0'"),
        ({"picture": Path("none.jpg")}, DataError, r"There is no picture none\.jpg"),
        ({"picture": Path(__file__)}, DataError, r"test_picture\.py is no picture"),
        ({"run": Path(__file__).parent}, RunError, "neither a run directory nor the folder"),
        ({"out": Path("panel.jpg")}, ConfigError, "is no PNG file"),
        ({"labels": [str(i) for i in range(41)]}, ConfigError, "at most 40 labels, not 41"),
    ],
)
def test_faults_are_told(
    arguments: dict[str, object],
    kind: type[UserError],
    message: str,
    finished: Path,
    picture: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "panel.png"
    whole = {"run": finished, "picture": picture, "out": out, "machine": MACHINE, **arguments}
    with pytest.raises(kind, match=message):
        explain_picture(**whole)  # type: ignore[arg-type]
    assert not out.exists()


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("student", "has no student yet"),
        ("baseline", "has no baseline yet"),
        ("teachers/dis-occurrence", "has no dis-occurrence teachers yet"),
    ],
)
def test_an_unfinished_run_is_told(
    missing: str, said: str, finished: Path, picture: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    skipped = shutil.ignore_patterns("soft_labels", "predictions", ".stages")
    shutil.copytree(finished, run, ignore=skipped)
    shutil.rmtree(run / missing)
    with pytest.raises(RunError, match=f"{said}: finish it with cpsd run"):
        explain_picture(run, picture, out=tmp_path / "panel.png", machine=MACHINE)


def test_headings() -> None:
    assert [heading(name) for name in ("teachers", "baseline", NAMES[2])] == [
        "all teachers", "baseline", "dis-occurrence teachers"
    ]  # fmt: skip
