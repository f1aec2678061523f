"""The server. Its commands and BentoML services stand here, its parts in the folders.

`gateway`, `generation`, `drawing`, `scoring` and `memory` are what `bentoml serve` is given, with
what they have in common in `bento`; `serve` and `worker_process` are programs; `settings` and
`errors` are for everybody. Which folder may import which is in docs/architecture.md. Nothing is
imported here, so that settings stay light.
"""
