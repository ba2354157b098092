"""Contrastive losses as a textbook writes them: all scores of all ranks at once, autograd, float64, nothing of ours.

Letters: N images of a rank, E queued ones, M texts; G rows and H columns of the whole step; D features.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from training.terms.cores.interface import CoreOutput, Problem


@dataclass
class Whole:
    """The step of all ranks: rows are each rank's valid images, then its queue; columns its texts that count."""

    images: list[Tensor]  # leaves, per rank as given
    texts: list[Tensor]
    log_scale: Tensor
    bias: Tensor
    row_GD: Tensor
    text_HD: Tensor
    owner_H: Tensor  # global row, -1
    first_H: Tensor  # bool: its row's first text
    row_weight_G: Tensor
    text_weight_H: Tensor
    same_GH: Tensor  # bool: the row and the row that owns the column have one id
    row_fields: dict[str, Tensor]
    text_fields: dict[str, Tensor]

    @property
    def own_GH(self) -> Tensor:
        return self.owner_H == torch.arange(len(self.row_GD))[:, None]

    @property
    def scores_GH(self) -> Tensor:
        return self.log_scale.exp() * self.row_GD @ self.text_HD.T


def whole_of(problems: list[Problem]) -> Whole:
    def leaf(tensor: Tensor) -> Tensor:
        return tensor.detach().double().clone().requires_grad_()

    images, texts = [leaf(p.image_ND) for p in problems], [leaf(p.text_MD) for p in problems]
    rows, columns, owners, firsts, u, v, ids = [], [], [], [], [], [], []
    row_fields: dict[str, list[Tensor]] = {}
    text_fields: dict[str, list[Tensor]] = {}
    unnamed = 10**6  # of rows without an id: each has its own
    start = 0
    for problem, image_ND, text_MD in zip(problems, images, texts, strict=True):
        N, M = len(image_ND), len(text_MD)
        valid = [True] * N if problem.valid_N is None else problem.valid_N.tolist()
        place = {i: start + k for k, i in enumerate(i for i in range(N) if valid[i])}
        owner = [*range(N), *([-1] * (M - N) if problem.owner_M is None else problem.owner_M.tolist()[N:])]
        kept = [j for j in range(M) if owner[j] < 0 or valid[owner[j]]]
        queue = torch.zeros(0, image_ND.shape[1]) if problem.queue_ED is None else problem.queue_ED
        rows += [image_ND[list(place)], queue.double()]
        columns.append(text_MD[kept])
        owners += [place.get(owner[j], -1) for j in kept]
        firsts += [j < N for j in kept]
        u += [1.0 if problem.image_weight_N is None else float(problem.image_weight_N[i]) for i in place]
        u += [0.0] * len(queue)
        for j in kept:
            weight = 1.0 if problem.text_weight_M is None else float(problem.text_weight_M[j])
            v.append(weight if owner[j] >= 0 else 0.0)
        for i in place:
            unnamed += 1
            ids.append(unnamed if problem.ids_N is None else int(problem.ids_N[i]))
        for i in range(len(queue)):
            unnamed += 1
            ids.append(unnamed if problem.queue_ids_E is None else int(problem.queue_ids_E[i]))
        for name, field in problem.row_fields.items():
            row_fields.setdefault(name, []).append(torch.cat([field[list(place)], field[N:]]))
        for name, field in problem.text_fields.items():
            text_fields.setdefault(name, []).append(field[kept])
        start += len(place) + len(queue)
    owner_H, id_G = torch.tensor(owners, dtype=torch.int64), torch.tensor(ids, dtype=torch.int64)
    same_GH = (id_G[:, None] == id_G[owner_H.clamp(min=0)]) & (owner_H >= 0)
    return Whole(
        images,
        texts,
        leaf(problems[0].log_scale),
        leaf(torch.zeros(1) if problems[0].bias is None else problems[0].bias),
        torch.cat(rows),
        torch.cat(columns),
        owner_H,
        torch.tensor(firsts, dtype=torch.bool),
        torch.tensor(u, dtype=torch.float64),
        torch.tensor(v, dtype=torch.float64),
        same_GH,
        {name: torch.cat(parts) for name, parts in row_fields.items()},
        {name: torch.cat(parts) for name, parts in text_fields.items()},
    )


@dataclass
class Wanted:
    """A target as the oracle takes it: two full distributions, of rows over columns and of columns over rows."""

    of_rows_GH: Tensor
    of_columns_GH: Tensor


def one_hot(whole: Whole) -> Wanted:
    return Wanted((whole.own_GH & whole.first_H).double(), whole.own_GH.double())


def spread_out(
    whole: Whole, off_rows_GH: Tensor, off_columns_GH: Tensor, smoothing: float = 0.0, many: bool = True
) -> Wanted:
    """What is wanted of rivals, and the rest of the pair itself: nothing of what is masked."""
    own_GH = whole.own_GH
    rival_GH = ~own_GH & ~whole.same_GH
    answer_GH = (own_GH if many else own_GH & whole.first_H).double()
    (G, H), keep = own_GH.shape, 1 - smoothing
    rows = (off_rows_GH * keep + smoothing / H) * rival_GH
    columns = (off_columns_GH * keep + smoothing / G) * rival_GH
    answer_rows = answer_GH / answer_GH.sum(1, keepdim=True).clamp(min=1)
    rows = rows + answer_rows * (1 - rows.sum(1, keepdim=True))
    return Wanted(rows, columns + own_GH * (1 - columns.sum(0, keepdim=True)))


def equal_labels(whole: Whole) -> Tensor:
    label_G = whole.row_fields["label"]
    label_H = torch.where(whole.owner_H < 0, -1, label_G[whole.owner_H.clamp(min=0)])
    return ((label_G[:, None] == label_H) & (label_G >= 0)[:, None]).double()


def softened(whole: Whole, row_GF: Tensor, text_HF: Tensor, scale: float, share: float) -> tuple[Tensor, Tensor]:
    """Softmax of other features' scores, twins left out, both ways."""
    scores_GH = (scale * row_GF.double() @ text_HF.double().T).detach()
    scores_GH = scores_GH.masked_fill(whole.same_GH & ~whole.own_GH, -torch.inf)
    return share * scores_GH.softmax(1), share * scores_GH.softmax(0)


def mean(value: Tensor, weight: Tensor) -> Tensor:
    return (value * weight).sum() / weight.sum() if weight.sum() > 0 else (value * weight).sum()


def softmax_parts(
    whole: Whole, target: Callable[[Whole], Wanted] = one_hot, many: bool = False, margin: float = 0.0
) -> tuple[Tensor, Tensor]:
    """(loss_i2t, loss_t2i). `many`: all texts of a row are among its answers, not its first alone."""
    own_GH, twin_GH = whole.own_GH, whole.same_GH & ~whole.own_GH
    scores_GH = whole.scores_GH - margin * own_GH.double()
    hidden_GH = twin_GH if many else twin_GH | (own_GH & ~whole.first_H)
    want = target(whole)
    row_log = F.log_softmax(scores_GH.masked_fill(hidden_GH, -torch.inf), 1).masked_fill(hidden_GH, 0)
    column_log = F.log_softmax(scores_GH.masked_fill(twin_GH, -torch.inf), 0).masked_fill(twin_GH, 0)
    i2t_G, t2i_H = -(want.of_rows_GH * row_log).sum(1), -(want.of_columns_GH * column_log).sum(0)
    return mean(i2t_G, whole.row_weight_G), mean(t2i_H, whole.text_weight_H)


def each_parts(whole: Whole) -> tuple[Tensor, Tensor]:
    """The mean over a row's texts of what each would have alone among texts that are not the row's."""
    own_GH, scores_GH = whole.own_GH, whole.scores_GH
    rival_G = scores_GH.masked_fill(whole.same_GH | own_GH, -torch.inf).logsumexp(1, keepdim=True)
    each_GH = torch.logaddexp(rival_G, scores_GH) - scores_GH
    i2t_G = (each_GH * own_GH).sum(1) / own_GH.sum(1).clamp(min=1)
    return mean(i2t_G, whole.row_weight_G), softmax_parts(whole)[1]


def sigmoid_parts(
    whole: Whole,
    match: Callable[[Whole], Tensor] | None = None,
    smoothing: float = 0.0,
    margins: tuple[float, float] = (0.0, 0.0),
) -> tuple[Tensor, Tensor]:
    own_GH, twin_GH = whole.own_GH, whole.same_GH & ~whole.own_GH
    scores_GH = whole.scores_GH + whole.bias + torch.where(own_GH, -margins[0], margins[1])
    want_GH = own_GH.double() if match is None else torch.where(own_GH, 1.0, match(whole))
    want_GH = want_GH * (1 - smoothing) + smoothing / 2
    loss_GH = -(want_GH * F.logsigmoid(scores_GH) + (1 - want_GH) * F.logsigmoid(-scores_GH))
    loss_GH = loss_GH.masked_fill(twin_GH, 0)
    return mean(loss_GH.sum(1), whole.row_weight_G), mean(loss_GH.sum(0), whole.text_weight_H)


def hits(whole: Whole, many: bool) -> tuple[Tensor, Tensor]:
    """Accuracy of rows and of columns: the own score (`many`: the best of them) is above every rival's."""
    own_GH, scores_GH = whole.own_GH, whole.scores_GH
    own = scores_GH.masked_fill(~own_GH, -torch.inf)
    rival = scores_GH.masked_fill(own_GH | whole.same_GH, -torch.inf)
    best = own if many else own.masked_fill(~whole.first_H, -torch.inf)
    rows = (best.amax(1) > rival.amax(1)).double()
    columns = (own.amax(0) > rival.amax(0)).double()
    return mean(rows, whole.row_weight_G), mean(columns, whole.text_weight_H)


def check(
    outputs: list[CoreOutput], whole: Whole, parts: tuple[Tensor, Tensor], tolerance: float = 1e-9, bias: bool = False
) -> None:
    """Every rank's value, metrics and gradients, relative to the largest gradient (or to 1e-3 where all are tiny)."""
    value = (parts[0] + parts[1]) / 2
    leaves = [*whole.images, *whole.texts, whole.log_scale, whole.bias]
    found = torch.autograd.grad(value, leaves, allow_unused=True)
    *grads, d_scale, d_bias = [torch.zeros_like(a) if g is None else g for a, g in zip(leaves, found, strict=True)]
    W = len(outputs)
    for output in outputs:
        near(output.value, value, tolerance)
        near(output.d_log_scale.reshape(-1), d_scale.reshape(-1), tolerance)
        if bias:
            assert output.d_bias is not None
            near(output.d_bias.reshape(-1), d_bias.reshape(-1), tolerance)
        near(output.metrics["loss_i2t"], parts[0], tolerance)
        near(output.metrics["loss_t2i"], parts[1], tolerance)
        assert output.metrics["pairs"] == sum(int(first) for first in whole.first_H)
    for got, wanted in (
        (torch.cat([output.d_image_ND for output in outputs]), torch.cat(grads[:W])),
        (torch.cat([output.d_text_MD for output in outputs]), torch.cat(grads[W:])),
    ):
        near(got, wanted, tolerance)


def near(got: Tensor, wanted: Tensor, tolerance: float) -> None:
    wanted = wanted.detach()
    assert got.shape == wanted.shape
    if wanted.numel():
        most = (got.double() - wanted).abs().max()
        assert most <= tolerance * max(wanted.abs().max().item(), 1e-3), (float(most), wanted.abs().max().item())


def problems_of(
    counts: list[int], traits: set[str], seed: int = 0, dtype: torch.dtype = torch.float64, width: int = 5
) -> list[Problem]:
    """A made-up step: `traits` of "masked", "twins", "extra" (texts; "owned": none of them nobody's), "queue",
    "weights"; ranks of `counts` rows."""
    made = torch.Generator().manual_seed(seed + 1000 * len(counts))

    def unit(rows: int) -> Tensor:
        return F.normalize(torch.randn(rows, width, generator=made, dtype=torch.float64), dim=-1).to(dtype)

    problems = []
    for rank, N in enumerate(counts):
        extras = (2 * N + 1) if "extra" in traits and rank != 2 else 0
        extras = 0 if "owned" in traits and not N else extras
        E = (3 if rank % 2 == 0 else 0) if "queue" in traits else 0
        M = N + extras
        owner_M = torch.randint(-1, N, (M,), generator=made) if N else torch.full((M,), -1)
        if "owned" in traits and N:
            owner_M = torch.randint(0, N, (M,), generator=made)
        owner_M[:N] = torch.arange(N)
        problem = Problem(
            unit(N),
            unit(M),
            torch.tensor([2.2], dtype=dtype),
            torch.tensor([-2.5], dtype=dtype),
            owner_M=owner_M if "extra" in traits else None,
            row_fields={"label": torch.randint(0, 3, (N + E,), generator=made), "teacher.image": unit(N + E)},
            text_fields={"teacher.text": unit(M)},
        )
        if "masked" in traits:
            problem = replace(problem, valid_N=torch.rand(N, generator=made) < 0.7 if rank else torch.arange(N) != 1)
        if "twins" in traits:
            problem = replace(problem, ids_N=torch.randint(0, 5, (N,), generator=made))
        if "queue" in traits:
            problem = replace(problem, queue_ED=unit(E))
            if "twins" in traits:
                problem = replace(problem, queue_ids_E=torch.randint(0, 5, (E,), generator=made))
        if "weights" in traits:
            weights = torch.rand(2, M, generator=made).to(dtype) + 0.1
            weights[0, :1] = 0
            problem = replace(problem, image_weight_N=weights[0, :N], text_weight_M=weights[1])
        problems.append(problem)
    return problems
