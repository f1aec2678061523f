"""Leases in, pictures out: `painter` over one engine, for frames of many stories and users.

`anchors` is what the frames of a story have in common, kept on the `shelf`; `calls` chooses who
shares a denoiser call, `reports` says what came of it, and `warm_up` makes a painter that is ready.
Nothing is imported here: the painter loads torch, and what only reads reports does not need it.
"""
