"""Turns file-system events and scans into settled arrivals; alone in knowing watchdog and leases.

``watcher`` listens, ``gate`` decides when a file has settled, ``known`` remembers compactly what has
a row already, ``intake`` is the thread that brings them together.
"""
