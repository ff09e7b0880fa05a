"""Ingest: log to lake, exactly once. Fingerprints, workers, one committer, dead letters, import, audit."""
