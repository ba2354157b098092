"""What the engines' topology-free state has in common: checks on loading, and the towers' persistent buffers."""

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from pipeline.errors import DataError
from training.ranks.peers import Peers


def checked(
    name: str, tensors: dict[str, Tensor], shape: tuple[int, ...], moments: Iterable[str], main: str = "param"
) -> dict[str, Tensor]:
    """`main` and `moments` (absent: zeros) of `tensors`, or DataError when one is missing or of another shape."""
    if main not in tensors:
        raise DataError(f"checkpoint, {name}", f"holds {sorted(tensors)}", f"a tensor '{main}'")
    wanted = {main: tensors[main]}
    for key in moments:
        wanted[key] = tensors[key] if key in tensors else torch.zeros(shape)
    for key, tensor in wanted.items():
        if tuple(tensor.shape) != shape:
            raise DataError(
                f"checkpoint, {name}/{key}",
                f"has shape {tuple(tensor.shape)}",
                f"these towers have {shape}",
                "resume with the train.model the checkpoint was made with",
            )
    return wanted


def whole_of(peers: Peers, shape: tuple[int, ...], start: int, part: Tensor) -> Tensor:
    """On every rank, on the CPU: a tensor of which each element is in the flat `part` of one rank. Collective."""
    whole = torch.zeros(math.prod(shape), dtype=part.dtype, device=part.device)
    whole[start : start + part.numel()] = part
    # Summing the bits as integers keeps them all, the sign of a zero included.
    bits = whole.view({4: torch.int32, 8: torch.int64}[part.element_size()])
    return peers.all_sum(bits).view(part.dtype).reshape(shape).cpu()


def persistent_buffers(towers: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Buffers that belong to the model (running statistics), not those it can rebuild (masks)."""
    kept = towers.state_dict().keys()
    return ((name, buffer) for name, buffer in towers.named_buffers() if name in kept)


def buffers_of(towers: nn.Module, peers: Peers) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Rank 0's buffers, on every rank: running statistics differ between ranks, and one of them must win."""
    for name, buffer in persistent_buffers(towers):
        yield name, {"buffer": peers.broadcast(buffer.detach().clone()).cpu()}


def load_buffers(towers: nn.Module, get: Callable[[str], dict[str, Tensor]]) -> None:
    for name, buffer in persistent_buffers(towers):
        buffer.copy_(checked(name, get(name), tuple(buffer.shape), (), main="buffer")["buffer"])
