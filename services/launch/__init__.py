"""Starting processes: their `options`, the socket they listen on, the server that answers there,
several of them as one.

Nothing is imported here: `consistent-gen serve --help` reads the options.
"""
