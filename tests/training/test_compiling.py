"""Compiled networks: the same weights to rounding, under the same keys.

Compiled by torch's "aot_eager", which traces all of forward and backward but needs no compiler.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import tiny
from cpsd.config import RunConfig
from cpsd.data.records import Records
from cpsd.errors import TrainingError
from cpsd.method import Place, fit
from cpsd.training import compiling

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")


def with_compile(config: RunConfig) -> RunConfig:
    return replace(config, machine=replace(config.machine, compile=True))


def test_members_are_the_same_and_left_as_they_were(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    config = tiny.settings(ema_decay=0.5, clip_norm=0.1, batch_size=9)
    together, plain = tiny.ensemble(dropout=0.5), tiny.ensemble(dropout=0.5)
    forms = CountedForms(monkeypatch)
    fitted, reference = fit(together, records, with_compile(config)), fit(plain, records, config)
    assert fitted.best == reference.best
    assert fitted.cost.flops_forward == reference.cost.flops_forward
    assert fitted.cost.flops_backward == reference.cost.flops_backward
    assert fitted.cost.flops_forward, "the operations of compiled code are counted"
    tiny.assert_close(tiny.weights(together), tiny.weights(plain))
    assert forms.number >= 2, "both members were compiled"
    for teacher in together.teachers:
        assert teacher._compiled_call_impl is None


def test_an_interrupted_training_goes_on_compiled(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    config = with_compile(tiny.settings(epochs=3, ema_decay=0.5))
    place = Place("baseline", tmp_path, tmp_path / "last.ckpt")
    network, whole = tiny.network(dropout=0.5), tiny.network(dropout=0.5)
    with pytest.raises(tiny.StopError):
        fit(network, records, config, place=place, callbacks=[tiny.StopIn(epoch=1)])
    assert network._compiled_call_impl is None
    fit(network, records, config, place=place)
    fit(whole, records, config)
    tiny.assert_same(tiny.weights(network), tiny.weights(whole))


def test_a_missing_compiler_is_said_in_a_sentence(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(graph: object, inputs: object) -> object:
        raise RuntimeError("No working C++ compiler found in CXX=nothing\nA long tale follows.")

    monkeypatch.setattr(compiling, "BACKEND", no_compiler)
    with pytest.raises(TrainingError) as caught:
        fit(tiny.network(), records, with_compile(tiny.settings(epochs=1)))
    message = str(caught.value)
    assert "(No working C++ compiler found in CXX=nothing)" in message
    assert "set machine.compile to false" in message
    assert "tale" not in message


def test_a_mistake_of_the_network_is_its_own(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mistaken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if self.training:
                raise RuntimeError("a mistake in the network")
            logits: torch.Tensor = self.linear(images.mean(dim=(2, 3)))
            return logits

    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    with pytest.raises(RuntimeError, match="a mistake in the network"):
        fit(Mistaken(), records, with_compile(tiny.settings(epochs=1)))


class CountedForms:
    """How many networks are handed to torch.compile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        original = compiling._in_training

        def counting(network: nn.Module) -> object:
            self.number += 1
            return original(network)

        monkeypatch.setattr(compiling, "_in_training", counting)
