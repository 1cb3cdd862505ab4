"""How Hypothesis runs here."""

from hypothesis import settings

# How long an example takes says something of the computer alone; the first one may synthesise.
settings.register_profile("any computer", deadline=None)
settings.load_profile("any computer")
