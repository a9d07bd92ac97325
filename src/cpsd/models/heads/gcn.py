"""Head 'gcn': classifiers that a graph convolution makes of label embeddings.

Shapes: B images, D channels, H' x W' places, C labels, E width of an embedding.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from cpsd.errors import ModelError
from cpsd.graph import LabelGraph, conditional_probability
from cpsd.model_config import GCNConfig
from cpsd.models.label_information import LabelInformation, embedding_table

_SLOPE = 0.2
"""Of LeakyReLU (ML-GCN, section 4.1)."""
MOST_LABELS = 4096
"""The adjacency is a dense matrix that is saved with the weights: 64 MB of it at so many labels."""


class GCNHead(nn.Module):
    """ML-GCN (Chen et al., CVPR 2019, section 3).

    Two graph convolutions turn the embeddings of the labels into their classifiers, which read the
    maximum of the feature map over places. The graph is that of the predictor's own labels, a
    part's for a sub-task teacher, and is saved with the weights. With 300-wide embeddings and 2048
    channels 2.4 million parameters.

    Args:
        num_features: D.
        information: the C labels, their graph and embeddings.
        config: widths and how the graph is cut down.

    Raises:
        ModelError: there is no label graph, or more than ``MOST_LABELS`` labels.
    """

    adjacency: Tensor

    def __init__(self, num_features: int, information: LabelInformation, config: GCNConfig) -> None:
        super().__init__()
        if len(information.labels) > MOST_LABELS:
            raise ModelError(
                "The head 'gcn' multiplies with a matrix of labels by labels and takes at most "
                f"{MOST_LABELS:,} of them; there are {len(information.labels):,}. Take another, "
                "such as --model.head ml-decoder."
            )
        self.label_embeddings = embedding_table(information)
        self.first = nn.Linear(information.embedding_width, config.hidden, bias=False)
        self.second = nn.Linear(config.hidden, num_features, bias=False)
        graph = information.required_graph("gcn")
        adjacency = re_weighted_adjacency(graph, config.threshold, config.neighbours)
        self.register_buffer("adjacency", torch.tensor(adjacency, dtype=torch.float32))
        for layer in (self.first, self.second):
            bound = layer.out_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound)

    def forward(self, features_BDHW: Tensor) -> Tensor:
        """Return logits ``(B, C)``."""
        hidden = leaky_relu(self.adjacency @ self.first(self.label_embeddings()), _SLOPE)
        classifiers_CD = self.adjacency @ self.second(hidden)
        logits_BC: Tensor = features_BDHW.amax(dim=(2, 3)) @ classifiers_CD.T
        return logits_BC


def re_weighted_adjacency(
    graph: LabelGraph, threshold: float, neighbours: float
) -> NDArray[np.float64]:
    """Return ``(C, C)``: which labels a label's classifier takes up, and how much of them.

    Edges are kept where P(j | i) is at least ``threshold`` (equation 7); a label's neighbours share
    ``neighbours`` and the label has the rest (equation 8); then D^-1/2 A D^-1/2 as in Kipf and
    Welling's convolution (equation 2).

    Args:
        graph: over the C labels.
        threshold: tau.
        neighbours: p.

    Example:
        >>> from cpsd.labels import LabelSpace
        >>> counts = {"images_with_label": [4, 8], "images_with_both": [[0, 4], [4, 0]]}
        >>> graph = LabelGraph.from_counts(**counts, labels=LabelSpace(("knife", "table")))
        >>> re_weighted_adjacency(graph, 0.6, 0.2).round(3).tolist()
        [[0.8, 0.224], [0.0, 1.0]]
    """
    kept = (threshold <= conditional_probability(graph).toarray().T).astype(np.float64)
    np.fill_diagonal(kept, 0)
    num_neighbours = kept.sum(axis=1, keepdims=True)
    adjacency = neighbours * kept / np.maximum(num_neighbours, 1)
    np.fill_diagonal(adjacency, max(1 - neighbours, 1e-6))
    scale = adjacency.sum(axis=1) ** -0.5
    normalized: NDArray[np.float64] = scale[:, None] * adjacency * scale[None, :]
    return normalized
