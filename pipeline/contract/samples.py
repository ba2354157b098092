"""The samples of a WebDataset tar: its members, side by side under one key. The one place where tars are cut into them.

    for sample in SampleTar(window, {"jpg": "image", "txt": "text"}):
        image = sample.members["image"]            # a place in the tar, not bytes: ask its size before reading it

Strict (training, evaluation): anything that no writer of datasets makes is a DataError naming file and offset, and the
whole tar is refused. Tolerant (crawled input): it costs the sample it belongs to, which carries the reason.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field

from pipeline.contract.foreign import Gap, foreign_members
from pipeline.contract.tar import Member, damage, members
from pipeline.errors import DataError
from pipeline.storage.window import Window

IMAGE_SUFFIXES = {"jpg": "jpg", "jpeg": "jpg", "png": "png", "webp": "webp"}
REFUSED_SUFFIXES = {"pkl", "pickle", "pyd", "pth", "pt"}  # decoders of these can run code
FOLDERS = "a folder"  # how `ignored` counts them
_NAME = re.compile(r"(?:\./)?((?:[^/\\:\x00-\x1f\x7f]+/)*)([^/\\:\x00-\x1f\x7f]*)")
_MAX_NAME = 255
_MOST_ASIDE = 10_000  # odd members that may still find their sample
_MOST_JOINED = 200_000  # keys of one tar whose members are gathered from all over it: some 300 MB
_LOST: frozenset[str] = frozenset()  # the roles seen of a key that damage took members from


@dataclass(slots=True)
class Sample:
    """start: of its first header; end: behind its last member; members: by role; problem: why it is of no use;
    is_joined: its members lie apart."""

    key: str
    start: int
    end: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    problem: str = ""
    beside_damage: bool = False
    is_joined: bool = False


class SampleTar:
    """Iterate once. Afterwards: `ignored` members by suffix and, if tolerant, `odd` ones by reason, `gaps` where damage
    lies, `lost` bytes: of the gaps and of the samples that they touched, and the keys that are `scattered`.

    roles: lower-case suffix -> role. A tolerant tar passes on a sample beside damage only when it has every role, since
    nobody knows what the damage took. Two samples of one key: the second one is of no use. A sample whose members
    do not lie side by side is a DataError in a strict tar: its parts would be taken for samples. Of a tolerant one its
    key is `scattered`, and what was passed on of it no sample: read such a tar again with these keys as `joined`. Their
    members are gathered from all over it, and they come last, in the order of their first ones.
    """

    def __init__(
        self, window: Window, roles: Mapping[str, str], tolerant: bool = False, joined: Set[str] = frozenset()
    ) -> None:
        self.window, self.roles, self.tolerant = window, roles, tolerant
        self.joined, self.scattered = joined, set[str]()
        self.is_tar = False  # whether it begins like one, or holds a member anywhere
        self.ignored: Counter[str] = Counter()
        self.odd: Counter[str] = Counter()
        self.gaps: list[Gap] = []
        self.lost = 0
        self._seen: dict[str, frozenset[str]] = {}  # the roles of every key
        self._aside: dict[str, Sample] = {}  # odd members whose sample has not begun, or never will
        self._gathered: dict[str, Sample] = {}  # of the keys that are joined
        self._doubted: set[str] = set()  # keys that damage has touched, and that are scattered if others are
        self._beside = False  # whether the next sample touches damage

    def __iter__(self) -> Iterator[Sample]:
        sample: Sample | None = None
        last: Sample | None = None  # that has the member read last
        for item in foreign_members(self.window) if self.tolerant else members(self.window):
            self.is_tar = self.is_tar or not isinstance(item, Gap) or bool(item.name)
            if isinstance(item, Gap):
                yield from self._before(item, sample, last)
                sample = last = None
                continue
            key, role, problem = self._place(item)
            if not role:
                continue
            if key in self.joined:
                last = self._gather(key, role, item, problem)
                continue
            if problem and (sample is None or key != sample.key):
                self._take(self._aside.setdefault(key, Sample(key, item.header, problem=problem)), role, item)
                if len(self._aside) >= _MOST_ASIDE:
                    yield from self._given_up()
                continue  # it may lie in the midst of another sample
            if sample is None or key != sample.key:
                yield from self._closed(sample)
                sample = self._opened(key, item)
            twice = self._take(sample, role, item)
            sample.problem, last = sample.problem or problem or twice, sample
        yield from self._closed(sample)
        yield from self._given_up()
        yield from self._all_gathered()
        self.scattered.update(self._doubted if self.scattered else ())

    def _gather(self, key: str, role: str, member: Member, problem: str) -> Sample:
        sample = self._gathered.get(key)
        if sample is None:
            known = self._aside.pop(key, None)
            sample = self._gathered[key] = known or Sample(key, member.header)
            sample.is_joined = True
            if len(self._gathered) > _MOST_JOINED:
                sample.problem = "scattered"
        if sample.problem == "scattered":
            return sample
        twice = self._take(sample, role, member)
        sample.problem = sample.problem or problem or twice
        return sample

    def _all_gathered(self) -> Iterator[Sample]:
        """Where there was any damage it may have taken a member of any of them."""
        every = frozenset(self.roles.values())
        for key, sample in self._gathered.items():
            whole = sample.members.keys() >= every or bool(sample.problem)
            if self._seen.get(key) == _LOST or (self.gaps and not whole):
                self.lost += sum(member.end - member.header for member in sample.members.values())
            else:
                yield sample
        self._gathered = {}

    def _given_up(self) -> Iterator[Sample]:
        """The samples known by odd members alone; what follows of their keys is lost."""
        for sample in self._aside.values():
            self._seen.setdefault(sample.key, _LOST)
            yield sample
        self._aside.clear()

    def _place(self, member: Member) -> tuple[str, str, str]:
        """(key, role, problem): the name cut at the first dot after its folders. Role "" for what is not read."""
        match = _NAME.fullmatch(member.name)
        safe = match and len(member.name) <= _MAX_NAME and ".." not in member.name.split("/")
        problem = member.odd
        if not safe:
            problem = self._refused(member, "unsafe_name", f"name {member.name[:300]!r}", "a plain relative name")
        key, suffix = split_name(member.name)
        if member.is_folder:
            self.ignored[FOLDERS] += 1
            return "", "", ""
        if REFUSED_SUFFIXES & set(suffix.split(".")):
            expected = "no pickles or other code-bearing members"
            problem = self._refused(member, "code", repr(member.name), expected)
        if problem:
            self.odd[problem] += 1
        role = self.roles.get(suffix, "") if key else ""
        if not (role or problem):
            self.ignored[suffix if key and suffix else "no suffix"] += 1
        return key, role, problem

    def _refused(self, member: Member, reason: str, found: str, expected: str) -> str:
        """The reason, in a tolerant tar; a strict one raises."""
        if self.tolerant:
            return reason
        raise damage(self.window.where, member.header, f"member {found}", expected)

    def _opened(self, key: str, member: Member) -> Sample:
        if key in self._seen and not self.tolerant:
            raise damage(
                self.window.where, member.header, f"key {key!r} again", "each key once, its members side by side"
            )
        sample = self._aside.pop(key, None) or Sample(key, member.header)
        sample.beside_damage, self._beside = self._beside, False
        return sample

    def _take(self, sample: Sample, role: str, member: Member) -> str:
        sample.end = member.end
        if role in sample.members:
            found = f"{member.name!r} is a second {role} for key {sample.key!r}"
            return self._refused(member, "dup_member", found, "one image, text and json a key")
        sample.members[role] = member
        return ""

    def _before(self, gap: Gap, sample: Sample | None, last: Sample | None) -> Iterator[Sample]:
        """The sample that ends at a gap, when it is whole. `last`: that of the member before the gap."""
        key, suffix = split_name(gap.name)
        of_another = bool(key and suffix in self.roles and (sample is None or key != sample.key))
        if sample is not None:
            sample.beside_damage = sample.beside_damage or not of_another
        if last is not None and gap.start < last.end and last.members:
            last.members.popitem()  # headers lie in the payload of its last member: it is not as long as it says
            last.end = gap.start
        yield from self._closed(sample)
        if of_another:
            self._seen.setdefault(key, _LOST)
        self.gaps.append(gap)
        self.lost += gap.end - gap.start
        self._beside = True

    def _closed(self, sample: Sample | None) -> Iterator[Sample]:
        """The sample, unless damage may have taken members of it."""
        if sample is None:
            return
        roles, before = frozenset(sample.members), self._seen.get(sample.key)
        whole = roles >= frozenset(self.roles.values()) or bool(sample.problem)
        is_apart = before is not None and not roles & before and not sample.problem
        if is_apart and before and self.tolerant:
            self.scattered.add(sample.key)
            return
        if before == _LOST or (sample.beside_damage and not whole):
            self._doubted.update([sample.key] if is_apart else [])
            self._seen[sample.key] = _LOST
            self.lost += sample.end - sample.start
            # The name of a lone member may have stood in an extended header that is gone: doubt the next sample, too.
            self._beside = self._beside or (before is None and sample.beside_damage and len(roles) == 1)
            return
        if is_apart:
            expected = "the members of a key side by side: this tar is not in the order of its samples"
            hint = "pack it again with: tar --sort=name, or take it out of `paths`"
            where = f"{self.window.where} at byte {sample.start}"
            raise DataError(where, f"more members of key {sample.key!r}", expected, hint)
        if before is not None:
            sample.problem = sample.problem or "dup_key"
        self._seen.setdefault(sample.key, roles)
        yield sample


def split_name(name: str) -> tuple[str, str]:
    """(key, lower-case suffix) as WebDataset cuts them; key "" when the file name begins with a dot or is empty."""
    folders, slash, file = name.removeprefix("./").rpartition("/")
    stem, _, suffix = file.partition(".")
    return (folders + slash + stem, suffix.lower()) if stem else ("", suffix.lower())
