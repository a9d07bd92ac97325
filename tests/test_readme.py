"""The README's commands and its example run as they stand."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from torchvision.models import MobileNetV3

import cpsd
import tiny
from cpsd.arguments import parse, run_config
from cpsd.cli import main
from cpsd.parsers import recipe_names

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands(language: str = "console") -> list[list[str]]:
    """Return the README's cpsd commands, split as a shell splits them, comments left out."""
    lines = [line for block in blocks(language) for line in block.splitlines()]
    split = [shlex.split(line, comments=True) for line in lines]
    return [words for words in split if words and words[0] == "cpsd"]


@pytest.fixture
def photos(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the README's commands find what they name."""
    shutil.copytree(digits.parent, tmp_path / "photos")  # a link would lead out of the data root
    (tmp_path / "folder").symlink_to(digits.parent / "images")
    (tmp_path / "other.csv").write_text(digits.read_text().replace("images/", "photos/images/"))
    picture = next((digits.parent / "images").glob("*.jpg"))
    (tmp_path / "photo.jpg").symlink_to(picture)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readmes_commands_run(
    photos: Path, quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(commands()) == 7
    for _, *words in commands():
        # The README's run is for a night; here it is a small network for two epochs.
        settings = quick[1:-1] if words[0] in ("run", "compare") else []
        if words[0] == "compare":
            settings += ["--arms", "", "--resamples", "20", "--teacher-seeds", "1"]
        loads = ["--machine.workers", "0"] if words[0] in ("evaluate", "predict") else []
        code = main([*words, *settings, *loads])
        assert code == 0, capsys.readouterr()
    assert (photos / "runs/mine/student/model.safetensors").is_file()


def test_the_readmes_commands_on_published_files_parse() -> None:
    verbs = [parse(words)[0] for _, *words in commands("shell")]
    assert verbs == ["import", "import", "evaluate"]


def test_the_readmes_example_runs(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks("python")
    quick = tiny.settings()

    def small(data: cpsd.DataConfig) -> cpsd.RunConfig:
        return cpsd.RunConfig(
            data=data, image=quick.image, training=quick.training, machine=quick.machine
        )

    # Every line runs as it stands, but on the tests' quick settings: the defaults take hours.
    names: dict[str, object] = {"small": small}
    exec(example.replace("cpsd.RunConfig(", "small("), names)
    assert isinstance(names["student"], MobileNetV3)
    assert 0 < float(capsys.readouterr().out) <= 1


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_read_and_begins_with_its_command(name: str) -> None:
    text = (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    assert re.match(r"# (make|cpsd run) ", text)
    _, arguments = parse(["run", "--config", name])
    config = run_config(arguments)
    for section, settings in yaml.safe_load(text).items():
        for key, value in settings.items():
            assert getattr(getattr(config, section), key) == value, (section, key)


def test_recipes_are_found_by_their_path_in_the_checkout() -> None:
    path = ROOT / "recipes" / "coco-resnet101.yaml"
    _, arguments = parse(["run", "--config", str(path), "--data.root", "coco"])
    assert run_config(arguments).data.root == "coco"
    assert run_config(arguments).model.backbone == "resnet101.tv_in1k"


def test_public_names_are_what_they_say() -> None:
    assert cpsd.__all__ == sorted(cpsd.__all__)
    for name in cpsd.__all__:
        assert getattr(cpsd, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cpsd.nothing  # noqa: B018
    assert sys.modules["cpsd"] is cpsd
