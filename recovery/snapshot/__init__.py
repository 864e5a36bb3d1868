"""Snapshots: a mydumper dump with coordinates of our own, uploaded as it is, and the typed base state parsed from it."""
