"""Every error a user can meet, drawn as a tree. Imports nothing of ours.

ClipmillError                 1   anything else
├── RecipeError               2   the recipe or an override is wrong; found before any work
│   └── RecipeErrors          2   several such faults, said together
├── UsageError                2   the command line is wrong
├── DataError                78   data or configuration found bad after work began (damaged shard, empty crawl)
├── Fenced                   78   a newer attempt has taken over the run; this one commits nothing more
├── StorageError              1   a file system said no (full disk, no permission, unreachable)
└── Stopped                  75   stopped on request, resumable by the same command

The number is the exit code of the `clipmill` command.
"""

from collections.abc import Iterable


class ClipmillError(Exception):
    """Says where it happened, what was found, what was expected, and what to type.

    `where` names a file, a dotted recipe path or a stage; `hint` is a command or an edit a user can make.
    """

    exit_code = 1

    def __init__(self, where: str, found: str, expected: str = "", hint: str = "") -> None:
        super().__init__(where, found, expected, hint)  # all in args, so that it survives pickling between processes
        self.where, self.found, self.expected, self.hint = where, found, expected, hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.found}"
        if self.expected:
            text += f"; {self.expected}"
        if self.hint:
            text += f"\nhint: {self.hint}"
        return text


class RecipeError(ClipmillError):
    exit_code = 2


class RecipeErrors(RecipeError):
    """Several that were found together, each with its place and hint; `where` and so on are those of the first."""

    def __init__(self, *faults: RecipeError) -> None:
        super().__init__(*faults[0].args)
        self.args = self.faults = faults  # so that it survives pickling, too

    def __str__(self) -> str:
        return "\n".join(map(str, self.faults))


class UsageError(ClipmillError):
    exit_code = 2


class DataError(ClipmillError):
    exit_code = 78


class Fenced(ClipmillError):
    exit_code = 78


class StorageError(ClipmillError):
    exit_code = 1


class Stopped(ClipmillError):
    exit_code = 75


def raise_all(faults: Iterable[RecipeError]) -> None:
    """Raises what was found, each once; nothing of none."""
    plain: list[RecipeError] = []
    for fault in faults:
        plain += fault.faults if isinstance(fault, RecipeErrors) else [fault]
    each = list({str(fault): fault for fault in plain}.values())
    if each:
        raise each[0] if len(each) == 1 else RecipeErrors(*each)


def one_line(error: BaseException | str, limit: int = 400) -> str:
    """The words of an error on one line, cut to `limit` characters; its type where it has no words."""
    text = " ".join(str(error).split())
    return text[:limit] or type(error).__name__
