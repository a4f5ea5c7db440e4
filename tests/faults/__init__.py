"""The fault campaign: a real station, ended and disturbed at every step that it takes.

``actor`` is the station as a child process, ``tracing`` stops it where it is told to, ``stage`` sets
the scene and says what must be true in the end, ``planted`` are faults that have to be found. The
campaigns stand on these: ``sweep``, ``erring`` and ``meddler`` (each a ``campaign`` of cases that can
be named beforehand), ``power``, ``storm``. ``load`` is one of its own, of real daemons: its cases are in ``bursts``, ``kept``, ``outages``, ``blinding``, ``pairs`` and
``days``, on stations of ``arriving``, measured by ``gauge``. docs/reliability.md has the commands and
figures of all. Needs strace, and nothing else that a test machine lacks.
"""
