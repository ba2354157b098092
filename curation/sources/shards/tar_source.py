"""Sources whose samples are members of tars: read so that damage and odd members cost as little as can be.

A member that is odd (a link, a device, a sparse file, a name that is no UTF-8 or leads out of the tar, a second image
of a key, ...) costs its sample, by reason, and reading goes on with the next member. Members of a key that do not lie
side by side are joined, by reading the tar once more. Behind damage it goes on at the next whole header; a sample
beside damage is kept only when it has image, text and .json, and the damage and its bytes are counted and logged.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from curation.sources.shards.reading import ROLES, Reading
from curation.sources.source import Part, Source
from curation.table.schemas import BAD
from pipeline import storage
from pipeline.contract.pairs import MAX_MEMBER
from pipeline.contract.samples import FOLDERS, SampleTar
from pipeline.errors import DataError
from pipeline.log import get_logger
from pipeline.storage.window import Window

if TYPE_CHECKING:
    from curation.pool.store import PoolSink


@dataclass(frozen=True, slots=True)
class Promise:
    """How many pairs a tar must hold, and who says so."""

    pairs: int
    by: str


class TarSource(Source):
    """What sources of samples have in common. shape: what a sample looks like, for messages."""

    shape: ClassVar[str] = (
        "KEY.jpg (png, webp, ...) with KEY.txt or KEY.json, where the key ends at the first dot of a name"
    )

    max_image_bytes: int = Field(default=20 << 20, ge=1, le=MAX_MEMBER, description="larger images are not stored")
    max_text_chars: int = Field(default=8192, ge=1, description="a longer text is no caption")

    def read_tar(
        self,
        part: Part,
        window: Window,
        sink: "PoolSink",
        fault: DataError | None = None,
        promised: Promise | None = None,
    ) -> dict[str, int]:
        """Counts: records (samples), images, and by reason bad_records, bad_members, bad_bodies, bad_texts; members and
        folders ignored; joined_samples, whose members lie apart; bytes_skipped by damage. `fault`: damage of what the
        tar is packed in. DataError naming the file when it is no tar, or holds less than is promised."""
        promised = promised or Promise(0, "nothing")
        tar, reading = self._samples(part, window, sink, frozenset())
        if tar.scattered:
            words = "%s: the members of %d keys do not lie side by side; it is read again, and they are joined"
            get_logger(__name__).warning(words, window.where, len(tar.scattered))
            sink.begin_anew()
            tar, reading = self._samples(part, window, sink, frozenset(tar.scattered))
        counts, damage = reading.counts, fault or (tar.gaps[0].error if tar.gaps else None)
        if damage is not None:
            if not tar.is_tar:
                raise damage
            counts["bad_records:damaged_shard"] += len(tar.gaps) or 1  # or the packing is damaged
            counts["bytes_skipped"] += tar.lost
            words = "%s: %s (damage in %d places, %d bytes lost; %d samples are read)"
            told = get_logger(__name__)
            told.warning(words, damage.where, damage.found, len(tar.gaps) or 1, tar.lost, counts["records"])
        if reading.pictures < promised.pairs:
            found = f"{reading.pictures} images" + (f", then damage: {damage.found}" if damage else "")
            raise DataError(
                storage.shown(part.path), found, f"{promised.pairs} as {promised.by} says",
                "copy or make this shard again, or take it out of `paths`",
            )  # fmt: skip
        counts.update({f"bad_members:{reason}": count for reason, count in tar.odd.items()})
        folders = tar.ignored.pop(FOLDERS, 0)
        passed_by = {"ignored_members": tar.ignored.total(), "ignored_folders": folders}
        counts.update({name: count for name, count in passed_by.items() if count})
        return dict(sorted(counts.items()))

    def _samples(
        self, part: Part, window: Window, sink: "PoolSink", joined: frozenset[str]
    ) -> tuple[SampleTar, Reading]:
        """All samples read into the sink; `joined`: keys whose members lie apart."""
        tar = SampleTar(window, ROLES, tolerant=True, joined=joined)
        reading = Reading(sink, part.path, window, self.max_image_bytes, self.max_text_chars)
        for sample in tar:
            reading.sample(sample)
            reading.counts.update({"joined_samples": 1} if sample.is_joined else {})
        return tar, reading

    def check_total(self, counts: Iterable[Mapping[str, int]]) -> None:
        counts = list(counts)
        if not any(one.get("records", 0) for one in counts):
            passed_by = sum(one.get("ignored_members", 0) for one in counts)
            found = "no sample in any tar" + (f", {passed_by} members of other names" if passed_by else "")
            raise DataError(", ".join(self.paths), found, self.shape, "check `paths` of this source, or pack them anew")
        records, reasons = sum(one.get("records", 0) for one in counts), Counter[str]()
        for one in counts:
            reasons.update({name.removeprefix(BAD): n for name, n in one.items() if name.startswith(BAD)})
        if reasons.total() >= records and not any(one.get("images", 0) for one in counts):
            words = ", ".join(f"{name} {count}" for name, count in reasons.most_common(4))
            found = f"none of {records} samples is one to use: {words}"
            hint = "see the log for the first of each, and make them anew"
            raise DataError(", ".join(self.paths), found, self.shape, hint)
