"""Whether every stage of a run can be carried out: looked at before its first step, not when its turn comes."""

import torch

from pipeline.settings import digest_of
from training.engine.update.groups import groups_of
from training.plan.plan import Plan
from training.reader.order import Order
from training.reader.pairs import Pairs
from training.surgery.fit import Shapes, can_fit
from training.terms.cores.scores.works import check_kernel
from training.towers.towers import Towers


def check_kernels(plan: Plan, device: str) -> None:
    """RecipeError where a term asks for kernels that this sort of device does not run."""
    for settings in plan.every:
        for term in settings.loss:
            check_kernel(term.called, getattr(term, "kernel", "torch"), device)


def check_stages(plan: Plan, pairs: Pairs, seed: int) -> None:
    """RecipeError or DataError for sizes that no surgery reaches, batches that do not fit the lanes or the data, and
    optimizers that do not fit the towers. Towers are built without memory: shapes alone count."""
    before: Shapes | None = None
    built: dict[str, Towers] = {}
    for number, settings in enumerate(plan.every):
        Order(pairs.shard_pairs, seed=seed, global_batch=settings.batch.global_pairs, lanes=plan.lanes)
        key = digest_of([settings.model, [repr(one) for one in (*settings.scalars, *settings.heads)]])
        if key not in built:
            bare = {"pretrained": None, "image_pretrained": None, "text_pretrained": None}
            alike = settings.model_copy(update={"model": settings.model.model_copy(update=bare)})
            with torch.device("meta"):
                built[key] = alike.towers(0)
        groups_of(built[key], settings.optimizer)
        shapes = {name: tuple(tensor.shape) for name, tensor in built[key].state_dict().items()}
        if number:
            can_fit(before or {}, shapes)
        before = shapes
