"""The serving half: durable jobs, artifacts, stories, keys, and the services that use them.

Nothing is imported here, so that ``services.settings`` and ``services.errors`` stay light.
"""
