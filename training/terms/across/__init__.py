"""Pieces of terms that compare rows of all ranks, as parts of an autograd graph: tiled, ragged, never B x B held.

Every piece keeps one promise: given the gradient of the one global value by this rank's entries of its result, it
gives back that by this rank's entries of what it was given, what the other ranks add included. So pieces are put
together like other operations of torch. A trained number enters row by row, and gets this rank's share.

Letters: N rows of this rank that count, M candidates of this rank, G of all ranks; R and C of one tile; D features.
"""
