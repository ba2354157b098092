"""Reinforced sets: what teachers say of a dataset's pictures and texts, in side-cars beside its shards.

After dataset reinforcement (Faghri et al., 2023) and MobileCLIP (Vasu et al., 2024): of each pair the numbers that make
K augmented views of its picture, and the vectors of one or more teachers for those views and for the pair's texts.

    <dataset>/reinforced/<set>/shard-000000.bin       the vectors of each pair, side by side
    <dataset>/reinforced/<set>/shard-000000.parquet   where they lie, their checksum, the views, the texts
    <dataset>/reinforced/<set>/reinforced.json        written last: a set without one is not finished
"""
