"""Cost before spending: what a cluster is, what a plan says, and how it is shown. The halves foretell (their `costs`).

devices.py   what a device and its network can do, each figure with its source
found.py     what a half foretells, as data
plan.py      both halves together, hours and money
table.py     the same for a person
words.py     numbers with their units
"""
