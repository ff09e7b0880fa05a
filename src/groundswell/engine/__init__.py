"""The engine: a plan of metrics over a snapshot of the lake -> moments."""
