"""From "yesterday" to a window, from rows to a summary, from a summary to text, JSON, CSV, HTML."""
