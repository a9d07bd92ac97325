"""Heads: a feature map (B, D, H', W') to logits (B, C), each on any backbone."""

from collections.abc import Callable

from torch import nn

from cpsd.model_config import ModelConfig
from cpsd.models.heads.csra import CSRAHead
from cpsd.models.heads.ctran import CTranHead
from cpsd.models.heads.gcn import GCNHead
from cpsd.models.heads.linear import LinearHead
from cpsd.models.heads.ml_decoder import MLDecoderHead
from cpsd.models.heads.query import QueryHead
from cpsd.models.heads.transformer import TransformerHead
from cpsd.models.label_information import LabelInformation

BuildHead = Callable[[int, LabelInformation, ModelConfig], nn.Module]

HEADS: dict[str, BuildHead] = {
    "linear": lambda num_features, information, config: LinearHead(
        num_features, len(information.labels), pooling=config.linear.pooling
    ),
    "transformer": lambda num_features, information, config: TransformerHead(
        num_features, information, config.transformer
    ),
    "query": lambda num_features, information, config: QueryHead(
        num_features, information, config.query
    ),
    "ml-decoder": lambda num_features, information, config: MLDecoderHead(
        num_features, len(information.labels), config.ml_decoder
    ),
    "csra": lambda num_features, information, config: CSRAHead(
        num_features, len(information.labels), config.csra
    ),
    "gcn": lambda num_features, information, config: GCNHead(num_features, information, config.gcn),
    "ctran": lambda num_features, information, config: CTranHead(
        num_features, information, config.ctran
    ),
}
"""Builders ``(num_features, information, config) -> head`` by their name in the configuration."""
