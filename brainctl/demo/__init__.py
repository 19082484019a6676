"""``brainctl demo``: a pair of nodes inside this machine, split in every way that is known, healed, and measured from outside.

The laboratory (`lab`, `switch`, `node`, `programs/`) is made of kernel namespaces and real processes; `scenarios/` says what happens in
it; `observers` and `measure` say what was seen, and share no code with the daemons.
"""
