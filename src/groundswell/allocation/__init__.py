"""Allocation: which variant a unit gets; one definition for one unit and for millions."""
