"""crackwatch: watches a folder for photographs of concrete, finds the cracks, keeps the books."""

__version__ = "0.1.0"
