"""What heads may know of the labels: names, label graph and embeddings, from one place.

Shapes: C labels, E width of an embedding, D width of a head's tokens.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cpsd.errors import ModelError
from cpsd.graph import LabelGraph
from cpsd.labels import LabelSpace


@dataclass(frozen=True, eq=False)
class LabelInformation:
    """What is known of the C labels of a predictor.

    Args:
        labels: the labels.
        graph: over these labels, for heads that want one.
        embeddings: ``(C, E)`` float32, a given vector a label; None where they are learned.
        embedding_width: E; by default that of the GloVe vectors that the papers use.

    Raises:
        ModelError: graph or embeddings do not fit the labels.
    """

    labels: LabelSpace
    graph: LabelGraph | None = None
    embeddings: NDArray[np.float32] | None = None
    embedding_width: int = 300

    def __post_init__(self) -> None:
        size = len(self.labels)
        if self.graph is not None and self.graph.labels != self.labels:
            raise ModelError("The label graph is over other labels than the predictor's.")
        needed = (size, self.embedding_width)
        if self.embeddings is not None and self.embeddings.shape != needed:
            raise ModelError(
                f"Label embeddings of shape {self.embeddings.shape} do not fit {size} labels and "
                f"an embedding width of {self.embedding_width}: they must be {needed}."
            )

    def restricted_to(self, labels: LabelSpace) -> "LabelInformation":
        """Return what is known of ``labels``, a part of these, in their order.

        Raises:
            DataError: a label is not among these.
        """
        if labels == self.labels:
            return self
        columns = self.labels.indices(labels)
        return replace(
            self,
            labels=labels,
            graph=None if self.graph is None else self.graph.select(columns),
            embeddings=None if self.embeddings is None else self.embeddings[columns],
        )

    def required_graph(self, head: str) -> LabelGraph:
        """Return the graph.

        Raises:
            ModelError: there is none.
        """
        if self.graph is None:
            raise ModelError(
                f"The head '{head}' needs a label graph: give model_factory a LabelInformation "
                "with one, such as LabelGraph.from_targets(targets, labels)."
            )
        return self.graph


class LearnedTable(nn.Module):
    """A vector for each label, learned from a random start.

    Args:
        num_labels: C.
        width: of each vector.
    """

    def __init__(self, num_labels: int, width: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.randn(num_labels, width))

    def forward(self) -> Tensor:
        """Return the vectors, a row a label."""
        return self.values


class GivenTable(nn.Module):
    """A given vector for each label, that training does not change; saved with the weights.

    Args:
        values: a row a label.
    """

    values: Tensor

    def __init__(self, values: NDArray[np.float32]) -> None:
        super().__init__()
        self.register_buffer("values", torch.tensor(values, dtype=torch.float32))

    def forward(self) -> Tensor:
        """Return the vectors, a row a label."""
        return self.values


class ProjectedTable(nn.Module):
    """Given vectors, projected to another width by a linear layer that is learned.

    Args:
        values: ``(C, E)``.
        width: D.
    """

    def __init__(self, values: NDArray[np.float32], width: int) -> None:
        super().__init__()
        self.table = GivenTable(values)
        self.projection = nn.Linear(values.shape[1], width)

    def forward(self) -> Tensor:
        """Return the vectors ``(C, D)``."""
        vectors_CD: Tensor = self.projection(self.table())
        return vectors_CD


def embedding_table(information: LabelInformation) -> nn.Module:
    """Return the labels' embeddings ``(C, E)`` as a module: the given ones, or learned."""
    if information.embeddings is not None:
        return GivenTable(information.embeddings)
    return LearnedTable(len(information.labels), information.embedding_width)


def query_table(information: LabelInformation, width: int) -> nn.Module:
    """Return a vector ``(C, width)`` a label as a module: learned, or of the given embeddings."""
    if information.embeddings is not None:
        return ProjectedTable(information.embeddings, width)
    return LearnedTable(len(information.labels), width)
