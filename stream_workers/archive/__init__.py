"""Topic -> Parquet lake: the worker that holds batches back until they make a file, and lists it in the ledger."""
