"""Both halves together: hours of devices, money, storage; and what else a person is told."""

from dataclasses import asdict
from typing import Any

from pipeline.errors import RecipeError
from pipeline.outputs import CHECKPOINTS, METRICS
from pipeline.plan.devices import Cluster
from pipeline.plan.found import CurationPlan, Note, Plan, TrainPlan

FORMAT_VERSION = 1
_LOG_LINE = 700  # bytes of a step in metrics.jsonl


def composed(
    name: str, cluster: Cluster, found_curation: CurationPlan | Note | None, found_training: TrainPlan | Note | None
) -> Plan:
    """Of what the halves have foretold; a note stands for one that could not be. RecipeError: there is neither."""
    if found_curation is None and found_training is None:
        raise RecipeError(name, "has neither curate nor train", "a plan needs one of them", "clipmill recipes")
    notes = tuple(each for each in (found_curation, found_training) if isinstance(each, Note))
    curation = None if isinstance(found_curation, Note) else found_curation
    training = None if isinstance(found_training, Note) else found_training
    gpu_hours = training.total_s / 3600 * cluster.ranks if training else 0.0
    stored: dict[str, int] = {}
    if curation:
        stored["pool and working folder"] = curation.bytes
    if training:
        if training.data_bytes is not None:
            stored["shards"] = training.data_bytes
        stored[CHECKPOINTS] = training.save.kept_bytes
        stored[METRICS] = _LOG_LINE * sum(each.steps for each in training.stages)
    said = {
        "nodes": cluster.nodes,
        "per_node": cluster.per_node,
        "ranks": cluster.ranks,
        "price": cluster.price,
        "storage_gb_s": cluster.storage_gb_s,
        "cores": cluster.cores,
        "wire_gb_s": cluster.wire_gb_s,
        "used": cluster.used,
        "device": cluster.device.name,
        "in_words": cluster.in_words(),
    }
    money = None if cluster.price is None or training is None else cluster.price * gpu_hours
    return Plan(name, said, curation, training, gpu_hours, money, stored, notes)


def as_json(plan: Plan) -> dict[str, Any]:
    """For machines: every number as it was reckoned; `fits` and `notes` as a person is told."""
    return {
        "format_version": FORMAT_VERSION,
        "fits": plan.fits,
        **asdict(plan),
        "notes": [asdict(note) for note in plan.every_note],
    }
