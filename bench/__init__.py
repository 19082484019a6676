"""Measurements beside keepalived: ``python -m bench``. Shares no code with the daemons."""
