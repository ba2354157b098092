"""What operations compute, move and hold, counted while they run: on tensors that have shapes and no memory, too."""

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

_ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
_EVALUATED = "_native_multi_head_attention"  # of nn.MultiheadAttention without a graph, its four projections included
_ROWS_ONLY = ("aten::embedding",)  # they read of the table what they give, and no more


class Operation(NamedTuple):
    """FLOPs of matrix products, and bytes read and written; `half`: computed in 16 bits."""

    flops: int
    bytes: int
    half: bool


@dataclass(frozen=True)
class Work:
    """How often each operation runs."""

    operations: tuple[tuple[Operation, int], ...] = ()

    @property
    def flops(self) -> int:
        return sum(each.flops * number for each, number in self.operations)

    @property
    def number(self) -> int:
        return sum(number for _, number in self.operations)

    @property
    def bytes(self) -> int:
        return sum(each.bytes * number for each, number in self.operations)


class Watch(TorchDispatchMode):
    """Counts what runs inside. `live` and `peak`: bytes of storages made inside that are (were at most) alive; those of
    `known` tensors are never counted. Views cost nothing.

    Memory that a kernel uses for itself alone is not seen."""

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self._known = [tensor.untyped_storage() for tensor in known]
        self._held: dict[int, Any] = {storage._cdata: storage for storage in self._known}
        self._counts: Counter[Operation] = Counter()
        self.live = self.peak = 0

    def taken(self) -> Work:
        """What ran since this was last asked."""
        counts, self._counts = self._counts, Counter()
        return Work(tuple(counts.items()))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        made = list(_tensors(found))
        for tensor in made:
            self._note(tensor)
        if made and not _is_view(func):
            read = list(_tensors((args, kwargs or {})))
            size = _bytes(made) + _bytes(made if func._schema.name in _ROWS_ONLY else read)
            half = any(tensor.dtype in (torch.bfloat16, torch.float16) for tensor in read)
            self._counts[Operation(_flops(func, args, kwargs or {}, found), size, half)] += 1
        return found

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._held:
            return

        def gone(_: Any) -> None:
            if self._held.pop(key, None) is not None:
                self.live -= size

        self._held[key] = weakref.ref(storage, gone)
        self.live += size
        self.peak = max(self.peak, self.live)


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _is_view(func: Any) -> bool:
    returns = [each.alias_info for each in func._schema.returns]
    return (
        any(alias is not None and not alias.is_write for alias in returns) or func._schema.name == "aten::_unsafe_view"
    )


def _flops(func: Any, args: Any, kwargs: Any, found: Any) -> int:
    count = flop_registry.get(func._overloadpacket)
    if count is not None:
        return int(count(*args, **kwargs, out_val=found))
    name = func._schema.name.removeprefix("aten::")
    if name == _ATTENTION:
        return _attention(*args[:3])
    if name == _ATTENTION + "_backward":  # scores once more, then four products of their size (Dao et al., 2022)
        return 5 * _attention(*args[1:4]) // 2
    if name == _EVALUATED:
        rows, length, width = args[0].shape
        return 2 * rows * length * width * (4 * width + 2 * length)
    return 0


def _attention(query: Tensor, key: Tensor, value: Tensor) -> int:
    """Scores, and what they weigh; [N, heads, length, width] each."""
    rows, heads, length, width = query.shape
    return 2 * rows * heads * length * key.shape[2] * (width + value.shape[3])
