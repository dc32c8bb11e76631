"""Where the residual branches of a network open, found by what it computes.

One pass on shapes alone (PyTorch's meta device) follows the tensors from the input to every
addition. y = s(x) + f(x) is a residual block where s is x itself, or x after one layer (a
projection), and f has more layers; pooling, norms, stochastic depth and layer scale do not matter,
nor do names. A temporal module goes

- before the first convolution or linear map of f, if all of f passes through it and it is given
  frame by frame features;
- else (several layers side by side as q, k and v; attention as one function; windows in place of
  frames) behind the layer norm that opens f.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gtdnet.errors import InputError
from gtdnet.nn.layers import KINDS, TemporalLayer, channels_of, is_norm
from gtdnet.text import first_of

FRAMES = 7
"""Of the pass: no other axis of a network is likely to have this length."""

SIZES = (224, 256, 384, 32)
"""Sides of the frames that are tried until the network takes them."""


def open_branches(network: nn.Module) -> list[str]:
    """The names of the layers that open the residual branches, in network order.

    Raises:
        ValueError: there are none, the network does not run on frames alone, or a branch has no
            layer that a temporal module could stand at.
    """
    return list(find_blocks(network))


def find_blocks(network: nn.Module) -> dict[str, str]:
    """:func:`open_branches`, and of each layer its block: the name of the module that adds.

    Raises:
        ValueError: as there.
    """
    what = type(network).__name__
    graph = _trace(network)
    found, unclear = dict[str, str](), list[_Branch]()
    branches = list(graph.branches())
    for branch in branches:
        if site := graph.site(branch):
            found.setdefault(site, branch.block)
        elif not graph.opens(branch):
            continue  # nothing is learned of maps in it: a normalisation that adds its input
        elif not any(other is not branch and other.end in branch.body for other in branches):
            unclear.append(branch)  # a branch made of other blocks has its sites in these
    names = {name: found[name] for name, _ in network.named_modules() if name in found}
    if unclear:
        others = f"; those found are {first_of(names, 3)}" if names else ""
        raise InputError(
            f"{what}: the residual branch that {unclear[0].place} adds opens with "
            f"{graph.openers_in_words(unclear[0])}, so that no one place is its first; say where "
            f"temporal modules go by sites= (names or patterns){others}"
        )
    if not names:
        raise InputError(
            f"{what} adds no residual branch to what the branch began with; name the layers "
            f"before which temporal modules go by sites=, e.g. sites='layers.*.conv'"
        )
    return names


# ------------------------------------------------------------------------------------ what is seen


@dataclass
class _Node:
    """A tensor that depends on the input.

    Attributes:
        inputs: the nodes that it was made of.
        shape: its own.
        layer: the name of the Conv2d, Linear or norm that made it; "" for any other operation.
        is_norm: whether that is a norm.
        is_learned: made by weights: a layer, or a function of weights.
        is_cut: a part of its input, or of several tensors made one: no shortcut passes here.
        place: the module in which it was made.
        operands: of an addition of two tensors that depend on the input, their nodes.
    """

    inputs: tuple[int, ...]
    shape: torch.Size
    place: str
    layer: str = ""
    is_norm: bool = False
    is_learned: bool = False
    is_cut: bool = False
    operands: tuple[int, int] | None = None


@dataclass(frozen=True)
class _Branch:
    fork: int  # x
    end: int  # f(x)
    body: frozenset[int]  # all between, and the end
    block: str  # the module that adds

    @property
    def place(self) -> str:
        """That module, for a message."""
        return self.block or "the network itself"


_SUMS = {"add", "add_", "sub", "sub_", "addcmul", "addcmul_"}
_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "convolution", "linear", "matmul"}
_PARTS = {"split", "split_with_sizes", "unbind", "select", "chunk", "index_select", "gather"}


class _Watch(TorchDispatchMode):
    """While entered, notes what becomes of the input."""

    def __init__(self, network: nn.Module, frames: Tensor) -> None:
        super().__init__()
        self.nodes = [_Node((), frames.shape, "")]
        self.calls: Counter[str] = Counter()
        self._node_of = {id(frames): 0}
        self._weights = {id(w) for w in (*network.parameters(), *network.buffers())}
        self._alive: list[Any] = [frames]  # no other tensor gets the identity of one
        self._places: list[str] = []
        self._inside = 0  # layers that are computing
        for name, module in network.named_modules():
            is_layer = isinstance(module, KINDS)
            module.register_forward_pre_hook(self._enters(name, is_layer), with_kwargs=True)
            module.register_forward_hook(self._leaves(name, is_layer), with_kwargs=True)

    def _enters(self, name: str, is_layer: bool) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            self._places.append(name)
            self._inside += is_layer

        return hook

    def _leaves(self, name: str, is_layer: bool) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
            self._places.pop()
            self._inside -= is_layer
            if is_layer and not self._inside:
                self.calls[name] += 1
                norm = is_norm(module)
                self._note(_tensors((args, kwargs)), _tensors(out), name, norm, not norm)

        return hook

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if self._inside:
            return out
        name = func.overloadpacket.__name__
        taken, given = _tensors((args, kwargs)), _tensors(out)
        of_weights = any(id(t) in self._weights and t.ndim > 1 for t in taken)
        if not any(id(t) in self._node_of for t in taken):
            if taken and all(id(t) in self._weights for t in taken):
                self._weights.update(map(id, given))
                self._alive += given
            return out
        operands = None
        if name in _SUMS and len(taken) > 1:
            both = [self._node_of.get(id(t)) for t in (taken[0], *taken[1:])]
            known = [n for n in both[1:] if n is not None]
            if both[0] is not None and known:
                operands = both[0], known[-1]
        is_cut = name in _PARTS or (name == "slice" and (args[1:2] or (0,))[0] == 1)
        is_learned = of_weights and name in _PRODUCTS
        self._note(taken, given, "", False, is_learned, is_cut, operands)
        return out

    def _note(
        self,
        taken: Sequence[Tensor],
        given: Sequence[Tensor],
        layer: str,
        is_norm: bool,
        is_learned: bool,
        is_cut: bool = False,
        operands: tuple[int, int] | None = None,
    ) -> None:
        inputs = {self._node_of[id(t)] for t in taken if id(t) in self._node_of}
        if not inputs:
            return
        is_cut = is_cut or (len(inputs) > 1 and operands is None)
        place = self._places[-1] if self._places else ""
        for tensor in given:
            self._node_of[id(tensor)] = len(self.nodes)
            self.nodes.append(
                _Node(
                    tuple(sorted(inputs)), tensor.shape, place, layer, is_norm, is_learned, is_cut,
                    operands,
                )
            )  # fmt: skip
        self._alive += given


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _trace(network: nn.Module) -> _Graph:
    """One pass of frames through a copy without weights."""
    first = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
    channels = 3 if first is None else first.in_channels
    failure: Exception | None = None
    for size in SIZES:
        shadow = _shadow(network)
        frames = torch.empty(FRAMES, channels, size, size, device="meta")
        watch = _Watch(shadow, frames)
        try:
            with torch.no_grad(), torch.device("meta"), watch:
                shadow(frames)
        except Exception as error:  # whatever a foreign network raises
            failure = failure or error
            continue
        return _Graph(network, watch.nodes, watch.calls)
    reason = f"{type(failure).__name__}: {failure}".partition("\n")[0][:200]
    raise InputError(
        f"{type(network).__name__} does not run on frames [N, {channels}, {SIZES[0]}, {SIZES[0]}] "
        f"alone, which would show its residual branches ({reason}); say where temporal modules go "
        f"by sites= (names or patterns)"
    )


def _shadow(network: nn.Module) -> nn.Module:
    """A copy on the meta device, in eval mode; no weight is copied, no temporal module works."""
    memo: dict[int, Any] = {
        id(p): nn.Parameter(p.detach().to("meta"), requires_grad=False)
        for p in network.parameters()
    }
    memo |= {id(buffer): buffer.to("meta") for buffer in network.buffers()}
    shadow = copy.deepcopy(network, memo).eval()
    for module in list(shadow.modules()):
        if isinstance(module, TemporalLayer):
            module.temporal = nn.Identity()
    return shadow


# --------------------------------------------------------------------------------- what it means

_FAR = 1000
"""More layers than any shortcut has."""


class _Graph:
    def __init__(
        self, network: nn.Module, nodes: Sequence[_Node], calls: Mapping[str, int]
    ) -> None:
        self.network, self.nodes, self.calls = network, nodes, calls
        self._before: list[int] = []  # of each node a bit set of those it depends on, and itself
        for number, node in enumerate(nodes):
            bits = 1 << number
            for i in node.inputs:
                bits |= self._before[i]
            self._before.append(bits)

    def branches(self) -> Iterator[_Branch]:
        """All y = s(x) + f(x)."""
        for node in self.nodes:
            if node.operands is None:
                continue
            a, b = node.operands
            common = self._before[a] & self._before[b]
            fork = common.bit_length() - 1
            while fork >= 0:
                layers = self._layers_from(fork, max(a, b))
                (short, _), (many, end) = sorted((layers[i], i) for i in (a, b))
                if short < many and short <= 1:
                    body = frozenset(
                        i
                        for i in range(fork + 1, end + 1)
                        if self._before[i] >> fork & 1 and self._before[end] >> i & 1
                    )
                    yield _Branch(fork, end, body, node.place)
                    break
                above = self.nodes[fork]  # a norm that both sides share is no fork
                fork = above.inputs[0] if len(above.inputs) == 1 and not above.is_learned else -1

    def _layers_from(self, fork: int, end: int) -> dict[int, int]:
        """For every node up to ``end`` the fewest layers on a path from ``fork`` to it."""
        layers = {fork: 0}
        for number in range(fork + 1, end + 1):
            node = self.nodes[number]
            before = [layers[i] for i in node.inputs if i in layers]
            if before:
                layers[number] = min(before) + node.is_learned + _FAR * node.is_cut
        return layers

    def site(self, branch: _Branch) -> str | None:
        """The layer where a temporal module of the branch stands."""
        openers = self._reached(branch)
        if len(openers) == 1:
            (opener,) = (self.nodes[i] for i in openers)
            if opener.layer and self._is_by_frames(opener.layer, opener.inputs[0]):
                return opener.layer
        for number in sorted(branch.body, reverse=True):
            node = self.nodes[number]
            if node.is_norm and number <= min(openers, default=-1):
                is_open = not self._reached(branch, without=number)
                if is_open and self._is_by_frames(node.layer, number):
                    return node.layer
        return None

    def opens(self, branch: _Branch) -> bool:
        """Whether there is anything in the branch that is made by weights."""
        return bool(self._reached(branch))

    def _reached(self, branch: _Branch, without: int = -1) -> set[int]:
        """The first nodes made by weights on all ways from the fork."""
        on_the_way, openers = {branch.fork}, set[int]()
        for number in sorted(branch.body):
            node = self.nodes[number]
            if number == without or on_the_way.isdisjoint(node.inputs):
                continue
            (openers if node.is_learned else on_the_way).add(number)
        return openers

    def _is_by_frames(self, name: str, features: int) -> bool:
        """Whether the layer is called once, and its features are [N*T, ...] with its channels."""
        layer, shape = self.network.get_submodule(name), self.nodes[features].shape
        is_map = isinstance(layer, nn.Conv2d)
        axes = (4,) if is_map else (2, 3, 4)
        has_frames = len(shape) in axes and shape[0] == FRAMES and self.calls[name] == 1
        return has_frames and shape[1 if is_map else -1] == channels_of(layer)

    def openers_in_words(self, branch: _Branch) -> str:
        """What opens a branch, for a message."""
        openers = [self.nodes[i] for i in sorted(self._reached(branch))]
        named = [n.layer or f"a function of weights in {n.place or 'the network'}" for n in openers]
        few = " and ".join(dict.fromkeys(named)) if len(named) < 4 else f"{len(named)} layers"
        return few if len(named) > 1 else f"{few}, which is not called once on [N*T, ...]"
