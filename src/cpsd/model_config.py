"""The typed settings of a network: backbone, head, and a section of options for each head.

The defaults of the heads are their publications'.
"""

from dataclasses import dataclass, field
from typing import Literal

from cpsd.errors import ConfigError

HeadName = Literal["linear", "transformer", "query", "ml-decoder", "csra", "gcn", "ctran"]


def _require(condition: bool, key: str, value: object, needed: str) -> None:
    if not condition:
        raise ConfigError(f"model.{key} is {value!r}; it must be {needed}.")


def _require_attention(section: str, width: int, heads: int, feedforward: int) -> None:
    _require(heads >= 1, f"{section}.heads", heads, "at least 1")
    fits = width >= 1 and width % heads == 0
    _require(fits, f"{section}.width", width, f"a positive multiple of {section}.heads ({heads})")
    _require(feedforward >= 1, f"{section}.feedforward", feedforward, "at least 1")


def _require_dropout(section: str, dropout: float) -> None:
    _require(0 <= dropout < 1, f"{section}.dropout", dropout, "at least 0 and below 1")


@dataclass(frozen=True)
class LinearConfig:
    """Head 'linear'."""

    pooling: Literal["average", "max"] = "average"
    """What makes one vector of the feature map."""

    def __post_init__(self) -> None:
        known = self.pooling in ("average", "max")
        _require(known, "linear.pooling", self.pooling, "'average' or 'max'")


@dataclass(frozen=True)
class TransformerConfig:
    """Head 'transformer' (ResNet101+TF of CPSD, section 4.1)."""

    width: int = 1024
    """Of image and label tokens."""
    layers: int = 3
    """Encoder layers, norm first."""
    heads: int = 4
    """Attention heads."""
    head_width: int = 1024
    """Of each attention head; the published one is as wide as a token."""
    feedforward: int = 1024
    """Width between the two linear layers of an encoder layer."""
    dropout: float = 0.1
    """In the encoder."""

    def __post_init__(self) -> None:
        for key in ("width", "heads", "head_width", "feedforward", "layers"):
            value = getattr(self, key)
            _require(value >= 1, f"transformer.{key}", value, "at least 1")
        _require_dropout("transformer", self.dropout)


@dataclass(frozen=True)
class QueryConfig:
    """Head 'query' (Query2Label; Liu et al., 2021)."""

    width: int = 2048
    """Of image tokens and label queries."""
    heads: int = 4
    """Attention heads."""
    feedforward: int = 8192
    """Width between the two linear layers of a layer."""
    encoder_layers: int = 1
    """Encoder layers over the image tokens; 0 for none."""
    decoder_layers: int = 2
    """Decoder layers, without self-attention of the labels."""
    dropout: float = 0.1
    """In encoder and decoder."""

    def __post_init__(self) -> None:
        _require_attention("query", self.width, self.heads, self.feedforward)
        _require(self.width % 4 == 0, "query.width", self.width, "a multiple of 4")
        _require(
            self.encoder_layers >= 0, "query.encoder_layers", self.encoder_layers, "at least 0"
        )
        _require(
            self.decoder_layers >= 1, "query.decoder_layers", self.decoder_layers, "at least 1"
        )
        _require_dropout("query", self.dropout)


@dataclass(frozen=True)
class MLDecoderConfig:
    """Head 'ml-decoder' (ML-Decoder; Ridnik et al., 2021)."""

    width: int = 768
    """Of image tokens and group queries."""
    groups: int = 100
    """Group queries; one a label where there are fewer labels."""
    queries: Literal["fixed", "learned"] = "fixed"
    """Whether group queries stay as they are drawn."""
    heads: int = 8
    """Attention heads."""
    feedforward: int = 2048
    """Width between the two linear layers."""
    dropout: float = 0.1
    """In the decoder."""

    def __post_init__(self) -> None:
        _require_attention("ml_decoder", self.width, self.heads, self.feedforward)
        _require(self.groups >= 1, "ml_decoder.groups", self.groups, "at least 1")
        known = self.queries in ("fixed", "learned")
        _require(known, "ml_decoder.queries", self.queries, "'fixed' or 'learned'")
        _require_dropout("ml_decoder", self.dropout)


@dataclass(frozen=True)
class CSRAConfig:
    """Head 'csra' (class-specific residual attention; Zhu and Wu, ICCV 2021)."""

    heads: Literal[1, 2, 4, 6, 8] = 1
    """Attention heads, each with a classifier and a temperature of its own."""
    residual: float = 0.1
    """Weight of class-specific attention beside average pooling (lambda)."""

    def __post_init__(self) -> None:
        _require(self.heads in (1, 2, 4, 6, 8), "csra.heads", self.heads, "1, 2, 4, 6 or 8")
        _require(self.residual >= 0, "csra.residual", self.residual, "at least 0")


@dataclass(frozen=True)
class GCNConfig:
    """Head 'gcn' (ML-GCN; Chen et al., CVPR 2019)."""

    hidden: int = 1024
    """Width between the two graph convolutions."""
    threshold: float = 0.4
    """Least P(i | j) at which an edge is kept (tau)."""
    neighbours: float = 0.2
    """Weight that a label's neighbours have together, beside the label's own (p)."""

    def __post_init__(self) -> None:
        _require(self.hidden >= 1, "gcn.hidden", self.hidden, "at least 1")
        _require(0 <= self.threshold <= 1, "gcn.threshold", self.threshold, "between 0 and 1")
        _require(0 <= self.neighbours <= 1, "gcn.neighbours", self.neighbours, "between 0 and 1")


@dataclass(frozen=True)
class CTranConfig:
    """Head 'ctran' (C-Tran; Lanchantin et al., CVPR 2021)."""

    width: int = 2048
    """Of image and label tokens."""
    layers: int = 3
    """Encoder layers."""
    heads: int = 4
    """Attention heads."""
    feedforward: int = 2048
    """Width between the two linear layers of an encoder layer."""
    dropout: float = 0.1
    """In the encoder."""
    least_hidden: float = 0.25
    """Least share of a picture's labels that training hides from the network."""

    def __post_init__(self) -> None:
        _require_attention("ctran", self.width, self.heads, self.feedforward)
        _require(self.layers >= 1, "ctran.layers", self.layers, "at least 1")
        _require_dropout("ctran", self.dropout)
        share = self.least_hidden
        _require(0 < share <= 1, "ctran.least_hidden", share, "greater than 0 and at most 1")


@dataclass(frozen=True)
class ModelConfig:
    """The network that baseline, teachers and student all are."""

    backbone: str = "efficientnet_b0"
    """Any timm model name."""
    weights: str = "timm"
    """'timm' (pretrained, downloaded by timm), 'none', or a local .safetensors or .pth file."""
    head: HeadName = "linear"
    """What turns the feature map into logits; its options are in the section of its name."""
    normalization: Literal["backbone", "symmetric", "none"] = "backbone"
    """Backbone's own mean and std; pixels scaled to [-1, 1]; or pixels as they are in [0, 1]."""
    freeze_batch_norm: bool = False
    """Keep batch norm's statistics and affine parameters as the weights file has them."""
    label_embeddings: str | None = None
    """File of label embeddings, kept as they are: .npy or .pkl with a row a label, or word vectors
    in text. By default embeddings are learned."""
    label_embedding_width: int = 300
    """Width of label embeddings; that of the file, where there is one."""
    non_commercial_weights: bool = False
    """Allow timm's weights whose licence forbids commercial use."""
    factory: str | None = None
    """'package.module:function', your own make_model(labels) -> nn.Module in place of the above."""
    linear: LinearConfig = field(default_factory=LinearConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    query: QueryConfig = field(default_factory=QueryConfig)
    ml_decoder: MLDecoderConfig = field(default_factory=MLDecoderConfig)
    csra: CSRAConfig = field(default_factory=CSRAConfig)
    gcn: GCNConfig = field(default_factory=GCNConfig)
    ctran: CTranConfig = field(default_factory=CTranConfig)

    def __post_init__(self) -> None:
        width = self.label_embedding_width
        _require(width >= 1, "label_embedding_width", width, "at least 1")
