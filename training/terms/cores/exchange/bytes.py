"""What a step of a core moves: the formulae, for plans; a test holds them against what the collectives count.

Letters as in training.md of the field's papers: B pairs of W ranks, b = B / W of each, D features, e bytes of a number
of a feature as it travels (4 or 2). What a rank of a ring receives: see `training.ranks.peers`.
"""

_F32, _F64, _I64 = 4, 8, 8


def bytes_moved(core: str, exchange: str, B: int, W: int, D: int, e: int = 4) -> int:
    """Bytes that each rank receives in one step of float32 features, one text an image, without ids or weights.

    The leading terms, W large: gather B D (e + 4) + 16 B, gather2 2 B D e + 20 B, ring B D (2 e + 4) + 12 B; sigmoid,
    which needs no sums before it: gather B D (e + 4) + 12 B, gather2 2 B D e + 24 B, ring B D (e + 4) + 8 B.
    Where B does not divide by W, b is that of the largest rank: collectives move equal blocks.
    """
    b = -(-B // W)
    others = W - 1
    sums = 2 * b * W * _F32 * others // W  # an all-reduce of one number a column
    text, d_text = b * D * e, b * D * _F32
    number = b * _F32
    if exchange == "gather":
        stats = {"softmax": sums + 2 * others * number, "sigmoid": sums + others * number}[core]
        moved = others * (text + d_text) + stats
    elif exchange == "gather2":
        # two numbers each of rows and of columns, sum(x . dx) by row; in sigmoid also what makes the bias' gradient
        moved = others * (2 * text + {"softmax": 5, "sigmoid": 6}[core] * number)
    elif exchange == "ring":
        home = W * (d_text + 2 * number) + others * text
        moved = home + (others * (text + number) if core == "softmax" else 0)
    else:
        raise KeyError(exchange)
    return moved + _scalars(core, exchange, W)


def ids_moved(B: int, W: int) -> int:
    """What ids of pairs add to it, by which a pair that a step meets twice is known: of each, and whether it has one.

    The trainer always gives them.
    """
    return (W - 1) * -(-B // W) * (_I64 + 1)


def _scalars(core: str, exchange: str, W: int) -> int:
    """Three sizes of each rank; losses, hits, gradients of scale and bias, where not every rank sums up everything."""

    def all_sum(numbers: int) -> int:
        return 2 * numbers * _F64 * (W - 1) // W

    sizes = (W - 1) * 3 * _I64
    if exchange == "gather2":
        return sizes
    return sizes + all_sum(4) + all_sum(1) + (2 * all_sum(1) if core == "sigmoid" else 0)
