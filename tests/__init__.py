"""Claims about crackwatch, held against real files, real databases and real processes."""

from hypothesis import settings

# a test is no slower than the machine that it shares with others: only pytest's timeout counts
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")
