"""A problem with the rows that do not count, and their texts, left out."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.terms.cores.interface import Problem


@dataclass(frozen=True)
class Kept:
    """Where the valid rows and their texts stood in the problem as it was given; None: everywhere."""

    rows: Tensor | None
    texts: Tensor | None
    given: tuple[int, int]  # N and M

    def restored(self, d_image: Tensor, d_text: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the valid rows among zero rows for the others."""
        return _placed(d_image, self.rows, self.given[0]), _placed(d_text, self.texts, self.given[1])


def valid_of(problem: Problem) -> tuple[Problem, Kept]:
    """In float32 or float64; every text has an owner, every weight is there or none is."""
    _check(problem)
    N, M = len(problem.image_ND), len(problem.text_MD)
    device, dtype = problem.image_ND.device, torch.promote_types(problem.image_ND.dtype, torch.float32)
    owner_M = torch.arange(M, device=device)
    owner_M[N:] = -1 if problem.owner_M is None else problem.owner_M[N:].to(device)
    rows, texts = None, None
    if problem.valid_N is not None:
        valid_N = problem.valid_N
        owner = owner_M.to(valid_N.device)
        # An index made where the mask is: on the CPU it costs a GPU no wait.
        rows = valid_N.nonzero().squeeze(1).to(device)
        texts = ((owner < 0) | valid_N[owner.clamp(min=0)] if N else owner < 0).nonzero().squeeze(1).to(device)
        moved_N = (torch.cumsum(valid_N, 0) - 1).to(device)
        owner_M = torch.where(owner_M < 0, owner_M, moved_N[owner_M.clamp(min=0)] if N else owner_M)
    kept = Kept(rows, texts, (N, M))
    valid = replace(
        problem,
        image_ND=_taken(problem.image_ND, rows).detach().to(dtype),
        text_MD=_taken(problem.text_MD, texts).detach().to(dtype),
        owner_M=_taken(owner_M, texts),
        image_weight_N=_optional(problem.image_weight_N, rows),
        text_weight_M=_optional(problem.text_weight_M, texts),
        valid_N=None,
        ids_N=_optional(problem.ids_N, rows),
        queue_ED=None if problem.queue_ED is None else problem.queue_ED.detach().to(dtype),
        row_fields=_fields(problem.row_fields, rows, N),
        text_fields=_fields(problem.text_fields, texts, M),
    )
    return valid, kept


def _check(problem: Problem) -> None:
    """A term that hands over shapes that do not fit is a mistake in the term."""
    N, M = len(problem.image_ND), len(problem.text_MD)
    E = 0 if problem.queue_ED is None else len(problem.queue_ED)
    lengths = {
        "owner_M": (problem.owner_M, (M,)),
        "image_weight_N": (problem.image_weight_N, (N,)),
        "text_weight_M": (problem.text_weight_M, (M,)),
        "valid_N": (problem.valid_N, (N,)),
        "ids_N": (problem.ids_N, (N,)),
        "queue_ids_E": (problem.queue_ids_E, (E,)),
        **{f"row_fields[{name}]": (value, (N, N + E)) for name, value in problem.row_fields.items()},
        **{f"text_fields[{name}]": (value, (M,)) for name, value in problem.text_fields.items()},
    }
    wrong = [name for name, (value, allowed) in lengths.items() if value is not None and len(value) not in allowed]
    if wrong or M < N or problem.image_ND.shape[1:] != problem.text_MD.shape[1:]:
        shapes = f"{tuple(problem.image_ND.shape)} images, {tuple(problem.text_MD.shape)} texts, {E} queued"
        raise ValueError(f"a contrastive problem of {shapes}: {wrong or 'texts'} do not fit")


def _taken(tensor: Tensor, index: Tensor | None) -> Tensor:
    return tensor if index is None else tensor[index.to(tensor.device)]


def _optional(tensor: Tensor | None, index: Tensor | None) -> Tensor | None:
    return None if tensor is None else _taken(tensor, index)


def _fields(fields: Mapping[str, Tensor], index: Tensor | None, count: int) -> dict[str, Tensor]:
    """Those of the rows that are kept, and all of the queue's."""
    if index is None:
        return dict(fields)
    return {name: torch.cat([_taken(value[:count], index), value[count:]]) for name, value in fields.items()}


def _placed(kept_VD: Tensor, index: Tensor | None, count: int) -> Tensor:
    if index is None:
        return kept_VD
    out_ND = kept_VD.new_zeros((count, kept_VD.shape[1]))
    out_ND[index] = kept_VD
    return out_ND
