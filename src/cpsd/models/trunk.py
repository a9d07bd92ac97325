"""Shared trunks: the first stages of a backbone, frozen, one for several networks.

Networks that share a trunk hold the same module objects in it, so each is an ordinary network
by itself, saved and loaded whole. Within ``one_pass`` the trunk computes once for all of them.

    trunk = Trunk(baseline, num_stages=3)
    for teacher in teachers:
        trunk.put_under(teacher)
    with one_pass():
        logits = [teacher(images) for teacher in teachers]
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from cpsd.errors import ConfigError, ModelError
from cpsd.models.backbones import Backbone, blank_network
from cpsd.models.classifier import Classifier

_KEY = "teachers.shared_stages"

_pass: ContextVar["set[Trunk] | None"] = ContextVar("pass", default=None)
"""Trunks that remember what they computed in the pass that is under way."""


@contextmanager
def one_pass() -> Iterator[None]:
    """Let trunks compute once for all networks that are given the same images.

    The same images are the same tensor object, which must not be written to meanwhile. What was
    computed is kept until the pass ends; one inside another is part of it.
    """
    if _pass.get() is not None:
        yield
        return
    token = _pass.set(set())
    try:
        yield
    finally:
        for trunk in _pass.get() or ():
            trunk.forget()
        _pass.reset(token)


class Trunk:
    """The first stages of a network's backbone, frozen, to be put under others of its kind.

    Its parameters have no gradients, and it stays in evaluation mode, batch norm included,
    whatever mode the networks around it are in. A copy of a network (``copy.deepcopy``), such as
    its weight average, holds the same trunk.

    Args:
        source: whose stages they are, a classifier on a timm backbone; changed in place.
        num_stages: as timm counts them (``feature_info``), at least 1.

    Raises:
        ConfigError: another kind of network, or fewer stages.
        ModelError: the stages cannot be told from the rest.
    """

    def __init__(self, source: nn.Module, num_stages: int) -> None:
        classifier, backbone = _parts_of(source)
        self.num_stages = num_stages
        self._name = backbone.name
        end = _end_of(backbone.network, backbone.name, num_stages)
        self._paths = _trunk_modules(backbone, end)
        self._source = classifier
        self._images: object = None
        self._outputs: dict[nn.Module, Any] = {}
        for module in self._modules_of(classifier):
            _make_shared(module, self)
        self._first: nn.Module = classifier.normalization
        self._last = backbone.network.get_submodule(end)
        for owner, name in self._tensors_of(classifier):
            getattr(owner, name).requires_grad_(False)

    def put_under(self, network: nn.Module) -> None:
        """Replace the first stages of ``network`` by this trunk.

        Raises:
            ConfigError: it is no classifier on a timm backbone.
            ModelError: its backbone is another one.
        """
        classifier, backbone = _parts_of(network)
        if backbone.name != self._name:
            raise ModelError(
                f"A trunk of the backbone '{self._name}' cannot be put under '{backbone.name}'."
            )
        own, shared = backbone.network, cast(Backbone, self._source.backbone).network
        for path in self._paths:
            own.set_submodule(path, shared.get_submodule(path))
        for (owner, name), (source, _) in zip(
            self._tensors_of(classifier), self._tensors_of(self._source), strict=True
        ):
            setattr(owner, name, getattr(source, name))
        classifier.normalization = self._source.normalization

    def has_weights_of(self, network: nn.Module) -> bool:
        """Return whether the first stages of ``network`` are the same, bit for bit."""
        classifier, backbone = _parts_of(network)
        if backbone.name != self._name:
            return False
        own, shared = self._state_of(classifier), self._state_of(self._source)
        return own.keys() == shared.keys() and all(
            torch.equal(value, shared[key]) for key, value in own.items()
        )

    def forget(self) -> None:
        """Drop what was computed in the pass that has ended."""
        self._images = None
        self._outputs.clear()

    def output(self, module: nn.Module, given: object, compute: Callable[[], Any]) -> Any:  # noqa: ANN401
        """Return what ``module`` of this trunk gives, computed once in a pass over the same images.

        Args:
            module: one that is shared.
            given: its first input. Only the first module looks at it: all others follow from that.
            compute: what gives its output.
        """
        under_way = _pass.get()
        if under_way is None:
            return compute()
        under_way.add(self)
        if module is self._first and given is not self._images:
            self.forget()
            self._images = given
        if module not in self._outputs:
            self._outputs[module] = compute()
        output = self._outputs[module]
        # A copy, for what comes after the trunk may write into its input.
        return output.clone() if module is self._last and isinstance(output, Tensor) else output

    def _modules_of(self, classifier: Classifier) -> list[nn.Module]:
        network = cast(Backbone, classifier.backbone).network
        return [classifier.normalization, *(network.get_submodule(path) for path in self._paths)]

    def _tensors_of(self, classifier: Classifier) -> list[tuple[nn.Module, str]]:
        """Return tensors beside the shared modules that these are computed with, by their owner.

        They belong to modules that hold shared ones: a transformer's positions and class token.
        """
        network = cast(Backbone, classifier.backbone).network
        holders = dict.fromkeys(
            path.rpartition(".")[0][:end]
            for path in self._paths
            for end in (0, *(i for i, sign in enumerate(path) if sign == "."))
        )
        owners = [network.get_submodule(path) for path in holders]
        return [
            (owner, name)
            for owner in owners
            for name, tensor in (*owner._parameters.items(), *owner._buffers.items())
            if tensor is not None
        ]

    def _state_of(self, classifier: Classifier) -> dict[str, Tensor]:
        state = {
            f"{i}.{key}": value
            for i, module in enumerate(self._modules_of(classifier))
            for key, value in module.state_dict().items()
        }
        own = self._tensors_of(classifier)
        return {**state, **{f"{i}": getattr(*pair) for i, pair in enumerate(own)}}


def share_trunk(networks: Sequence[nn.Module], num_stages: int) -> None:
    """Let networks whose first stages have the same weights share one trunk.

    The first of them gives it; those with other weights are left as they are.

    Args:
        networks: of the same kind, at least one.
        num_stages: as of ``Trunk``.

    Raises:
        ConfigError: as ``Trunk``.
        ModelError: as ``Trunk``.
    """
    _put_under_those_that_fit(Trunk(networks[0], num_stages), networks[1:])


def join_trunks(networks: Sequence[nn.Module]) -> None:
    """Make one trunk of what networks have as their first stages, where one stands on a trunk.

    Those with other weights, and those on a trunk of other stages, are left as they are.
    """
    trunks = [(trunk_of(network), network) for network in networks]
    first = next((trunk for trunk, _ in trunks if trunk is not None), None)
    if first is not None:
        others = [n for t, n in trunks if t is None or t.num_stages == first.num_stages]
        _put_under_those_that_fit(first, others)


def trunk_of(network: nn.Module) -> Trunk | None:
    """Return the trunk that ``network`` stands on, if it does on any."""
    first = getattr(network, "normalization", None)
    return first.trunk if isinstance(first, SharedModule) else None


def _put_under_those_that_fit(trunk: Trunk, networks: Sequence[nn.Module]) -> None:
    for network in networks:
        if trunk.has_weights_of(network):
            trunk.put_under(network)


def require_stages(backbone: str, num_stages: int) -> None:
    """Refuse more shared stages than the timm model ``backbone`` has, without making its weights.

    Raises:
        ConfigError: there are fewer.
        ModelError: timm has no such model.
    """
    _end_of(blank_network(backbone), backbone, num_stages)


class SharedModule(nn.Module):
    """What a module of a trunk becomes, beside the kind that it is (``_shared_kind``)."""

    trunk: Trunk

    def forward(self, *inputs: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever it takes
        """Compute, or repeat what was computed in this pass."""
        return self.trunk.output(self, inputs[0], partial(super().forward, *inputs, **options))

    def train(self, mode: bool = True) -> "SharedModule":
        """Stay in evaluation mode."""
        return super().train(False)

    def __deepcopy__(self, memo: dict[int, object]) -> "SharedModule":
        return self


@cache
def _shared_kind(kind: Any) -> Any:  # noqa: ANN401 - a class of modules
    # As torch's own parametrizations do: a module of another class, its tensors and keys its own.
    return type(f"Shared{kind.__name__}", (SharedModule, kind), {})


def _make_shared(module: nn.Module, trunk: Trunk) -> None:
    if not isinstance(module, SharedModule):
        module.__class__ = _shared_kind(cast(Any, type(module)))
    module.__dict__["trunk"] = trunk
    module.eval().requires_grad_(False)


def _parts_of(network: nn.Module) -> tuple[Classifier, Backbone]:
    if isinstance(network, Classifier) and isinstance(network.backbone, Backbone):
        return network, network.backbone
    raise ConfigError(
        f"{_KEY}: only networks on a timm backbone have stages to share, and this one is a "
        f"{type(network).__name__}; set {_KEY} to 0, or take a --model.backbone in place of "
        "model.factory."
    )


def stage_ends(network: nn.Module) -> list[str]:
    """Return the names of the modules that end the stages of a timm network, in order."""
    stages = getattr(network, "feature_info", None)
    entries: list[Any] = stages if isinstance(stages, list) else []
    # A stage without a module of its own (TResNet's stem) is part of the next.
    return [str(entry["module"]) for entry in entries if entry["module"]]


def _end_of(network: nn.Module, name: str, num_stages: int) -> str:
    """Return the name of the module that ends the trunk."""
    ends = stage_ends(network)
    if not ends:
        raise ConfigError(
            f"{_KEY} is {num_stages}, but timm names no stages of the backbone '{name}'; set it to "
            "0 or choose another backbone."
        )
    if num_stages > len(ends):
        raise ConfigError(
            f"{_KEY} is {num_stages}, but the backbone '{name}' has {len(ends)} stages "
            f"({', '.join(ends)})."
        )
    return ends[num_stages - 1]


def _trunk_modules(backbone: Backbone, end: str) -> list[str]:
    """Return the modules that are through when the module ``end`` is, the outermost of each.

    Found by a forward pass without memory or arithmetic (meta tensors): the order in which a
    network registers its modules is not always the one in which it calls them.

    Raises:
        ModelError: a module that learns is used before and after.
    """
    network = backbone.network
    blank = _on_meta(network)
    finished: dict[str, None] = {}
    used_later: set[str] = set()

    def called(name: str) -> Any:  # noqa: ANN401 - a hook
        return lambda *_: used_later.add(name) if end in finished else None

    def through(name: str) -> Any:  # noqa: ANN401 - a hook
        return lambda *_: finished.setdefault(name) if end not in finished else None

    for name, module in blank.named_modules():
        if name:
            module.register_forward_pre_hook(called(name))
            module.register_forward_hook(through(name))
    size = cast(Any, network).pretrained_cfg["input_size"]
    with torch.no_grad():
        cast(Any, blank.eval()).forward_features(torch.empty(1, *size, device="meta"))
    if end not in finished:  # it is a list of modules, that the network calls one by one
        raise ModelError(
            f"The first stages of the backbone '{backbone.name}' cannot be told from the rest: it "
            f"never calls '{end}', which timm names as the end of one. Set {_KEY} to 0 or choose "
            "another backbone."
        )
    for name in used_later & finished.keys():
        if any(True for _ in network.get_submodule(name).parameters()):
            raise ModelError(
                f"The first stages of the backbone '{backbone.name}' cannot be shared: its module "
                f"'{name}' is used in later stages too. Set {_KEY} to 0."
            )
    own = [name for name in finished if name not in used_later]
    return [name for name in own if not any(name.startswith(f"{other}.") for other in own)]


def _on_meta(network: nn.Module) -> nn.Module:
    """Return a copy of ``network`` whose tensors have no memory."""
    memo: dict[int, object] = {
        id(tensor): nn.Parameter(tensor.detach().to("meta"), requires_grad=False)
        for tensor in network.parameters()
    }
    memo |= {id(tensor): tensor.detach().to("meta") for tensor in network.buffers()}
    return copy.deepcopy(network, memo)
