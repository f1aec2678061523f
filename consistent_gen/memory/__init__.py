"""Long-term memory of one user: inspectable, correctable, erasable, and able to draw.

`open_memory(folder, user)` gives a `Store`; `consistent_gen.memory.store` documents it.
"""
