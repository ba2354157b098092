"""What holds for every test."""

from hypothesis import settings

# No test times anything: on a busy machine hypothesis' own limit of 200 ms an example would.
settings.register_profile("clipmill", deadline=None)
settings.load_profile("clipmill")
