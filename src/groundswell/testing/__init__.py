"""Test doubles that users of Groundswell may build on: clocks, logs and lakes that misbehave on purpose."""
