"""Ingest: from log to lake exactly once."""
