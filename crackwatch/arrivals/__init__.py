"""Turns file-system events and scans into settled arrivals; alone in knowing watchdog and leases.

``watcher`` listens, ``gate`` decides when a file has settled, ``known`` remembers compactly what has
a row already, ``pace`` how often the folder is looked through, ``intake`` is the thread that brings
them together.
"""
