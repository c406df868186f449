"""One rule a cause: it looks at the symptoms and returns its finding, or none.

A rule computes its evidence from numbers alone. None looks at a name, a label or a file, and of the settings of a loop
none but the kinds of memory. What counts as a change at all is in `material`.
"""
