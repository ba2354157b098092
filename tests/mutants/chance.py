"""Errors by chance: operators turned and lines left out in given files, and whether the tests beside a file see them.

    python -m tests.mutants.chance 'curation/stages/*.py'              # one in 120 lines, by the tests of the same name
    python -m tests.mutants.chance --each 20 --seed 7 training/rows.py

Who survives is a claim that no test near it makes, or makes no difference (a size, the words of a report, a quicker
way): it is for a reader to tell. What matters gets a test, and a line in one of the lists beside this file.
"""

import argparse
import ast
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.mutants import plant

TURNED = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"), ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="), ast.In: ("in", "not in"), ast.NotIn: ("not in", "in"), ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"), ast.And: (" and ", " or "), ast.Or: (" or ", " and "), ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
}  # fmt: skip
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}
WORDS = (ast.Raise, ast.Assert, ast.JoinedStr)  # what is said of a fault, and texts


@dataclass(frozen=True)
class Chance(plant.Mutant):
    """Found by its place and not by its words, which may stand twice in a file."""

    start: int = 0
    stop: int = 0

    def planted_in(self, text: str) -> str:
        raw = text.encode()
        return (raw[: self.start] + self.replace.encode() + raw[self.stop :]).decode()


def chances(source: str) -> Iterator[tuple[int, int, str, str]]:
    """(start, stop, what stands there then, words) in bytes of everything that could be turned."""
    lines = source.encode().splitlines(keepends=True)
    begins = [sum(map(len, lines[:at])) for at in range(len(lines) + 1)]

    def span(node: ast.AST) -> tuple[int, int]:
        assert isinstance(node, (ast.expr, ast.stmt)) and node.end_lineno and node.end_col_offset is not None
        return begins[node.lineno - 1] + node.col_offset, begins[node.end_lineno - 1] + node.end_col_offset

    def between(left: ast.AST, right: ast.AST, op: ast.AST) -> Iterator[tuple[int, int, str]]:
        start, stop = span(left)[1], span(right)[0]
        there, (old, new) = source.encode()[start:stop].decode(), TURNED.get(type(op), ("", ""))
        if old and old in there:
            yield start, stop, there.replace(old, new, 1)

    def turned(node: ast.AST) -> Iterator[tuple[int, int, str]]:
        match node:
            case ast.Compare(left, [op], [right]) | ast.BoolOp(op, [left, right]) | ast.BinOp(left, op, right):
                yield from between(left, right, op)
            case ast.UnaryOp(ast.Not(), operand):
                yield *span(node), f"bool({ast.unparse(operand)})"
            case ast.Constant(bool(value)):
                yield *span(node), str(not value)
            case ast.Expr(ast.Call() | ast.Await()) | ast.AugAssign() | ast.Continue():
                yield *span(node), "pass"
            case ast.Call(ast.Name(name) as called) if name in CALLS:
                yield *span(called), CALLS[name]
            case ast.IfExp(_, _, other):
                yield *span(node), f"({ast.unparse(other)})"

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        yield node
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list") or isinstance(value, WORDS):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not isinstance(child, WORDS):
                    yield from walk(child)

    for node in walk(ast.parse(source)):
        for start, stop, new in turned(node):
            yield start, stop, new, f"line {getattr(node, 'lineno', 0)}: {ast.unparse(node)[:90]}"


def drawn(path: Path, each: float, seed: int) -> list[Chance]:
    """Some of those of a file that has tests of its name; one in `each` lines, and at least one."""
    place, source = path.relative_to(plant.ROOT), path.read_text(encoding="utf-8")
    beside = plant.ROOT / "tests" / place.parent
    tests = sorted({*beside.glob(f"test_{place.stem}.py"), *beside.glob(f"test_{place.stem}_*.py")})
    found, rng = list(chances(source)) if tests else [], random.Random(f"{seed} {place}")
    names = tuple(str(test.relative_to(plant.ROOT)) for test in tests)
    return [
        Chance("chance", words, str(place), "", new, names, start, stop)
        for start, stop, new, words in rng.sample(found, min(len(found), max(1, round(source.count("\n") / each))))
    ]


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--each", type=float, default=120, help="one error in so many lines")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("files", nargs="+", help="paths or patterns, from the checkout")
    given = asked.parse_args()
    paths = sorted({path for pattern in given.files for path in plant.ROOT.glob(pattern)})
    planned = [one for path in paths for one in drawn(path, given.each, given.seed)]
    survived = 0
    for one, test in plant.tried(planned):
        survived += not test
        said = "" if test else f" | {one.lost} -> {one.replace.strip()}"
        print(f"{one.file} | {test or 'SURVIVED'}{said}", flush=True)
    print(f"{len(planned) - survived} of {len(planned)} were seen by the tests beside their files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
