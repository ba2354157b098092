"""Texts by a model: captions, rewrites, translations, wrong captions on purpose, columns for a later prompt."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import AfterValidator, Field, model_validator

from curation.generation import told
from curation.generation.backends import BACKENDS
from curation.generation.checks.asked import Asked, Detect
from curation.generation.checks.judging import CheckSettings, judged
from curation.generation.checks.plain import lines_of
from curation.generation.checks.tongues import is_in
from curation.generation.languages import known_language, language_model, languages_of, model_path, name_of
from curation.generation.limits import BudgetSettings, LimitSettings
from curation.generation.prompt import IMAGE, TEXT, TEXTS, Prompt, key_of, read_prompt
from curation.generation.request import Answer, Message, Request, Terms
from curation.methods.concepts.matcher import words_of
from curation.stage import Generate, Said, Section, Stage
from curation.table.file_digests import file_digest
from pipeline.draws import keyed_u64
from pipeline.errors import RecipeError
from pipeline.settings import digest_of, one_of

_CAPTION_FIELDS = ("captions.text", "captions.source")
_OF_PAIR = frozenset({TEXT, TEXTS})


class GenerateText(Generate):
    """Asks a model one prompt about each distinct input, once for all pairs, buckets, recipes and runs over a pool.

    name      captions come as "<role>:<name>", "caption:recap" say, behind those that are there; with the role column
              the first good answer becomes the pair's column of that name ("" where there is none)
    role      what the texts are; negative: captions that are wrong on purpose, which lie apart from the others
    prompt    builtin:<name>, or the path of a template (curation/generation/prompt.py); what it reads is what is asked
              about: each distinct image; each caption; or each pair, by all that it reads of it
    of        pair: of a prompt that reads `text` alone, the pair's first caption and not each
    sources   of which captions, as whole or by the part before the colon; by default those that no model has made
    samples   answers of each input; with `lines` each line of an answer is one
    language  ISO code that answers shall be in: the prompt is told, and answers in others are dropped
    same_language  inputs that are in it already: "skip", where role is translation, counts them and asks nothing
    ask_again raise it to ask again where an answer has failed for a passing reason

    Answers that fail a check are counted by its name and dropped; the pair stays as it was.
    """

    kind: Literal["generate"] = "generate"

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    role: Literal["caption", "rewrite", "translation", "negative", "column"] = "caption"
    prompt: str | None = None
    backend: one_of(BACKENDS)  # type: ignore[valid-type]
    of: Literal["caption", "pair"] = "caption"
    sources: tuple[str, ...] | None = None
    samples: int = Field(default=1, ge=1, le=1000)
    lines: bool = False
    language: Annotated[str, AfterValidator(known_language)] = ""
    same_language: Literal["ask", "skip"] | None = None
    checks: CheckSettings = CheckSettings()
    limits: LimitSettings = LimitSettings()
    budget: BudgetSettings = BudgetSettings()
    ask_again: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _has_a_prompt(self) -> "GenerateText":
        if self.prompt is None and self.backend.needs_prompt:
            raise ValueError("expected a prompt, `builtin:caption` say, or the path of a template")
        if self.budget.money is not None and not (self.budget.price_in or self.budget.price_out):
            raise ValueError("budget.money: expected price_in and price_out, per million tokens")
        if self._skips_same and not self.language:
            raise ValueError("expected a language, such as en, that texts are to be translated into")
        return self

    # What is asked about.

    @cached_property
    def _template(self) -> Prompt | None:
        return None if self.prompt is None else read_prompt(self.prompt, f"{self.kind}.prompt")

    @cached_property
    def _reads(self) -> frozenset[str]:
        return frozenset(self.backend.inputs) | (self._template.reads if self._template else frozenset())

    @cached_property
    def _may_lack(self) -> frozenset[str]:
        """A function is given what there is; a prompt says what it can do without."""
        return self._template.may_lack if self._template else self._reads - _OF_PAIR

    @property
    def unit(self) -> Literal["image", "caption", "pair"]:  # type: ignore[override]
        if self._reads == {IMAGE}:
            return "image"
        return "caption" if self._reads == {TEXT} and self.of == "caption" else "pair"

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        columns = sorted(self._reads - _OF_PAIR - {IMAGE})
        image = (IMAGE,) if IMAGE in self._reads else ()
        return (*image, *columns, *(_CAPTION_FIELDS if self._reads & _OF_PAIR else ()))

    @property
    def adds(self) -> tuple[pa.Field, ...]:  # type: ignore[override]
        return (pa.field(self.name, pa.string()),) if self.role == "column" else ()

    @property
    def actors(self) -> bool:  # type: ignore[override]
        return bool(getattr(self.backend, "is_heavy", False))

    @property
    def _skips_same(self) -> bool:
        return self.same_language == "skip" or (self.same_language is None and self.role == "translation")

    def _values(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """What the prompt is told of one unit; None: it is not asked about."""
        values, reason = self._looked_at(row)
        return None if reason else values

    def _looked_at(self, row: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
        """What there is to tell of one unit, None of those that this stage is not for; and why it is not asked."""
        values = {name: row[name] for name in self._reads - _OF_PAIR}
        if self.unit == "caption":
            if not self._is_asked(row["source"]) or not row["text"]:
                return None, ""
            values = {TEXT: row["text"]}
        elif self._reads & _OF_PAIR:
            texts = [each["text"] for each in row["captions"] if self._is_asked(each["source"]) and each["text"]]
            if not texts and not self._may_lack & _OF_PAIR:
                return None, ""
            values |= {TEXT: texts[0] if texts else "", TEXTS: list(dict.fromkeys(texts))}
        values = {name: value for name, value in values.items() if name in self._reads}
        if any(values[name] is None or values[name] == "" for name in values.keys() - self._may_lack):
            return values, told.NO_INPUT
        if self._skips_same and (said := _texts_of(values)):
            detect = _detect()
            if all(is_in(each, self.language, detect) for each in said):
                return values, told.SAME_LANGUAGE
        return values, ""

    def _is_asked(self, source: str) -> bool:
        if self.sources is None:
            return ":" not in source
        return source in self.sources or source.partition(":")[0] in self.sources

    def subjects(self, units: pa.Table) -> list[str | None]:
        found = (self._values(row) for row in units.to_pylist())
        return [None if values is None else key_of(values) for values in found]

    def requests(self, inputs: pa.Table, keys: Sequence[str]) -> list[list[Request]]:
        digest, made = self.kept_digest(), []
        for row, key in zip(inputs.to_pylist(), keys, strict=True):
            values = self._values(row)
            made.append([] if values is None else [self._request(values, key, n, digest) for n in range(self.samples)])
        return made

    def _request(self, values: dict[str, Any], key: str, sample: int, digest: str) -> Request:
        row = dict(values)
        if self._template:
            messages = self._template.messages(values, key, name_of(self.language))
            row["prompt"] = "\n\n".join(each.text for each in messages)
        else:
            messages = _plain_message(values)
        seed = keyed_u64(0, "sample", digest, key, sample) & 0x7FFFFFFF
        return Request(messages, key, sample, key_of([digest, key, sample]), seed, row)

    # What names answers, and what they cost.

    def kept_digest(self) -> str:
        version = self._template.version if self._template else ""
        return digest_of([self.version, self.backend.kind, self.backend.identity(), version, self.language])

    def identity(self) -> dict[str, Any]:
        plain = super().identity()
        for name in ("backend", "limits", "budget", "prompt"):
            plain.pop(name)
        return plain | {"asked": self.kept_digest()}

    def file_digests(self) -> dict[str, tuple[str, str]]:
        found = dict(self.backend.file_digests(self.kind))
        if self.prompt is not None and not self.prompt.startswith("builtin:"):
            found["prompt"] = (self.prompt, file_digest(self.prompt, f"{self.kind}.prompt"))
        return found

    def files(self) -> dict[str, str]:
        return {}

    def check(self, where: str, before: Sequence[Stage] = ()) -> None:
        self.backend.check(f"{where}.backend")
        prompt = None if self.prompt is None else read_prompt(self.prompt, f"{where}.prompt")
        if prompt and prompt.reads and not prompt.reads & (_OF_PAIR | {IMAGE}) and not self._reads:
            raise RecipeError(
                f"{where}.prompt", f"{self.prompt} reads nothing of a pair", "`image`, `text` or a column"
            )
        if prompt and prompt.needs_language and not self.language:
            expected = f"{self.prompt} says which language answers are to be in"
            raise RecipeError(f"{where}.language", "is not set", expected, "language: en")

    def terms(self) -> Terms:
        return Terms(self.backend.named, self.backend.most_tokens, self.budget.price_in, self.budget.price_out)

    def provenance(self) -> dict[str, str]:
        version = self._template.version[:8] if self._template else getattr(self.backend, "version", "")
        found = {"source": f"{self.role}:{self.name}", "model": self.backend.named, "prompt_version": version}
        return {key: value for key, value in found.items() if value}

    # What answers say.

    def said(self, units: pa.Table, answers: list[list[dict[str, Any]] | None]) -> Said:
        not_asked = Counter[str]()
        unit, texts, scores, reasons = [], [], [], []
        targets = frozenset(
            " ".join(words_of(target)) for _, target in (self._template.examples if self._template else ())
        )
        for at, (row, given) in enumerate(zip(units.to_pylist(), answers, strict=True)):
            values, why_not = self._looked_at(row)
            if why_not:
                not_asked[why_not] += 1
            if given is None or not values or why_not:
                continue
            edited = values.get(TEXT) if self.role == "negative" and self._template else None  # functions know best
            asked = Asked(_texts_of(values), self._said_in_prompt, targets, self.language, edited)
            nothing = [{"failed": "nothing"}]  # of a function that has nothing to say
            for answer in given[: self.samples] if self.backend.is_server else given or nothing:
                for text, score, reason in self._plain(Answer(**answer), asked):
                    unit.append(at)
                    texts.append(text)
                    scores.append(score)
                    reasons.append(reason)
        return Said(unit, texts, scores, reasons, not_asked)

    def _plain(self, answer: Answer, asked: Asked) -> list[tuple[str, float | None, str | None]]:
        items = lines_of(answer.text) if self.lines and not answer.failed else [answer.text]
        if self.lines and answer.finish == "length" and len(items) > 1:  # the last line is cut off, the others are not
            items, answer = items[:-1], Answer(**(vars(answer) | {"finish": "stop"}))
        found = []
        for item in items or [""]:
            text, reason = judged(Answer(**(vars(answer) | {"text": item})), asked, self.checks, _detect())
            found.append((text, answer.score, reason))
        return found

    @cached_property
    def _said_in_prompt(self) -> str:
        """The prompt's own words."""
        return " ".join(text for _, text in self._template.parts) if self._template else ""

    def sections(self, counts: dict[str, Any], state: pa.Table | None) -> list[Section]:
        return told.sections(self.provenance(), counts, "captions" if self.unit == "caption" else "pairs")

    def asked(self, units: pa.Table) -> list[str]:
        return ["\n".join(_words_of(self._values(row) or {})) for row in units.to_pylist()]


def _detect() -> Detect:
    model = language_model(str(model_path()))
    return lambda text: languages_of(model, text)


def _plain_message(values: Mapping[str, Any]) -> tuple[Message, ...]:
    """Of what a function is given, to be looked at."""
    return (Message("user", "\n".join(_words_of(values)), (values[IMAGE],) if IMAGE in values else ()),)


def _words_of(values: Mapping[str, Any]) -> list[str]:
    return [f"{name}: {value}" for name, value in values.items() if name != IMAGE]


def _texts_of(values: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for name, value in values.items():
        if name != IMAGE:
            found += [str(each) for each in value] if isinstance(value, (list, tuple)) else [str(value)]
    return found
