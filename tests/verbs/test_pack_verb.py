"""`cpsd data pack`, as it is typed, and runs that name a pack."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cpsd.cli import main


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table with four pictures, two of them to train on."""
    generator = np.random.default_rng(0)
    lines = ["image,labels,split"]
    for i, split in enumerate(("train", "train", "validation", "test")):
        pixels = generator.integers(0, 256, size=(12, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,a; b,{split}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "labels.csv"


def test_pack_says_what_it_takes_and_how_it_is_used(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "pack", str(table), "--out", str(tmp_path / "pack")]
    command += ["--config", "demo", "--image.size", "16"]
    assert main(command) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "4 pictures at 16 x 16 pixels take 0.00 GB in" in said
    assert "4 pictures were packed, 0 were there." in said
    assert f"--data.pack {tmp_path / 'pack'} --image.size 16" in said
    assert main(command) == 0
    assert "0 pictures were packed, 4 were there." in " ".join(capsys.readouterr().out.split())


def test_a_run_takes_a_pack_of_its_size_and_refuses_another(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack, out = str(tmp_path / "pack"), str(tmp_path / "run")
    assert main(["data", "pack", str(table), "--out", pack, "--image.size", "16"]) == 0
    run = ["run", str(table), "--out", out, "--dry-run", "--data.pack", pack, "--image.size"]
    assert main([*run, "16"]) == 0
    capsys.readouterr()
    assert main([*run, "24"]) == 2
    refused = " ".join(capsys.readouterr().err.split())
    assert "holds pictures at 16 pixels, and image.size is 24" in refused
    # The smoke form has tiny pictures, which it decodes.
    assert main([*run, "24", "--smoke"]) == 0
