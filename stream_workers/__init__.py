"""Keeping tables true continuously: the loop, its shards, the supervisor of its processes."""
