"""Leases in, pictures out: `painter` over one engine, for frames of many stories and users.

What the frames of a story have in common is in the `anchor_cache`. `ordering_rules` choose who
shares a denoiser call, `reports` say what came of it, and `warm_up` makes a painter that is ready.
Nothing is imported here: the painter loads torch, and what only reads reports does not need it.
"""
