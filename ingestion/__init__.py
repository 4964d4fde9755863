"""Getting data in: files, raw records and generated orders -> Kafka, exactly once."""
