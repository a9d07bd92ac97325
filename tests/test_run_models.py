"""What a run does with what it finds of its own: networks that are damaged, half a gallery."""

import json
import shutil
from pathlib import Path

import pytest

from cpsd.cli import main
from cpsd.run_predictions import predictions_folder


@pytest.mark.parametrize("name", ["baseline", "teachers/dis-occurrence"])
def test_damaged_weights_of_a_finished_stage_are_named_with_the_remedy(
    finished: Path,
    quick: list[str],
    tmp_path: Path,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    place = out / name if name == "baseline" else out / name / "1"
    weights = place / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-3] + bytes([whole[-3] ^ 32]) + whole[-2:])
    shutil.rmtree(out / predictions_folder(name))  # to be made again, with the damaged network
    assert main(["run", *quick, str(out)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{weights} is damaged" in said
    assert f"Remove the folder {out / name} and start the run again" in said
    assert "Traceback" not in said
    shutil.rmtree(out / name)
    assert main(["run", *quick, str(out)]) == 0
    assert weights.read_bytes() == whole


def test_explanations_that_were_killed_half_way_are_made_anew(
    finished: Path, quick: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    fingerprint = json.loads((out / ".stages" / "explanations.json").read_text())["fingerprint"]
    (out / ".stages" / "explanations.json").unlink()
    begun = out / ".partial" / "explanations"
    begun.mkdir(parents=True)
    (begun / "fingerprint").write_text(fingerprint)
    (out / "explanations").rename(begun / "explanations")
    (begun / "explanations" / "half.png").touch()
    assert main(["run", *quick, str(out)]) == 0
    names = [
        sorted(str(p.relative_to(run)) for p in (run / "explanations").rglob("*"))
        for run in (finished, out)
    ]
    assert names[0] == names[1]
