"""Is the station well, and if not, what is wrong and what to do: problems and the status file."""
