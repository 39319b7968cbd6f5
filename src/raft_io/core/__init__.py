"""The protocol: a deterministic state machine without I/O. One file a concept of the Raft paper."""
