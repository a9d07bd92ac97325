"""Starting weights: a sub-task teacher that begins where a network over all labels has ended."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cpsd.errors import ModelError


def take_weights(
    network: nn.Module, source: nn.Module, columns: Sequence[int], num_labels: int
) -> None:
    """Put the weights of ``source`` into ``network`` where they fit.

    Taken is what has the same key and shape, buffers included. A parameter with an entry for each
    label gives those of the network's own labels. The rest of ``network`` stays as it is.

    Args:
        network: over P labels.
        source: a network of the same kind over C labels.
        columns: of the P labels among the C.
        num_labels: C.

    Raises:
        ModelError: nothing fits.
    """
    own = network.state_dict()
    learned = {key for key, _ in network.named_parameters()}
    taken = {}
    for key, value in source.state_dict().items():
        if key in learned:
            value = _of_labels(value, own[key].shape, columns, num_labels)
        if key in own and value.shape == own[key].shape:
            taken[key] = value
    if not taken:
        raise ModelError(
            "teachers.start is 'baseline', but a teacher's network has no weights in common with "
            "the baseline's; set it to 'fresh'."
        )
    network.load_state_dict(taken, strict=False)


def _of_labels(
    value: Tensor, wanted: torch.Size, columns: Sequence[int], num_labels: int
) -> Tensor:
    """Return the entries of the labels in ``columns`` along whatever dimension counts labels.

    Example:
        >>> _of_labels(torch.arange(8).view(4, 2), torch.Size((1, 2)), [3], 4)
        tensor([[6, 7]])
    """
    if value.ndim != len(wanted):
        return value
    index = torch.tensor(columns, device=value.device)
    for dim, (found, needed) in enumerate(zip(value.shape, wanted, strict=True)):
        if (found, needed) == (num_labels, len(columns)):
            value = value.index_select(dim, index)
    return value
