"""Where a file goes, and the move: nothing overwritten, everything replayable, durable at the end.

``names`` chooses destinations, ``durable`` speaks to the kernel, ``mover`` carries out what a
committed row demands.
"""
