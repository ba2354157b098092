"""Names of elements by what tree construction in the HTML standard does with them; "svg:" or "math:" is foreign."""

VOID = frozenset(
    "area base basefont bgsound br col embed frame hr image img input keygen link meta param source track wbr".split()
)
# Content that is text, not tags, up to the element's own end tag. <noscript> is read as elements on purpose.
RAW = ("script", "style", "xmp", "iframe", "noembed", "noframes", "textarea", "title")
HEAD = frozenset("base basefont bgsound head html link meta noframes noscript script style template title".split())
IN_HEAD_NOSCRIPT = frozenset("basefont bgsound head html link meta noframes noscript style".split())
IGNORED = frozenset("html head body frame frameset".split())

MATH_POINTS = frozenset(f"math:{name}" for name in "mi mo mn ms mtext".split())
SVG_POINTS = frozenset(("svg:foreignobject", "svg:desc", "svg:title"))
SCOPE = frozenset("applet caption html marquee object select table td template th".split()) | (
    MATH_POINTS | SVG_POINTS | {"math:annotation-xml"}
)
TABLE_SCOPE = frozenset(("table", "template"))
BLOCKS = frozenset(
    "address article aside blockquote center details dialog dir div dl fieldset figcaption figure footer header hgroup "
    "listing main menu nav ol pre search section summary ul".split()
)
HEADINGS = frozenset("h1 h2 h3 h4 h5 h6".split())
CLOSE_P = BLOCKS | HEADINGS | frozenset("dd dt form hr li p plaintext xmp".split())
IMPLIED = frozenset("dd dt li optgroup option p rb rp rt rtc".split())
FORMATTING = frozenset("a b big code em font i nobr s small strike strong tt u".split())
MARKERS = frozenset("applet marquee object".split())  # formatting outside does not reach into these
TABLE_BODIES = frozenset("tbody tfoot thead".split())
CELLS = ("td", "th", "caption")
TABLE_PARTS = TABLE_BODIES | frozenset("caption col colgroup td th tr".split())
SPECIAL = (
    (BLOCKS | HEADINGS | SCOPE | TABLE_PARTS | MARKERS | VOID) - frozenset("dialog image".split())
    | frozenset("body button dd dt form head iframe li noembed noframes noscript p plaintext".split())
    | frozenset("script style textarea title xmp".split())
)
BEGINS_ANEW = HEADINGS | frozenset("button dd dt form input li optgroup option rb rp rt rtc select".split())
# Start tags of elements that formatting is not opened again before.
LEAVES_FORMATTING = (SPECIAL | {"dialog"}) - MARKERS - frozenset("button noscript select".split())
# Start tags that end all svg and math around them.
LEAVES_FOREIGN = HEADINGS | frozenset(
    "b big blockquote body br center code dd div dl dt em embed head hr i img li listing menu meta nobr ol p pre ruby "
    "s small span strong strike sub sup table tt u ul var".split()
)
