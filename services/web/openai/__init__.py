"""What the routes in the shape of OpenAI's images API share: fields, answers, and errors.

The pictures are drawn by jobs like all others; these routes wait for them or stream them.
"""
