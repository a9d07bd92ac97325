"""The typed configuration of a run: few fields, nested, validated where they stand.

Defaults are the paper's where it states them (CPSD, section 4.1, and the published scripts), and
small enough for a person's own photographs where it does not. A recipe is a YAML file of these
fields; an unknown key is an error.
"""

from dataclasses import dataclass, field
from typing import Literal

from cpsd.errors import ConfigError
from cpsd.machine_config import MachineConfig, TrainerConfig
from cpsd.model_config import ModelConfig
from cpsd.strategies import CUTS, strategy_fault

DataFormat = Literal["table", "coco", "voc", "nus-wide"]


def _require(condition: bool, key: str, value: object, needed: str) -> None:
    if not condition:
        raise ConfigError(f"{key} is {value!r}; it must be {needed}.")


def _require_own_schedule(section: str, epochs: int | None, learning_rate: float | None) -> None:
    """Check what a section puts in place of the shared training settings."""
    _require(epochs is None or epochs >= 1, f"{section}.epochs", epochs, "at least 1")
    _require(
        learning_rate is None or learning_rate > 0,
        f"{section}.learning_rate",
        learning_rate,
        "greater than 0",
    )


def _require_fraction(key: str, value: float) -> None:
    _require(0 <= value < 1, key, value, "at least 0 and below 1")


@dataclass(frozen=True)
class DataConfig:
    """Where pictures and labels come from, and how they are split."""

    table: str | None = None
    """CSV or JSONL file with a row a picture (format 'table')."""
    root: str | None = None
    """Folder of the data set; for a table, the folder its picture paths are relative to."""
    format: DataFormat = "table"
    """What reads the data: table, coco, voc or nus-wide."""
    year: int | None = None
    """COCO 2014 or 2017, VOC 2007 or 2012."""
    label_list: str | None = None
    """Text file with a label a line, or coco or nuswide: fixes which labels there are and their
    order."""
    image_column: str = "image"
    """Column of the table with the picture's path."""
    labels_column: str = "labels"
    """Column with the labels by name; without it, every remaining column is a label."""
    unknown_column: str = "unknown"
    """Column with the labels of which nothing is known for this picture; '*' for all."""
    split_column: str = "split"
    """Column with the split: train, validation, test, or a further test split 'test-...'."""
    separator: str = ";"
    """What stands between two labels in one cell."""
    test_split: str | None = None
    """Name of the split to test on, as written in the data."""
    validation_fraction: float = 0.1
    """Share of the training pictures drawn for validation where the data names none."""
    test_fraction: float = 0.2
    """Share of the training pictures drawn for testing where the data names none."""
    limit: int | None = None
    """Most pictures of each split, drawn with the run's seed; by default all."""
    pack: str | None = None
    """Folder that 'cpsd data pack' has written of these data; changes no result."""
    unlabelled: str | None = None
    """Folder of further pictures without labels, used for distillation only."""
    without_positive: Literal["keep", "drop"] = "keep"
    """What becomes of pictures that have no positive label."""
    on_bad_image: Literal["fail", "skip"] = "fail"
    """What becomes of pictures that are missing or cannot be read: all are told before training
    starts, or they are left out and named in the manifest and the report."""
    outside_root: Literal["refuse", "follow"] = "refuse"
    """What becomes of pictures that absolute paths, '..' or links put outside the data root, and of
    annotation and list files that are links out of it."""
    difficult: Literal["present", "unknown", "absent"] = "unknown"
    """What an object that VOC marks 'difficult' makes of its label."""

    def __post_init__(self) -> None:
        _require_fraction("data.validation_fraction", self.validation_fraction)
        _require_fraction("data.test_fraction", self.test_fraction)
        enough = self.limit is None or self.limit >= 1
        _require(enough, "data.limit", self.limit, "at least 1")
        _require(bool(self.separator), "data.separator", self.separator, "at least one character")


@dataclass(frozen=True)
class ImageConfig:
    """How a picture becomes a tensor, and how training varies it."""

    size: int = 224
    """Pictures are squashed to size x size pixels."""
    randaugment: bool = True
    """RandAugment with torchvision's defaults."""
    cutout: float = 0.5
    """Side of the square that is painted over, as a share of the picture's; 0 for none."""
    horizontal_flip: bool = False
    """Mirror every second picture."""

    def __post_init__(self) -> None:
        _require(self.size >= 1, "image.size", self.size, "at least 1")
        _require(0 <= self.cutout <= 1, "image.cutout", self.cutout, "between 0 and 1")


@dataclass(frozen=True)
class PartitionConfig:
    """How the labels are cut into parts."""

    strategies: tuple[str, ...] = CUTS
    """One teacher ensemble each. Controls: 'random' parts of equal size, 'shuffled-co-occurrence'
    and 'shuffled-dis-occurrence' for random labels in parts as large as those of that cut, 'whole'
    for one teacher of all labels; 'whole-2' is a further one."""
    parts: int | None = None
    """Parts a partition; by default 5, or fewer where that would leave a part too small."""
    min_labels: int = 2
    """Least number of labels in a part."""
    starts: int = 16
    """Seeded starts of the normalized cut, of which the best is kept."""

    def __post_init__(self) -> None:
        _require(bool(self.strategies), "partition.strategies", self.strategies, "at least one")
        for strategy in self.strategies:
            fault = strategy_fault(strategy)
            if fault is not None:
                raise ConfigError(f"partition.strategies: {fault}")
        distinct = len(set(self.strategies)) == len(self.strategies)
        _require(distinct, "partition.strategies", self.strategies, "distinct strategies")
        _require(self.parts is None or self.parts >= 1, "partition.parts", self.parts, "at least 1")
        _require(self.min_labels >= 1, "partition.min_labels", self.min_labels, "at least 1")
        _require(self.starts >= 1, "partition.starts", self.starts, "at least 1")


@dataclass(frozen=True)
class LossConfig:
    """The loss on known targets."""

    name: Literal["asymmetric", "bce"] = "asymmetric"
    """Asymmetric loss (Ridnik et al., ICCV 2021) or binary cross-entropy."""
    gamma_neg: float = 4.0
    """Focusing exponent of absent labels."""
    gamma_pos: float = 0.0
    """Focusing exponent of present labels."""
    clip: float = 0.05
    """Probability shift of absent labels."""
    eps: float = 1e-8
    """Smallest probability inside the logarithm."""
    reduction: Literal["sum", "mean"] = "sum"
    """Over images and labels, of classification and distillation terms alike."""

    def __post_init__(self) -> None:
        for key in ("gamma_neg", "gamma_pos"):
            value = getattr(self, key)
            _require(value >= 0, f"loss.{key}", value, "at least 0")
        _require_fraction("loss.clip", self.clip)
        _require(0 < self.eps < 1, "loss.eps", self.eps, "between 0 and 1")


@dataclass(frozen=True)
class DistillationConfig:
    """How the student follows the teacher ensembles (CPSD, section 3.4)."""

    weight: float = 0.5
    """Share of distillation in the objective; the loss on targets has the rest."""
    alpha: float = 0.5
    """Share of the first strategy's teachers in what ensembles have of the distillation."""
    baseline: float = 0.0
    """Share of the trained baseline in the distillation, as a teacher beside the ensembles; 0 is
    the paper's method."""
    term: Literal["squared-error", "bernoulli-kl"] = "squared-error"
    """Squared error on logits (CPSD), or per-label Bernoulli KL (MLD, Yang et al., ICCV 2023)."""
    temperature: float = 1.0
    """Temperature of the Bernoulli KL."""
    views: int | None = None
    """Stored views a picture; by default one for each epoch of the student."""

    def __post_init__(self) -> None:
        _require(0 <= self.weight <= 1, "distillation.weight", self.weight, "between 0 and 1")
        _require(0 <= self.alpha <= 1, "distillation.alpha", self.alpha, "between 0 and 1")
        _require_fraction("distillation.baseline", self.baseline)
        _require(
            self.temperature > 0, "distillation.temperature", self.temperature, "greater than 0"
        )
        _require(
            self.views is None or self.views >= 1, "distillation.views", self.views, "at least 1"
        )


@dataclass(frozen=True)
class TrainingConfig:
    """What baseline, teachers and student share in training."""

    epochs: int = 20
    """Passes over the training pictures."""
    batch_size: int = 32
    """Pictures in a batch."""
    accumulate: int = 1
    """Batches whose gradients are added up before a step."""
    learning_rate: float = 1e-4
    """Peak of the one-cycle schedule."""
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = 1e-4
    """Off norms and biases."""
    decay: Literal["decoupled", "coupled"] = "decoupled"
    """AdamW's weight decay, or the paper's L2 term inside Adam."""
    clip_norm: float | None = None
    """Largest gradient norm of one network; none by default."""
    ema_decay: float = 0.9997
    """Decay of the weight average, reached after a warm-up; 0 for no average."""
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    """Arithmetic of the forward and backward pass."""

    def __post_init__(self) -> None:
        for key in ("epochs", "batch_size", "accumulate"):
            value = getattr(self, key)
            _require(value >= 1, f"training.{key}", value, "at least 1")
        _require(
            self.learning_rate > 0, "training.learning_rate", self.learning_rate, "greater than 0"
        )
        _require(0 < self.warmup < 1, "training.warmup", self.warmup, "between 0 and 1")
        _require(self.weight_decay >= 0, "training.weight_decay", self.weight_decay, "at least 0")
        _require_fraction("training.ema_decay", self.ema_decay)
        _require(
            self.clip_norm is None or self.clip_norm > 0,
            "training.clip_norm",
            self.clip_norm,
            "greater than 0",
        )


@dataclass(frozen=True)
class TeachersConfig:
    """Where sub-task teachers differ from the shared training settings."""

    epochs: int | None = None
    """Epochs of the teachers; by default training.epochs."""
    learning_rate: float | None = None
    """Peak learning rate of the teachers; by default training.learning_rate."""
    seed: int | None = None
    """Seed of partitions, teachers and views; by default the run's. Runs of several seeds with the
    same seed here have the same teachers."""
    together: bool = True
    """Train a strategy's teachers in one pass over the pictures, or one after another."""
    shared_stages: int = 0
    """First stages of the backbone that all teachers share, frozen as the baseline left them; what
    a stage is, timm says (feature_info). 0 is the paper's method."""
    start: Literal["fresh", "baseline"] = "fresh"
    """Initial weights of the teachers: drawn or loaded as the baseline's are, or the baseline's
    when it is trained."""
    given: str | None = None
    """Folder <strategy>/<part>/ of finished teachers, of another run or imported, to take instead
    of training any; their parts are the run's."""

    def __post_init__(self) -> None:
        _require_own_schedule("teachers", self.epochs, self.learning_rate)
        _require(self.seed is None or self.seed >= 0, "teachers.seed", self.seed, "at least 0")
        stages = self.shared_stages
        _require(stages >= 0, "teachers.shared_stages", stages, "at least 0")
        _require(
            self.given is None or not self.need_baseline,
            "teachers.given",
            self.given,
            "left out where teachers.shared_stages or teachers.start say how to train them",
        )

    @property
    def need_baseline(self) -> bool:
        """Return whether teachers are made of a trained baseline."""
        return self.shared_stages > 0 or self.start == "baseline"


@dataclass(frozen=True)
class StudentConfig:
    """Where the student differs from the shared training settings."""

    epochs: int | None = None
    """Epochs of the student; by default training.epochs."""
    learning_rate: float | None = None
    """Peak learning rate of the student; by default training.learning_rate."""
    start: str | None = None
    """Model folder over the same labels that the student starts from, network and weights; by
    default it starts as the baseline does."""

    def __post_init__(self) -> None:
        _require_own_schedule("student", self.epochs, self.learning_rate)


@dataclass(frozen=True)
class EvaluationConfig:
    """How predictions are scored."""

    threshold: float = 0.5
    """Probability from which a label counts as predicted."""
    thresholds: str | None = None
    """A threshold for each label instead, chosen on validation and kept with the model: 'f1' for
    the highest F1, 'precision=0.9' or 'recall=0.9' for a wanted one."""
    top_k: int = 3
    """Labels a picture in the top-k scores."""

    def __post_init__(self) -> None:
        _require(0 < self.threshold < 1, "evaluation.threshold", self.threshold, "between 0 and 1")
        _require(self.top_k >= 1, "evaluation.top_k", self.top_k, "at least 1")


@dataclass(frozen=True)
class RunConfig:
    """Everything a run depends on."""

    seed: int = 0
    """Seed of splits, partitions, initial weights, order and views."""
    data: DataConfig = field(default_factory=DataConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    teachers: TeachersConfig = field(default_factory=TeachersConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed", self.seed, "at least 0")
        if self.teachers.shared_stages > 0 and self.model.factory is not None:
            raise ConfigError(
                f"teachers.shared_stages is {self.teachers.shared_stages}, but the stages of a "
                "network of your own (model.factory) are not known: set it to 0, or take a "
                "--model.backbone of timm's. teachers.start 'baseline' works with both."
            )
