"""A world with known truth, and seeded faults for the whole pipeline."""
