"""Exhaustive search over short schedules of faults, with the cores of the daemons."""
