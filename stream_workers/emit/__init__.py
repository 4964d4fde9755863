"""Table -> topic: the closer that decides which rows are final, and the outbox from which they go to Kafka."""
