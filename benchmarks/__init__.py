"""Offline benchmark scripts: each prints tables and writes JSON."""
