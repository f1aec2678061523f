"""What personas do: measures that ask, parse and count, and need no judge.

One paper, one file: prompts, parsing, arithmetic, and the scripted behaviours that each measure is
held to. `questions` is the table of multiple-choice answers that several audits are made of.
"""
