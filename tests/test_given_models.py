"""Models that a run is given: the same student from the same teachers, and every refusal."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from cpsd.addresses import local_place
from cpsd.cli import main
from cpsd.config import RunConfig, StudentConfig, TeachersConfig
from cpsd.errors import ModelError
from cpsd.given_models import (
    copy_teachers,
    start_digests,
    student_start,
    teacher_digests,
    teacher_partition,
    with_copies,
)
from cpsd.labels import LabelSpace
from cpsd.model_config import ModelConfig
from cpsd.models.card import CARD_FILE, ModelCard, PartCard, read_card
from cpsd.models.store import WEIGHTS_FILE, save_model
from cpsd.partition import LabelPartition

LABELS = LabelSpace(("ant", "bee", "cat", "dog", "eel"))
PARTITION = LabelPartition("random", LABELS, ((1, 4), (0, 2, 3)))


def save(folder: Path, labels: LabelSpace, part: PartCard | None = None) -> None:
    card = ModelCard(labels.names, model=asdict(ModelConfig()), image={}, part=part)
    save_model(folder, nn.Linear(2, len(labels)), card)


def with_teachers(folder: Path) -> RunConfig:
    for index in range(PARTITION.num_parts):
        part = PartCard("random", index, PARTITION.hash)
        save(folder / "random" / str(index), PARTITION.part_labels(index), part)
    return RunConfig(teachers=TeachersConfig(given=str(folder)))


def test_nothing_is_given_by_default(tmp_path: Path) -> None:
    config = RunConfig()
    assert student_start(config, LABELS) is None
    assert start_digests(config, LABELS) == []
    assert teacher_partition(config, "random", LABELS) is None
    assert teacher_digests(config, "random", LABELS) == []


def test_teachers_bring_their_partition_and_are_copied(tmp_path: Path) -> None:
    config = with_teachers(tmp_path / "given")
    partition = teacher_partition(config, "random", LABELS)
    assert partition is not None
    assert partition.hash == PARTITION.hash
    copy_teachers(config, partition, tmp_path / "run")
    for index in range(2):
        for name in (CARD_FILE, WEIGHTS_FILE):
            source = tmp_path / "given" / "random" / str(index) / name
            copied = tmp_path / "run" / str(index) / name
            assert copied.read_bytes() == source.read_bytes()


def test_digests_change_with_card_and_weights(tmp_path: Path) -> None:
    config = with_teachers(tmp_path)
    before = teacher_digests(config, "random", LABELS)
    assert len(set(before)) == len(before) == 4
    weights = tmp_path / "random" / "1" / WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes() + b"\0")
    after = teacher_digests(config, "random", LABELS)
    assert [a == b for a, b in zip(before, after, strict=True)].count(False) == 1
    start = RunConfig(student=StudentConfig(start=str(tmp_path / "student")))
    save(tmp_path / "student", LABELS)
    digests = start_digests(start, LABELS)
    save(tmp_path / "student", LABELS)  # other weights
    assert [a == b for a, b in zip(digests, start_digests(start, LABELS), strict=True)] == [
        True,
        False,
    ]


def test_a_predictor_over_all_labels_is_the_teacher_of_the_whole(tmp_path: Path) -> None:
    save(tmp_path / "whole" / "0", LABELS)
    config = RunConfig(teachers=TeachersConfig(given=str(tmp_path)))
    partition = teacher_partition(config, "whole", LABELS)
    assert partition == LabelPartition.whole(LABELS)
    other = LabelSpace(LABELS.names[::-1])
    with pytest.raises(ModelError, match=r"not a sub-task teacher.*data\.label_list"):
        teacher_partition(config, "whole", other)


def test_a_predictor_over_all_labels_is_no_teacher_of_a_part(tmp_path: Path) -> None:
    config = with_teachers(tmp_path)
    shutil.rmtree(tmp_path / "random" / "0")
    save(tmp_path / "random" / "0", LABELS)
    with pytest.raises(ModelError, match="has 'bee', 'eel' in no part"):
        teacher_partition(config, "random", LABELS)


def test_teachers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    config = with_teachers(tmp_path / "given")
    with pytest.raises(ModelError, match=r"no sub-task teacher in .*co-occurrence.*'whole'"):
        teacher_partition(config, "co-occurrence", LABELS)
    other = LabelSpace(LABELS.names[::-1])
    with pytest.raises(ModelError, match=r"another random partition.*data\.label_list"):
        teacher_partition(config, "random", other)
    more = LabelSpace((*LABELS.names, "fox"))
    with pytest.raises(ModelError, match="has 'fox' in no part"):
        teacher_partition(config, "random", more)
    fewer = LabelSpace(LABELS.names[:4])
    with pytest.raises(ModelError, match="label 'eel' is not among the 4 labels"):
        teacher_partition(config, "random", fewer)
    (tmp_path / "given" / "random" / "1" / CARD_FILE).unlink()
    with pytest.raises(ModelError, match="'ant', 'cat', 'dog' in no part"):
        teacher_partition(config, "random", LABELS)


def test_a_start_over_other_labels_is_refused(tmp_path: Path) -> None:
    config = RunConfig(student=StudentConfig(start=str(tmp_path / "model")))
    with pytest.raises(ModelError, match="no finished model"):
        student_start(config, LABELS)
    save(tmp_path / "model", LABELS)
    assert student_start(config, LABELS) == tmp_path / "model"
    other = LabelSpace(LABELS.names[::-1])
    with pytest.raises(ModelError, match=r"5 labels \(ant, bee, cat, \.\.\.\), the data have 5"):
        student_start(config, other)


def test_a_students_start_is_looked_at_before_anything_is_trained(
    tmp_path: Path, quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "model", LABELS)
    arguments = [*quick, str(tmp_path / "run"), "--student.start", str(tmp_path / "model")]
    assert main(["distill", *arguments]) == 2
    assert "student.start: the model in" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run" / "baseline").exists()


def test_given_the_teachers_of_another_run_the_student_is_the_same_to_the_byte(
    finished: Path, quick: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert main(["distill", *quick, str(out), "--teachers.given", str(finished / "teachers")]) == 0
    student = Path("student") / WEIGHTS_FILE
    assert (out / student).read_bytes() == (finished / student).read_bytes()
    for strategy in ("co-occurrence", "dis-occurrence"):
        parts = [
            json.loads((run / "partitions" / f"{strategy}.json").read_text())["parts"]
            for run in (finished, out)
        ]
        assert parts[0] == parts[1]
    stages = json.loads((out / "manifest.json").read_text())["stages"]
    assert stages["teachers/co-occurrence"]["cost"]["images_backward"] == 0
    assert stages["baseline"]["cost"]["images_backward"] > 0


def test_the_student_keeps_the_network_that_it_started_from(
    finished: Path, quick: list[str], tmp_path: Path
) -> None:
    start = tmp_path / "start"
    shutil.copytree(finished / "student", start)
    given = ["--teachers.given", str(tmp_path / "given"), "--partition.strategies", "[whole]"]
    shutil.copytree(finished / "baseline", tmp_path / "given" / "whole" / "0")
    network = ["--student.start", str(start), "--model.backbone", "resnet10t"]
    out = tmp_path / "run"
    assert main(["run", *quick, str(out), *given, *network]) == 0
    assert read_card(out / "baseline").model["backbone"] == "resnet10t"
    assert read_card(out / "student").model == read_card(start).model
    board = json.loads((out / "evaluation/test.json").read_text())["predictors"]
    before = json.loads((finished / "evaluation/test.json").read_text())["predictors"]
    assert board["teachers/whole"]["mAP"] == pytest.approx(before["baseline"]["mAP"], abs=1e-9)


def test_models_at_addresses_are_those_here(s3: Any, tmp_path: Path) -> None:
    config = replace(
        with_teachers(tmp_path / "given"), student=StudentConfig(start=str(tmp_path / "start"))
    )
    save(tmp_path / "start", LABELS)
    for name in ("given", "start"):
        s3.put(str(tmp_path / name), f"pictures/models/{name}", recursive=True)
    there = replace(
        config,
        teachers=TeachersConfig(given="s3://pictures/models/given"),
        student=StudentConfig(start="s3://pictures/models/start"),
    )
    assert with_copies(config) == config
    here = with_copies(there)
    assert start_digests(here, LABELS) == start_digests(config, LABELS)
    assert teacher_digests(here, "random", LABELS) == teacher_digests(config, "random", LABELS)
    # What has changed there is fetched again.
    save(tmp_path / "start", LABELS)
    (tmp_path / "start" / CARD_FILE).write_text("{}")
    s3.put(str(tmp_path / "start" / CARD_FILE), f"pictures/models/start/{CARD_FILE}")
    with_copies(there)
    assert (local_place("s3://pictures/models/start") / CARD_FILE).read_text() == "{}"


def test_a_model_that_is_not_at_its_address_is_named(
    s3: Any, quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--student.start", "--teachers.given"):
        asked = ["run", *quick, str(tmp_path / "run"), option, "s3://pictures/none", "--dry-run"]
        assert main(asked) == 2
        assert "There is nothing at s3://pictures/none" in capsys.readouterr().err
