"""Bytes to typed Arrow and back: decode, validate, hash, the log's record form. Pure functions."""
