"""How long the fuzzing goes on: moments in ordinary tests, as long as one likes by ``make fuzz``.

Ordinary runs draw the same examples every time. With ``CRACKWATCH_FUZZ=N`` each test draws N times
as many, new ones each time; what fails then is printed with what brings it back.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("CRACKWATCH_FUZZ") or 1)


def examples(count: int) -> settings:
    """Settings for a property whose ordinary number of examples is ``count``."""
    return settings(
        max_examples=count * TIMES,
        derandomize=TIMES == 1,
        deadline=None,
        print_blob=True,
        database=None,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.function_scoped_fixture,  # a folder that each example writes anew
        ],
    )
