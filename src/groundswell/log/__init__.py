"""The event log: durable ordered bytes in partitions."""
