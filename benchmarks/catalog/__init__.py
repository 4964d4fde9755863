"""Declarations of the benchmarks, a catalog of their own (`HEADRACE_CATALOG=benchmarks.catalog`)."""
