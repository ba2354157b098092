"""Bytes that a rank receives in a ring, whatever the backend then does, for those who foretell them; `peers` counts
what it moves by itself. Imports no torch."""

F32, F64, I64 = 4, 8, 8


def gathered(size: int, ranks: int) -> int:
    """A block of `size` bytes of every other rank; or sums of blocks, of which a rank receives its own."""
    return (ranks - 1) * size


def summed(size: int, ranks: int) -> int:
    """An all-reduce of `size` bytes: sums of its parts, and these handed round."""
    return 2 * size * (ranks - 1) // ranks
