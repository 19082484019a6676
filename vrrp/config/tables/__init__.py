"""The keyword tables: one file per kind of block, one line per keyword."""
