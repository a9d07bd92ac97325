"""Operations against those counted by hand: a multiplication and an addition are two."""

import copy
from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from cpsd.flops import _FORMULAS, Flops, RepeatedFlops, counted, inference_flops, step_flops

CPU = torch.device("cpu")


def test_a_linear_layer_multiplies_each_input_with_each_output() -> None:
    layer = nn.Linear(7, 5)
    flops = step_flops(layer, torch.zeros(3, 7))
    # The input is not learned, so the backward pass has the weight's gradient only.
    assert flops == Flops(2 * 3 * 7 * 5, 2 * 3 * 7 * 5)


@pytest.mark.parametrize(
    ("layer", "forward"),
    [
        # Pictures of 9 x 9; a kernel of 3 x 3 with stride 2 has 4 x 4 places.
        (nn.Conv2d(6, 10, 3, stride=2), 2 * 4 * 4 * 3 * 3 * 6 * 10),
        (nn.Conv2d(6, 12, 3, stride=2, groups=3), 2 * 4 * 4 * 3 * 3 * 2 * 12),
        (nn.Conv2d(6, 6, 3, padding=1, groups=6), 2 * 9 * 9 * 3 * 3 * 6),
        # Transposed, each of the 9 x 9 places is multiplied with the whole kernel.
        (nn.ConvTranspose2d(6, 4, 3, stride=2), 2 * 9 * 9 * 3 * 3 * 6 * 4),
    ],
)
def test_a_convolution_multiplies_its_kernel_at_each_place(layer: nn.Module, forward: int) -> None:
    images = torch.zeros(2, 6, 9, 9)
    assert step_flops(layer, images) == Flops(2 * forward, 2 * forward)
    # With a layer before it, the gradient of its input is needed too.
    before = nn.Conv2d(6, 6, 1)
    own = 2 * 2 * 9 * 9 * 6 * 6
    assert step_flops(nn.Sequential(before, layer), images) == Flops(
        2 * forward + own, 2 * 2 * forward + own
    )


class Net(nn.Module):
    """A trunk, and a head on the mean of its features."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.rest = nn.Conv2d(4, 8, 1)
        self.head = nn.Linear(8, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.rest(self.trunk(images)).mean(dim=(2, 3)))
        return logits


PLACES = 6 * 6
FIRST, SECOND, REST, HEAD = 2 * PLACES * 3 * 4, 2 * PLACES * 4 * 4, 2 * PLACES * 4 * 8, 2 * 8 * 2


def test_there_is_no_backward_pass_through_what_is_frozen() -> None:
    network, images = Net(), torch.zeros(1, 3, 6, 6)
    forward = FIRST + SECOND + REST + HEAD
    assert step_flops(network, images) == Flops(forward, FIRST + 2 * (SECOND + REST + HEAD))
    network.trunk.requires_grad_(False)
    assert step_flops(network, images) == Flops(forward, REST + 2 * HEAD)
    network.requires_grad_(False)
    assert step_flops(network, images) == Flops(forward, 0)


def test_what_networks_share_counts_as_often_as_it_runs() -> None:
    first, second = Net(), Net()
    second.trunk = first.trunk.requires_grad_(False)
    images = torch.zeros(5, 3, 6, 6)
    with counted() as counter:
        features = first.trunk(images)
        for network in (first, second):
            network.head(network.rest(features).mean(dim=(2, 3)))
    assert counter.flops == 5 * (FIRST + SECOND + 2 * (REST + HEAD))


@pytest.mark.parametrize("training", [False, True])
def test_attention_is_counted_on_a_cpu(training: bool) -> None:
    # In evaluation torch would take one fused operation for the whole layer.
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).train(training)
    tokens = torch.zeros(3, 5, 8)
    projections, places, linear = 2 * 5 * 8 * 8 * 4, 2 * 2 * 5 * 5 * 4 * 2, 2 * 2 * 5 * 8 * 16
    with torch.no_grad(), counted() as counter:
        layer(tokens)
    assert counter.flops == 3 * (projections + places + linear)
    assert torch.backends.mha.get_fastpath_enabled()


def test_products_of_vectors_and_sums_over_indices_are_counted() -> None:
    with counted() as counter:
        _ = torch.zeros(3, 4) @ torch.zeros(4)
        _ = torch.einsum("bij,bjk->bik", torch.zeros(2, 3, 4), torch.zeros(2, 4, 5))
        _ = torch.zeros(100).exp().sum()
    assert counter.flops == 2 * 12 + 2 * 2 * 3 * 4 * 5


def test_what_has_no_count_is_named() -> None:
    network = nn.LSTM(4, 4)
    with torch.no_grad(), counted() as counter:
        network(torch.zeros(2, 3, 4))
    assert counter.reason is not None
    assert "rnn" in counter.reason or "lstm" in counter.reason
    flops = RepeatedFlops()
    for _ in range(2):
        with torch.no_grad(), flops.adding("forward", "step"):
            network(torch.zeros(2, 3, 4))
    assert (flops.forward, flops.backward) == (None, 0)
    assert flops.reason == counter.reason


def test_notes_for_a_profiler_are_no_operations() -> None:
    with counted() as counter, torch.profiler.record_function("forward"):
        nn.Linear(3, 2)(torch.zeros(1, 3))
    assert (counter.flops, counter.reason) == (12, None)


def test_counting_changes_no_result() -> None:
    torch.manual_seed(0)
    network, images = Net(), torch.rand(2, 3, 6, 6)
    counted_network = copy.deepcopy(network)
    network(images).sum().backward()
    with counted():
        counted_network(images).sum().backward()
    for one, other in zip(network.parameters(), counted_network.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)


def test_repeated_work_is_counted_once_for_each_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    flops, network = RepeatedFlops(), nn.Linear(3, 2)
    for batch in (4, 4, 4, 1):
        with flops.adding("forward", batch):
            loss = network(torch.zeros(batch, 3)).sum()
        with flops.adding("backward", batch):
            loss.backward()
    assert flops.forward == flops.backward == 2 * 3 * 2 * 13
    with flops.adding("forward", 4):  # known, so nothing looks at what runs
        pass
    assert flops.forward == 2 * 3 * 2 * 17


def test_an_error_of_the_network_passes_and_leaves_nothing_counted() -> None:
    flops = RepeatedFlops()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), flops.adding("forward"):
        nn.Linear(3, 2)(torch.zeros(1, 4))
    assert flops.forward == 0
    with flops.adding("forward"):
        nn.Linear(3, 2)(torch.zeros(1, 3))
    assert flops.forward == 12


def test_inference_tells_pictures_from_batches() -> None:
    picture, words = nn.Conv2d(3, 2, 1), nn.Linear(5, 5)

    def infer(images: Tensor) -> Tensor:
        product: Tensor = picture(images).mean() * words(torch.zeros(7, 5)).mean()
        return product

    flops = inference_flops(infer, 4, num_images=10, batch_size=4, device=CPU)
    assert flops == Flops(10 * 2 * 16 * 3 * 2 + 3 * 2 * 7 * 5 * 5)
    assert inference_flops(infer, 4, num_images=0, batch_size=4, device=CPU).forward == 0


def test_nothing_is_computed_on_the_meta_device() -> None:
    with torch.device("meta"):
        flops = step_flops(Net(), torch.empty(2, 3, 6, 6))
    assert flops == step_flops(Net(), torch.zeros(2, 3, 6, 6))


def test_compiled_networks_are_counted_as_they_are_written() -> None:
    network = Net()
    compiled = cast(nn.Module, torch.compile(network, backend="eager"))
    images = torch.zeros(1, 3, 6, 6)
    assert step_flops(compiled, images) == step_flops(network, images)


KILLED = "DataLoader worker (pid 7) is killed by signal: Killed. "


@pytest.mark.parametrize(
    "error", [TypeError("two sizes"), AssertionError(), RuntimeError("no sizes")]
)
def test_a_formula_that_breaks_is_said_and_the_work_goes_on(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_FORMULAS, torch.ops.aten.convolution, _failing(error))
    with counted() as counter:
        logits = nn.Conv2d(3, 4, 3)(torch.zeros(1, 3, 8, 8))
    assert logits.shape == (1, 4, 6, 6)
    assert counter.reason is not None
    assert "aten.convolution" in counter.reason


def test_what_torch_raises_of_a_killed_loader_is_not_taken_for_a_broken_formula(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(_FORMULAS, torch.ops.aten.convolution, _failing(RuntimeError(KILLED)))
    with pytest.raises(RuntimeError, match="DataLoader worker"), counted():
        nn.Conv2d(3, 4, 3)(torch.zeros(1, 3, 8, 8))


def _failing(error: Exception) -> Callable[..., int]:
    def formula(*args: object, **kwargs: object) -> int:
        raise error

    return formula
