"""Multi-label image classification by complementary parallel self-distillation (CPSD, IJCAI 2022).

Every predictor maps images (B, 3, H, W) in [0, 1] to logits (B, C) over an ordered set of labels;
baseline, sub-task teacher, teacher ensemble and student take the same path.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpsd.config import DataConfig as DataConfig
    from cpsd.config import DistillationConfig as DistillationConfig
    from cpsd.config import EvaluationConfig as EvaluationConfig
    from cpsd.config import ImageConfig as ImageConfig
    from cpsd.config import LossConfig as LossConfig
    from cpsd.config import RunConfig as RunConfig
    from cpsd.config import TrainingConfig as TrainingConfig
    from cpsd.data.records import Records as Records
    from cpsd.data.sources import load_records as load_records
    from cpsd.errors import UserError as UserError
    from cpsd.evaluation.metrics import Metrics as Metrics
    from cpsd.graph import LabelGraph as LabelGraph
    from cpsd.labels import LabelSpace as LabelSpace
    from cpsd.machine_config import MachineConfig as MachineConfig
    from cpsd.method import distill as distill
    from cpsd.method import evaluate as evaluate
    from cpsd.method import fit as fit
    from cpsd.method import predict as predict
    from cpsd.model_config import ModelConfig as ModelConfig
    from cpsd.models.classifier import model_factory as model_factory
    from cpsd.models.ensemble import TeacherEnsemble as TeacherEnsemble
    from cpsd.models.heads.place_attention import (
        record_place_attention as record_place_attention,
    )
    from cpsd.models.label_information import LabelInformation as LabelInformation
    from cpsd.models.store import load_model as load_model
    from cpsd.partition import LabelPartition as LabelPartition
    from cpsd.partition import partition_labels as partition_labels
    from cpsd.trained import load_trained as load_trained

_HOME = {
    "DataConfig": "cpsd.config",
    "DistillationConfig": "cpsd.config",
    "EvaluationConfig": "cpsd.config",
    "ImageConfig": "cpsd.config",
    "LabelGraph": "cpsd.graph",
    "LabelInformation": "cpsd.models.label_information",
    "LabelPartition": "cpsd.partition",
    "LabelSpace": "cpsd.labels",
    "LossConfig": "cpsd.config",
    "MachineConfig": "cpsd.machine_config",
    "Metrics": "cpsd.evaluation.metrics",
    "ModelConfig": "cpsd.model_config",
    "Records": "cpsd.data.records",
    "RunConfig": "cpsd.config",
    "TeacherEnsemble": "cpsd.models.ensemble",
    "TrainingConfig": "cpsd.config",
    "UserError": "cpsd.errors",
    "distill": "cpsd.method",
    "evaluate": "cpsd.method",
    "fit": "cpsd.method",
    "load_model": "cpsd.models.store",
    "load_records": "cpsd.data.sources",
    "load_trained": "cpsd.trained",
    "model_factory": "cpsd.models.classifier",
    "partition_labels": "cpsd.partition",
    "predict": "cpsd.method",
    "record_place_attention": "cpsd.models.heads.place_attention",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    """Import a public name when it is asked for: torch takes seconds, help should not."""
    if name not in _HOME:
        raise AttributeError(f"module 'cpsd' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)
