"""Building a corpus: from raw texts to tokens in mapped files, in stages that can be broken off.

`build` says which stages there are; each stage is one function of a folder and a number, in a file
of its own: `reading`, `sketching`, `matching`, `writing`.
"""
