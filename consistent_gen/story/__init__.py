"""Story files, casting, plans, pages and reports: from a text file to a folder of pictures."""
