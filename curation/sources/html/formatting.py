"""The list of active formatting elements (HTML standard, 13.2.4.3): <b>, <a> and the like that are opened again in the
next block when the block around them ends. At most three of a name between two markers are kept, so it stays short."""

from dataclasses import dataclass

_SAME_NAME = 3


@dataclass(slots=True, eq=False)
class Node:
    """An element on the stack of open elements."""

    name: str  # "svg:" or "math:" before a foreign one's
    place: int = -1
    is_open: bool = False
    is_foreign: bool = False
    is_listed: bool = False  # among the active formatting elements
    run: int = -1  # a foreign one: the place where the unbroken run of foreign ones that it stands in begins
    is_point: bool = False  # a foreign one whose content is HTML
    inside: str = ""  # a template: what its content is of: "body", "table", "tbody", "row", "col"


class Formatting:
    def __init__(self) -> None:
        self._parts: list[list[Node]] = [[]]  # one more for every marker

    @property
    def is_due(self) -> bool:
        """Whether any element waits to be opened again."""
        return bool(self._parts[-1]) and not self._parts[-1][-1].is_open

    def mark(self) -> None:
        self._parts.append([])

    def clear(self) -> None:
        """Forgets all up to the last marker, with it."""
        for node in self._parts.pop():
            node.is_listed = False
        if not self._parts:
            self._parts.append([])

    def add(self, node: Node) -> None:
        same = [other for other in self._parts[-1] if other.name == node.name]
        if len(same) >= _SAME_NAME:
            self.remove(same[0])
        self._parts[-1].append(node)
        node.is_listed = True

    def find(self, name: str) -> Node | None:
        """The last of a name since the last marker."""
        return next((node for node in reversed(self._parts[-1]) if node.name == name), None)

    def remove(self, node: Node) -> None:
        part = next(part for part in reversed(self._parts) if node in part)
        part.remove(node)
        node.is_listed = False

    def closed_ones(self) -> list[Node]:
        """Those to open again, outermost first."""
        part = self._parts[-1]
        at = next((i for i in range(len(part), 0, -1) if part[i - 1].is_open), 0)
        return part[at:]

    def replace(self, old: Node, new: Node, behind: Node | None = None) -> None:
        """Puts `new` in the place of `old`, or behind another one."""
        part = self._parts[-1]
        at = part.index(old)
        part[at] = new
        if behind is not None and behind in part:
            part.remove(new)
            part.insert(part.index(behind) + 1, new)
        old.is_listed, new.is_listed = False, True
