"""A plan of metrics over a snapshot of the lake -> moments, under the rules of counting."""
