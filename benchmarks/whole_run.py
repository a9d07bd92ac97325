"""The whole fast run against plain training, by operations and by the clock.

MobileNetV2 on pictures of MirFlickr's size with its 24 labels, five parts, both strategies. One
epoch of plain training, of a strategy's teachers and of the student, and one stored view are timed
in turn, without what a stage does once (making networks, saving them); a run is made up of these
as ``cpsd run --fast`` has it. The photographs are used where they lie beside the checkout, and
noise of the same size where not: neither changes what a step takes.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
from harness import Row, alternate
from PIL import Image
from torch import nn

from cpsd import method
from cpsd.computing import device_of
from cpsd.config import DataConfig, ImageConfig, PartitionConfig, RunConfig, TrainingConfig
from cpsd.config_yaml import as_yaml
from cpsd.cost import Cost
from cpsd.data.records import TRAIN, VALIDATION, Records
from cpsd.data.sources import load_records
from cpsd.evaluation.scoreboard import BASELINE
from cpsd.execution import LocalExecutor, RunWork, needed
from cpsd.fast import fast
from cpsd.inference_cost import inference_cost
from cpsd.labels import LabelSpace
from cpsd.machine_config import MachineConfig
from cpsd.method import student_config, teacher_config
from cpsd.model_config import ModelConfig
from cpsd.models.ensemble import MeanPredictor, TeacherEnsemble
from cpsd.models.trunk import join_trunks
from cpsd.pipeline import START, Pipeline
from cpsd.run import RunDirectory
from cpsd.run_models import TEACHERS_START, RunModels
from cpsd.training.soft_label_writing import write_soft_labels
from cpsd.training.soft_labels import SoftLabelStore

EPOCHS = 24
"""Of plain training and of the student."""
NUM_LABELS = 24
SIZE = 96
"""Pixels a side, of MirFlickr's pictures and of training."""
MIRFLICKR = Path(__file__).resolve().parents[2] / "shared" / "data" / "mirflickr" / "labels.csv"
TEACHERS, SOFT_LABELS, STUDENT = "teachers", "soft labels", "student"


def measure(*, smoke: bool) -> list[Row]:
    """Return what a whole fast run takes, in plain trainings."""
    num_pictures = 12 if smoke else 160
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = _records(folder / "pictures", num_pictures)
        config = _fast_form(_plain(16 if smoke else SIZE, parts=2 if smoke else 5))
        pieces = _Pieces(config, records, folder / "run")
        alternate(pieces.arms(), rounds=1 if smoke else 2, warm_up=0 if smoke else 1)
        seconds = stages(config, {name: median(all_) for name, all_ in pieces.seconds.items()})
        operations = stages(config, pieces.operations)
    return _rows(seconds, operations, config)


def _rows(
    seconds: Mapping[str, float], operations: Mapping[str, float], config: RunConfig
) -> list[Row]:
    of = f"MobileNetV2, {config.image.size} px, {config.partition.parts} parts, {EPOCHS} epochs"
    by_operations = {name: value / operations[BASELINE] for name, value in operations.items()}
    by_the_clock = {name: value / seconds[BASELINE] for name, value in seconds.items()}
    whole, clock = sum(by_operations.values()), sum(by_the_clock.values())
    return [
        Row(
            f"whole fast run / plain training, by operations ({of})",
            whole,
            "x",
            must="<= 3.0",
            bound="baseline and student: 2 x",
            of_bound=2 / whole,
        ),
        Row(
            "the same by the clock",
            clock,
            "x",
            must="<= 3.5",
            bound=f"operations: {whole:.2f} x",
            of_bound=whole / clock,
        ),
        *(
            Row(
                f"of that {name}, by the clock",
                by_the_clock[name],
                "x",
                bound=f"operations: {by_operations[name]:.2f} x",
                of_bound=by_operations[name] / by_the_clock[name],
            )
            for name in (TEACHERS, SOFT_LABELS, STUDENT)
        ),
    ]


def stages(config: RunConfig, pieces: Mapping[str, float]) -> dict[str, float]:
    """Return what the stages of a whole fast run take.

    Args:
        config: of the run.
        pieces: what an epoch of each training takes (of one strategy's teachers), and a view.
    """
    epochs, views = config.teachers.epochs, config.distillation.views
    assert epochs is not None, "the fast form says it"
    assert views is not None, "the fast form says it"
    counts = {
        BASELINE: config.training.epochs,
        TEACHERS: epochs * len(config.partition.strategies),
        SOFT_LABELS: views,
        STUDENT: student_config(config).training.epochs,
    }
    return {name: count * pieces[name] for name, count in counts.items()}


class _Pieces:
    """What a run is made of, one epoch or one view at a time.

    Args:
        config: of the fast run.
        records: the pictures.
        folder: for the run that the pieces need.

    Attributes:
        seconds: of each piece, one a round.
        operations: of each piece.
    """

    def __init__(self, config: RunConfig, records: Records, folder: Path) -> None:
        self.config = replace(
            config,
            training=replace(config.training, epochs=1),
            teachers=replace(config.teachers, epochs=1),
            distillation=replace(config.distillation, views=1),
        )
        self.records = records
        self.seconds: dict[str, list[float]] = {}
        self.operations: dict[str, float] = {}
        to_do = Pipeline(self.config, records, folder).stages()
        strategies = config.partition.strategies
        wanted = needed(to_do, START, *(f"partitions/{strategy}" for strategy in strategies))
        work = RunWork(
            to_do,
            RunDirectory(folder),
            wanted=wanted,
            redo=False,
            config=as_yaml(self.config),
            facts={},
            announce=lambda stage, state: None,
        )
        LocalExecutor().begin(work)
        LocalExecutor().finish(work)
        self._models = RunModels(self.config, records, folder)
        ensembles = {strategy: self._teachers(strategy) for strategy in strategies}
        baseline = self._models.predictor(TEACHERS_START)
        teachers = [teacher for ensemble in ensembles.values() for teacher in ensemble.teachers]
        join_trunks([*teachers, baseline])
        self._teaching: dict[str, nn.Module] = {**ensembles, BASELINE: baseline}
        self._store = folder / "views"

    def arms(self) -> dict[str, Callable[[], None]]:
        """Return the pieces to time; a student needs the view that was stored before."""
        self._soft_labels()
        return {
            BASELINE: self._baseline,
            TEACHERS: self._one_strategy,
            SOFT_LABELS: self._soft_labels,
            STUDENT: self._student,
        }

    def _note(self, piece: str, cost: Cost) -> None:
        assert cost.flops is not None, cost.not_counted
        self.seconds.setdefault(piece, []).append(cost.seconds)
        self.operations[piece] = float(cost.flops)

    def _teachers(self, strategy: str) -> TeacherEnsemble:
        partition = self._models.partition(strategy)
        return TeacherEnsemble(partition, self._models.untrained_teachers(strategy))

    def _baseline(self) -> None:
        network = self._models.new_model(self.config.seed)(self.records.labels)
        self._note(BASELINE, method.fit(network, self.records, self.config).cost)

    def _one_strategy(self) -> None:
        ensemble = self._teachers(self.config.partition.strategies[0])
        fitted = method.fit(ensemble, self.records, teacher_config(self.config))
        self._note(TEACHERS, fitted.cost)

    def _soft_labels(self) -> None:
        rows = self.records.indices(TRAIN).tolist()
        for path in self._store.glob("*"):
            path.unlink()
        begun = time.monotonic()
        write_soft_labels(
            self._store,
            self._teaching,
            self.records,
            rows,
            image=self.config.image,
            num_views=1,
            seed=self.config.seed,
            machine=self.config.machine,
            device=device_of(self.config),
        )
        seconds = time.monotonic() - begun
        together = MeanPredictor([*self._teaching.values()])
        cost = inference_cost(together, self.config, len(rows))
        self._note(SOFT_LABELS, replace(cost, seconds=seconds))

    def _student(self) -> None:
        network, _ = self._models.untrained_student()
        store, config = SoftLabelStore(self._store), student_config(self.config)
        self._note(STUDENT, method.distill(network, store, self.records, config).cost)


def _fast_form(config: RunConfig) -> RunConfig:
    """Return the fast form of pretrained networks, without the weights: they change no time."""
    form = fast(replace(config, model=replace(config.model, weights="timm")))
    return replace(form, model=config.model)


def _plain(size: int, *, parts: int) -> RunConfig:
    return RunConfig(
        image=ImageConfig(size=size, randaugment=False, cutout=0.25, horizontal_flip=True),
        model=ModelConfig(
            backbone="mobilenetv2_100",
            weights="none",
            normalization="symmetric",
            freeze_batch_norm=True,
        ),
        partition=PartitionConfig(parts=parts, min_labels=1, starts=2),
        training=TrainingConfig(epochs=EPOCHS, ema_decay=0.99),
        machine=MachineConfig(accelerator="cpu"),
    )


def _records(folder: Path, num_pictures: int) -> Records:
    """Return training pictures and a tenth as many for validation."""
    if MIRFLICKR.is_file():
        data = DataConfig(table=str(MIRFLICKR), test_split="val")
        records, _ = load_records(data, seed=0)
        rows = {
            split: records.indices(split)[:number]
            for split, number in ((TRAIN, num_pictures), (VALIDATION, num_pictures // 10 or 2))
        }
        return records.select(np.sort(np.concatenate([*rows.values()])))
    folder.mkdir()
    generator, num_validation = np.random.default_rng(0), num_pictures // 10 or 2
    names = [f"{number}.jpg" for number in range(num_pictures + num_validation)]
    for name in names:
        coarse = generator.integers(0, 256, size=(12, 12, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(folder / name)
    return Records(
        paths=tuple(names),
        targets=generator.integers(0, 2, size=(len(names), NUM_LABELS)).astype(np.int8),
        labels=LabelSpace(tuple(f"label {number}" for number in range(NUM_LABELS))),
        splits=(TRAIN,) * num_pictures + (VALIDATION,) * num_validation,
        root=folder,
        origins=tuple(names),
    )
