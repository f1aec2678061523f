"""Starting processes: their `options`, the socket they listen on, several of them as one server.

Nothing is imported here: `consistent-gen serve --help` reads the options.
"""
