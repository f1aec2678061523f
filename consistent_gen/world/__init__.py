"""The procedural story world: characters and scenes drawn from a specification, so that the truth
is known.
"""
