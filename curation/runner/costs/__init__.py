"""What a job costs in tasks, files and reads, in closed form; tests/curation/runner/costs/ counts it.

The way from inputs to the joined table is in curation/pool/costs.py. Then, in the order of a run:

fetching.py   what is downloaded, between the pool and the join
closing.py    segments, and what settles the stages that end them
ending.py     shards, books and what the report shows
of_run.py     all of these of a run that is done, by what its states say of notes, rounds and pieces
plan.py       all of these of a recipe and a number of pairs, before a run
"""
