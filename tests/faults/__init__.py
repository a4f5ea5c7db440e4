"""The fault campaign: a real station, ended and disturbed at every step that it takes.

``actor`` is the station as a child process, ``tracing`` stops it where it is told to, ``stage`` sets
the scene and says what must be true in the end, ``planted`` are faults that have to be found. The
campaigns stand on these: ``sweep``, ``erring``, ``power``, ``storm``; docs/reliability.md has their
commands and figures. Needs strace, and nothing else that a test machine lacks.
"""
