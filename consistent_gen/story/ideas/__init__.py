"""From an idea in a sentence to an editable story: by templates, or by a language model.

`writing.write_story` needs a `Vocabulary` alone: nothing is loaded, and without a language model
nothing leaves this machine. The same idea and seed give the same story.
"""
