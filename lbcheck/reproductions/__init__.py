"""Published claims that were run again, with their records.

Each is a page, docs/reproductions/NAME.md, and one or more studies beside it,
which `index.json` lists: their flagfiles, made before they ran, and which
published row an arm is of. Nothing that the records name is imported.
"""
