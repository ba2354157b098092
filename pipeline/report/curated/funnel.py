"""The funnel: what every stage took in, let through and dropped, and whether the counts add up."""

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.contract.manifest import MANIFEST
from pipeline.outputs import SUMMARY
from pipeline.report.data import Curated
from pipeline.report.figures import count_text, plain, words_of
from pipeline.report.schemas import Example, StageCounts, Summary

WITH_PAIR = "pair_dropped"  # how curation counts captions that went with their pair


@dataclass(frozen=True)
class Drop:
    """One reason of one stage. `keys`: its names in drop_examples; `width`: its share of all pairs in, in percent."""

    keys: tuple[str, ...]
    stage: str
    label: str
    count: int
    width: float


@dataclass(frozen=True)
class Step:
    stage: StageCounts
    title: str
    kept_width: float
    drops: tuple[Drop, ...]

    @property
    def dropped(self) -> int:
        return sum(drop.count for drop in self.drops)


@dataclass(frozen=True)
class CaptionStep:
    """`drops`: captions that went while their pair stayed, negative where a survivor took some over from its copies;
    `with_pairs`: all others."""

    stage: StageCounts
    title: str
    drops: tuple[tuple[str, int], ...]
    with_pairs: int


@dataclass(frozen=True)
class Funnel:
    pairs_in: int
    pairs_kept: int
    steps: tuple[Step, ...]
    captions: tuple[CaptionStep, ...]
    problems: tuple[str, ...]

    @property
    def dropped(self) -> int:
        return sum(step.dropped for step in self.steps)

    @property
    def difference(self) -> int:
        return self.pairs_in - self.pairs_kept - self.dropped

    def by_reason(self) -> list[Drop]:
        """Every reason with a count, largest first; equal counts in stage order."""
        return sorted((drop for step in self.steps for drop in step.drops), key=lambda drop: -drop.count)


def build_funnel(curated: Curated) -> Funnel:
    summary = curated.summary
    whole = max(summary.pairs_in, 1)
    steps = tuple(_step(stage, whole) for stage in summary.stages)
    captions = tuple(_caption_step(stage) for stage in summary.stages if stage.captions_in or stage.captions_out)
    return Funnel(summary.pairs_in, summary.pairs_kept, steps, captions, tuple(_problems(curated)))


def reason_label(stage: StageCounts, reason: str) -> str:
    """`image_size.too_small` and `too_small` both read `too small`: the stage stands beside it."""
    for prefix in (f"{stage.kind}.", f"{stage.name}."):
        reason = reason.removeprefix(prefix)
    return words_of(reason)


def _title(stage: StageCounts) -> str:
    return words_of(stage.name or stage.kind)


def _step(stage: StageCounts, whole: int) -> Step:
    reasons = sorted(((n, reason) for reason, n in stage.drops.items() if n), key=lambda item: (-item[0], item[1]))
    title = _title(stage)
    drops = [Drop(_keys(stage, why), title, reason_label(stage, why), n, 100 * n / whole) for n, why in reasons]
    return Step(stage, title, 100 * stage.pairs_out / whole, tuple(drops))


def _keys(stage: StageCounts, reason: str) -> tuple[str, ...]:
    """With the stage's name, its kind, or bare: two stages of one kind have names of their own."""
    bare = reason.removeprefix(f"{stage.kind}.").removeprefix(f"{stage.name}.")
    return f"{stage.name}.{bare}", f"{stage.kind}.{bare}", bare


def examples_of(summary: Summary, drop: Drop) -> list[Example]:
    """The examples of this reason; none if the producer kept none."""
    return next((summary.drop_examples[key] for key in drop.keys if key in summary.drop_examples), [])


def _caption_step(stage: StageCounts) -> CaptionStep:
    ordered = sorted((-n, reason) for reason, n in stage.caption_drops.items() if n and reason != WITH_PAIR)
    drops = tuple((reason_label(stage, reason), -n) for n, reason in ordered)
    gone = stage.captions_in - stage.captions_out - sum(n for _, n in drops)
    return CaptionStep(stage, _title(stage), drops, gone)


def _problems(curated: Curated) -> Iterable[str]:
    """Every count that does not add up, in words."""
    summary, manifest = curated.summary, curated.manifest
    dropped = sum(sum(stage.drops.values()) for stage in summary.stages)
    if summary.pairs_in != summary.pairs_kept + dropped:
        yield (
            f"{count_text(summary.pairs_in)} pairs came in, but {count_text(summary.pairs_kept)} kept + "
            f"{count_text(dropped)} dropped = {count_text(summary.pairs_kept + dropped)}"
        )
    before = summary.pairs_in
    for stage in summary.stages:
        title, taken = plain(_title(stage), 60), count_text(stage.pairs_in)
        if stage.pairs_in != before:
            yield f"stage {title} took in {taken} pairs, but was handed {count_text(before)}"
        lost, named = stage.pairs_in - stage.pairs_out, sum(stage.drops.values())
        if lost != named:
            yield f"stage {title} lost {count_text(lost)} pairs, but gives reasons for {count_text(named)}"
        before = stage.pairs_out
    if summary.stages and before != summary.pairs_kept:
        yield f"the last stage let {count_text(before)} pairs through, but {count_text(summary.pairs_kept)} are kept"
    if manifest is None:
        return
    listed, in_shards = count_text(manifest.num_pairs), sum(shard.pairs for shard in manifest.shards)
    if manifest.num_pairs != summary.pairs_kept:
        yield f"{MANIFEST} holds {listed} pairs, {SUMMARY} {count_text(summary.pairs_kept)}"
    if in_shards != manifest.num_pairs:
        yield f"the shards hold {count_text(in_shards)} pairs, {MANIFEST} says {listed}"
