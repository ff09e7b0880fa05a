"""Migrations of the control database. Each is run once, in order, in one transaction, when a store is opened."""
