"""The stack of open elements and the active formatting elements of the HTML standard, without a tree.

Every question is answered from the places of names on the stack, so a tag costs the same at any depth. More than _DEEP
elements inside a misnested formatting element are not re-ordered: that would cost more than linear time.
"""

from bisect import bisect_right
from collections import defaultdict

from curation.sources.html import elements as of
from curation.sources.html.formatting import Formatting, Node

_DEEP = 256
_UNSEEN = ("svg:style", "svg:script", "math:style", "math:script")
_FIGURES = ("figure", "figcaption")


class OpenElements:
    """`closed` collects figures and figcaptions in the order in which they end, until it is cleared; those inside a
    <template> are not listed."""

    def __init__(self) -> None:
        self.stack: list[Node] = []
        self.places: defaultdict[str, list[int]] = defaultdict(list)  # name -> rising places on the stack
        self.scopes: list[int] = [-1]
        self.table_scopes: list[int] = [-1]
        self.specials: list[int] = [-1]
        self.barriers: list[int] = [-1]  # of the special ones, those that end the search for an open <li> or <dd>
        self.formatting = Formatting()
        self.closed: list[str] = []
        self.num_unseen = 0  # open elements whose text is not shown; in HTML their content is no text but an item

    @property
    def is_foreign(self) -> bool:
        """Whether the innermost open element is of svg or math; its CDATA sections are text."""
        return bool(self.stack) and self.stack[-1].is_foreign

    @property
    def is_template(self) -> bool:
        return bool(self.places["template"])

    @property
    def top(self) -> str:
        return self.stack[-1].name if self.stack else ""

    def push(self, name: str) -> Node:
        node = Node(name)
        self._put(node)
        return node

    def _put(self, node: Node) -> None:
        node.place, node.is_open = len(self.stack), True
        if node.is_foreign:
            below = self.stack[-1].run if self.stack else -1
            node.run = below if below >= 0 else node.place
            self.num_unseen += node.name in _UNSEEN
        self.stack.append(node)
        self.places[node.name].append(node.place)
        if node.name in of.SPECIAL:
            self.specials.append(node.place)
            if node.name not in ("address", "div", "p"):
                self.barriers.append(node.place)
            if node.name in of.SCOPE:
                self.scopes.append(node.place)
                if node.name in of.TABLE_SCOPE:
                    self.table_scopes.append(node.place)

    def _take(self) -> Node:
        node = self.stack.pop()
        node.is_open = False
        self.num_unseen -= node.is_foreign and node.name in _UNSEEN
        self.places[node.name].pop()
        if self.specials[-1] == node.place:
            for marks in (self.specials, self.barriers, self.scopes, self.table_scopes):
                if marks[-1] == node.place:
                    marks.pop()
        return node

    def pop(self) -> None:
        node = self._take()
        if node.name in _FIGURES and not self.is_template:
            self.closed.append(node.name)

    def cut(self, place: int) -> None:
        """Closes the element at `place` and all inside it; nothing for -1."""
        while 0 <= place < len(self.stack):
            self.pop()

    def rebuild(self, start: int, nodes: list[Node], stop: int | None = None) -> None:
        """Puts `nodes` where the elements at places start to stop stood; those above stay open."""
        stop = start if stop is None else stop
        if len(self.stack) - start > _DEEP:
            return
        above = []
        while len(self.stack) > start:
            above.append(self._take())
        for node in [*nodes, *reversed(above[: len(above) - (stop - start + 1)])]:
            self._put(node)

    def last(self, name: str) -> int:
        places = self.places.get(name)
        return places[-1] if places else -1

    def in_scope(self, name: str) -> bool:
        found = self.last(name)
        return found >= 0 and found >= self.scopes[-1]

    def close_in_scope(self, name: str) -> bool:
        found = self.last(name) if self.in_scope(name) else -1
        self.cut(found)
        return found >= 0

    def close_p(self) -> None:
        if self.last("p") > self.last("button"):
            self.close_in_scope("p")

    def pop_implied(self) -> None:
        while self.top in of.IMPLIED:
            self.pop()

    def end_other(self, name: str) -> None:
        found = self.last(name)
        if found >= 0 and found >= self.specials[-1]:
            self.cut(found)

    # -- formatting elements (the adoption agency)

    def start_formatting(self, name: str) -> None:
        if name == "a" and self.formatting.find("a"):
            self.end_formatting("a")
            if left := self.formatting.find("a"):
                self.formatting.remove(left)
        self.reopen()
        if name == "nobr" and self.in_scope("nobr"):
            self.end_formatting("nobr")
            self.reopen()
        self.formatting.add(self.push(name))

    def reopen(self) -> None:
        for node in self.formatting.closed_ones():
            self.formatting.replace(node, self.push(node.name))

    def end_formatting(self, name: str) -> None:
        if self.top == name and not self.stack[-1].is_listed:
            self.pop()
            return
        for _ in range(8):
            node = self.formatting.find(name)
            if node is None:
                self.end_other(name)
                return
            if not node.is_open:
                self.formatting.remove(node)
                return
            if node.place < self.scopes[-1]:
                return
            at = bisect_right(self.specials, node.place)
            if at == len(self.specials):
                self.cut(node.place)
                self.formatting.remove(node)
                return
            if len(self.stack) - node.place > _DEEP:
                self.formatting.remove(node)
                return
            self._adopt(node, self.specials[at])

    def _adopt(self, node: Node, block: int) -> None:
        """Takes `node` off the stack and opens its like inside the block at place `block`, which stands in it."""
        furthest, kept, bookmark = self.stack[block], [], None
        for number, between in enumerate(reversed(self.stack[node.place + 1 : block]), 1):
            if not between.is_listed:
                continue
            if number > 3:
                self.formatting.remove(between)
                continue
            kept.append(between)
            bookmark = bookmark or between
        like = Node(node.name)
        self.formatting.replace(node, like, bookmark)
        self.rebuild(node.place, [*reversed(kept), furthest, like], block)
