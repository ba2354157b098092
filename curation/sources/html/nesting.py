"""Which elements are open where a tag stands: what decides whether a tag is HTML at all, and what a figure holds.

This is tree construction of the HTML standard (section 13.2.6) without the tree: where svg and math end, what a
<template> hides, which end tag closes which figure, with the repair of misnested tags.

Left out: frames (<frameset> hides the rest of a page in browsers; here it is read), and the standard's quirks mode.
"""

from curation.sources.html import elements as of
from curation.sources.html import tables
from curation.sources.html.attributes import attributes
from curation.sources.html.formatting import Node
from curation.sources.html.open_elements import OpenElements


class Nesting(OpenElements):
    """The open elements, told of every tag and of the texts between."""

    def __init__(self) -> None:
        super().__init__()
        self.head = "head"  # "head", "noscript" (in the head), "body": what of the page has begun

    # -- tokens

    def text(self, is_blank: bool) -> None:
        """A text between tags."""
        if self.is_foreign and not (self.stack[-1].is_point or self.top in of.MATH_POINTS):
            return
        if not is_blank and not self.is_template:
            self.head = "body"
        if self.formatting.is_due and not (is_blank and tables.in_table(self)):
            self.reopen()

    def start(self, name: str, written: str) -> str:
        """A start tag; the name of the element that it opens, "svg:" or "math:" before a foreign one's, "" for none."""
        if self.top == "template" and self.stack[-1].inside == "col" and name not in ("col", "template"):
            return ""
        if self.is_foreign and not self._is_html_start(name):
            if name not in of.LEAVES_FOREIGN and not (name == "font" and _has_font_attributes(written)):
                space = self.stack[-1].name.partition(":")[0]
                return self._start_foreign(f"{space}:{name}", written)
            self._leave_foreign()
        if name in ("svg", "math"):
            self._in_body()
            self.reopen()
            return self._start_foreign(f"{name}:{name}", written)
        self._start_html(name, written)
        return name

    def end(self, name: str) -> None:
        """An end tag."""
        if self.is_foreign:
            if name in ("br", "p"):
                self._leave_foreign()
            else:
                found = max(self.last(f"svg:{name}"), self.last(f"math:{name}"))
                if found >= self.stack[-1].run:
                    self.cut(found)
                    return
        self._end_html(name)

    # -- foreign elements

    def _is_html_start(self, name: str) -> bool:
        top = self.stack[-1]
        if top.name in of.MATH_POINTS:
            return name not in ("mglyph", "malignmark")
        return top.is_point or (top.name == "math:annotation-xml" and name == "svg")

    def _start_foreign(self, full: str, written: str) -> str:
        if not written.endswith("/"):
            node = Node(full, is_foreign=True)
            node.is_point = full in of.SVG_POINTS or (full == "math:annotation-xml" and _holds_html(written))
            self._put(node)
        return full

    def _leave_foreign(self) -> None:
        while self.is_foreign and not self.stack[-1].is_point and self.top not in of.MATH_POINTS:
            self.pop()

    # -- HTML start tags

    def _start_html(self, name: str, written: str) -> None:
        if self.head != "body" and not self.is_template and not self._stays_in_head(name):
            self.head = "body"
        if self.top == "colgroup" and name not in ("col", "template"):
            self.pop()
        if name in of.IGNORED or (name == "noscript" and self.head != "body" and not self.is_template):
            return
        tables.enter_template(self, name)
        if name in of.TABLE_PARTS:
            tables.start_part(self, name)
            return
        if name == "table" and not tables.start_table(self):
            return
        if name in of.CLOSE_P:
            self.close_p()
        if name in of.BEGINS_ANEW and self._begins_anew(name):
            return
        if name in of.VOID or name in of.RAW:
            if name in ("area", "br", "embed", "image", "img", "input", "keygen", "wbr", "xmp"):
                self.reopen()
            return
        if name in of.FORMATTING:
            self.start_formatting(name)
            return
        if name not in of.LEAVES_FORMATTING:
            self.reopen()
        self.push(name)
        if name in of.MARKERS or name == "template":
            self.formatting.mark()

    def _stays_in_head(self, name: str) -> bool:
        if self.head == "noscript":
            return name in of.IN_HEAD_NOSCRIPT
        if name == "noscript":
            self.head = "noscript"
        return name in of.HEAD

    def _begins_anew(self, name: str) -> bool:
        """Closes what `name` cannot stand in; whether it is no element at all here."""
        if name == "form":
            return bool(self.places["form"]) and not self.is_template
        if name in of.HEADINGS and self.top in of.HEADINGS:
            self.pop()
        elif name == "li":
            self._close_item(("li",))
        elif name in ("dd", "dt"):
            self._close_item(("dd", "dt"))
        elif name == "button":
            self.close_in_scope("button")
        elif name == "input":
            self.close_in_scope("select")
        elif name == "select":
            return self.close_in_scope("select")
        elif name in ("option", "optgroup"):
            if self.top == "option":
                self.pop()
        elif name in ("rb", "rp", "rt", "rtc") and self.in_scope("ruby"):
            self.pop_implied()
        return False

    def _close_item(self, names: tuple[str, ...]) -> None:
        found = max(self.last(name) for name in names)
        if found >= 0 and found >= self.barriers[-1]:
            self.cut(found)
            self.close_p()

    # -- HTML end tags

    def _end_html(self, name: str) -> None:
        if self.top == "colgroup" and name not in ("col", "template"):
            self.pop()
        if name == "noscript" and self.head == "noscript":
            self.head = "head"
        elif name in ("head", "body", "html", "br"):
            self.head = "body" if not self.is_template else self.head
        elif name == "template":
            if self.is_template:
                self.cut(self.last("template"))
                self.formatting.clear()
        elif name in of.TABLE_PARTS or name == "table":
            tables.end_part(self, name)
        elif name == "p":
            self.close_p()
        elif name in of.HEADINGS:
            found = max(self.last(each) for each in of.HEADINGS)
            self.cut(found if found > self.scopes[-1] else -1)
        elif name == "li":
            if self.last("li") > max(self.last("ol"), self.last("ul")):
                self.close_in_scope("li")
        elif name == "form":
            self._end_form()
        elif name in of.FORMATTING:
            self.end_formatting(name)
        elif name in of.MARKERS:
            if self.close_in_scope(name):
                self.formatting.clear()
        elif name in of.BLOCKS or name in ("button", "dd", "dt", "select"):
            self.close_in_scope(name)
        else:
            self.end_other(name)

    def _end_form(self) -> None:
        found = self.last("form")
        if found < 0 or found <= self.scopes[-1]:
            return
        if self.is_template:
            self.cut(found)
            return
        self.pop_implied()
        self.rebuild(found, [])  # what stands in it stays open

    def _in_body(self) -> None:
        if not self.is_template:
            self.head = "body"
        if self.top == "colgroup":
            self.pop()
        tables.enter_template(self, "svg")


def _holds_html(written: str) -> bool:
    return attributes(written).get("encoding", "").lower() in ("text/html", "application/xhtml+xml")


def _has_font_attributes(written: str) -> bool:
    return not {"color", "face", "size"}.isdisjoint(attributes(written))
