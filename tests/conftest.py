"""For every test: how long an example takes is no promise, and on a busy machine no fact."""

from hypothesis import settings

settings.register_profile("house", deadline=None)
settings.load_profile("house")
