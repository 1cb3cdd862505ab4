"""Tests with the real command lines, against a moto server."""
