"""What the terms of an objective ask of others. Imports no torch: settings are read without it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.errors import RecipeError


@dataclass(frozen=True)
class Scalar:
    """A trained number that a term asks of the towers; terms that name the same one share it.

    `init` counts unless the model's config says otherwise; the optimizer keeps the number from `low` to `high`.
    """

    name: str
    init: float
    low: float = -math.inf
    high: float = math.inf


# Radford et al., 2021: starts at 1 / 0.07, and never sharpens past 100. Every model has one: exports need it.
LOG_SCALE = Scalar("log_scale", math.log(1 / 0.07), 0.0, math.log(100))


FIXED = "image.fixed"
"""Column [N, D], float32: the normalised features of an image tower that stays as it is; the towers give them on."""


OWN = ("image", "tokens", "id", "key", "valid")
"""Columns that every batch has."""


@dataclass(frozen=True)
class Head:
    """Layers behind the image tower that a term trains and no export holds: an output of the towers, by its name.

    Linear, LayerNorm, ReLU twice and Linear: SimCLR's and SLIP's head, without their BatchNorm, whose result would
    depend on the chunk. `needs` of terms that share a head name it alike.
    """

    name: str
    hidden: int
    width: int


@dataclass(frozen=True)
class Wanted:
    """What a term asks of the reader beside a picture and a caption of each pair, as columns of a batch; of companions;
    and of the towers beside one feature of each."""

    positives: int = 0  # most further captions of a pair: positives/tokens
    negatives: int = 0  # most hard negatives of a pair: negatives/tokens
    views: int = 0  # further views of the picture, each augmented by draws of its own: views/image
    fields: frozenset[str] = frozenset()  # numbers in KEY.json, each a column of that name
    columns: frozenset[str] = frozenset()  # that companions give, `GROUP/...` for the entries of a group
    masked: float = 0.0  # share of the patches left out of a second look at the picture: the towers' output `masked`
    towers: frozenset[str] = frozenset()  # what not all have: `tokens`, `captions` (`towers/abilities.py`)

    def __post_init__(self) -> None:
        taken = sorted(name for name in self.fields if name in OWN or "/" in name or not name)
        if taken:
            found = f"a term reads the field {taken[0]!r} of KEY.json"
            raise RecipeError("train.loss", found, f"a name without / that is none of {', '.join(OWN)}", "rename it")

    def __or__(self, other: "Wanted") -> "Wanted":
        """What satisfies both. RecipeError: two shares of patches."""
        if self.masked and other.masked and self.masked != other.masked:
            found = f"two terms leave out {self.masked} and {other.masked} of the patches"
            raise RecipeError("train.loss", found, "one masked view of a picture")
        return Wanted(
            max(self.positives, other.positives),
            max(self.negatives, other.negatives),
            max(self.views, other.views),
            self.fields | other.fields,
            self.columns | other.columns,
            self.masked or other.masked,
            self.towers | other.towers,
        )


def heads_of(asked: Iterable[Head]) -> tuple[Head, ...]:
    """Each head once, by name. RecipeError when two terms ask for one name with different sizes."""
    found: dict[str, Head] = {}
    for head in asked:
        if found.setdefault(head.name, head) != head:
            words = f"two terms share the head `{head.name}` but not its sizes: {found[head.name]} and {head}"
            raise RecipeError("train.loss", words, "the same of both")
    return tuple(found[name] for name in sorted(found))


def scalars_of(asked: Iterable[Scalar]) -> tuple[Scalar, ...]:
    """Each scalar once, by name; the log of the logit scale is always among them.

    RecipeError when two terms ask for one name with different numbers.
    """
    found: dict[str, Scalar] = {}
    for scalar in asked:
        one = found.setdefault(scalar.name, scalar)
        if one != scalar:
            both = " and ".join(
                f"from {each.low:.3g} to {each.high:.3g}, at first {each.init:.3g}" for each in (one, scalar)
            )
            hint = "leave one of them out: softmax and sigmoid do not go together"
            raise RecipeError("train.loss", f"two terms share `{scalar.name}`, but {both}", "the same of both", hint)
    found.setdefault(LOG_SCALE.name, LOG_SCALE)
    return tuple(found[name] for name in sorted(found))
