"""An original caption or one that a model wrote, as in LaCLIP (Fan et al., 2023) and VeCLIP (Lai et al., 2024)."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from pipeline.contract.pairs import is_synthetic
from training.reader.captions.policy import CaptionPolicy, drawn
from training.scheduled import Scheduled, value_at


def _shares(scheduled: Scheduled) -> Scheduled:
    values = [value for _, value in scheduled] if isinstance(scheduled, list) else [scheduled]
    if max(values) > 1:
        raise ValueError(f"a share is at most 1, not {max(values):g}")
    return scheduled


class OneSynthetic(CaptionPolicy):
    """With a chance of `share` (0 to 1, or a schedule of it over the run) one of the captions that a model wrote, all
    as likely, however many there are; else one of the originals, all as likely. A pair that has none of one sort uses
    the other."""

    kind: Literal["one_synthetic"] = "one_synthetic"
    share: Annotated[Scheduled, AfterValidator(_shares)] = 0.5

    def pick(self, captions: list[dict[str, Any]], uniform: float, progress: float) -> int:
        written = [is_synthetic(str(caption.get("source", ""))) for caption in captions]
        share, number = value_at(self.share, progress), sum(written)
        if number in (0, len(written)):
            return drawn([1.0] * len(written), uniform)
        of = {True: share / number, False: (1 - share) / (len(written) - number)}
        return drawn([of[each] for each in written], uniform)

    @property
    def varies(self) -> bool:
        return isinstance(self.share, list)
