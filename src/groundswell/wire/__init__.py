"""Bytes to typed Arrow and back: hash, schema, decode, the log's record form. Pure functions of their input."""
