"""Topic -> topic: the worker whose batch ends in one Kafka transaction, mirrored into the ledger."""
