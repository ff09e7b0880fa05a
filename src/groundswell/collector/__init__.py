"""The collector: events over HTTP, acknowledged when they are durable."""
