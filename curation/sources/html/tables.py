"""Parts of tables on the stack of open elements: the insertion modes of the HTML standard that concern tables, as far
as they decide which elements are open. What stands misplaced in a table stays in the element around the table."""

from curation.sources.html import elements as of
from curation.sources.html.open_elements import OpenElements


def in_table(on: OpenElements) -> bool:
    """Whether a table is open and none of its cells is."""
    return on.table_scopes[-1] > _cell(on) and not _is_plain_template(on, on.table_scopes[-1])


def _cell(on: OpenElements) -> int:
    """The place of the innermost open cell or caption, -1 for none."""
    return max(on.last(name) for name in of.CELLS)


def _close_cell(on: OpenElements, above: int) -> None:
    """Closes the cell or caption that is open inside the element at place `above`."""
    if _cell(on) > above:
        on.cut(_cell(on))
        on.formatting.clear()


def _is_plain_template(on: OpenElements, at: int) -> bool:
    return on.stack[at].name == "template" and on.stack[at].inside in ("", "body", "col")


def enter_template(on: OpenElements, name: str) -> None:
    """The first start tag in a <template> decides what its content is: of a page, of a table, of a row."""
    if on.top == "template" and not on.stack[-1].inside and name not in of.HEAD - {"noscript", "head", "html"}:
        ranks = {"td": "row", "th": "row", "tr": "tbody", "col": "col"}
        on.stack[-1].inside = ranks.get(name, "table" if name in of.TABLE_PARTS else "body")


def start_table(on: OpenElements) -> bool:
    """Makes room for a <table>; False where there can be none."""
    if on.table_scopes[-1] >= 0 and in_table(on):
        if on.stack[on.table_scopes[-1]].name == "template":
            return False
        on.cut(on.table_scopes[-1])
    return True


def start_part(on: OpenElements, name: str) -> None:
    """Opens a cell, row, body, caption or column group with what it has to stand in; nothing outside a table."""
    root = on.table_scopes[-1]
    if root < 0 or _is_plain_template(on, root):
        return
    holder = on.stack[root].inside or "table"
    wanted = {"td": 3, "th": 3, "tr": 2}.get(name, 1)
    inner = max(on.last(each) for each in ("tr", *of.TABLE_BODIES))
    if inner <= root and {"table": 1, "tbody": 2, "row": 3}[holder] > wanted:
        return
    _close_cell(on, root)
    within = {1: (), 2: of.TABLE_BODIES, 3: of.TABLE_BODIES | {"tr"}}[wanted]
    while len(on.stack) > root + 1 and on.top not in within:
        on.pop()
    if wanted > 1 and holder == "table" and len(on.stack) == root + 1:
        on.push("tbody")
    if wanted > 2 and holder != "row" and on.top != "tr":
        on.push("tr")
    if name == "col":
        name = "colgroup"
    on.push(name)
    if name in of.CELLS:
        on.formatting.mark()


def end_part(on: OpenElements, name: str) -> None:
    """The end tag of a table or one of its parts."""
    found = on.last(name)
    if found >= 0 and found >= on.table_scopes[-1]:
        _close_cell(on, found - (name in of.CELLS))
        on.cut(found)
