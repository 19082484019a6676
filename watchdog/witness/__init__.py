"""The witness: who decides whose turn it is to fence. A process of its own (process.py) in front of an engine (etcd.py, disk.py)."""
