"""What differs between families of diffusion models, a file each; `seam.Seam` says what that is.

`families` lists them and loads nothing.
"""
