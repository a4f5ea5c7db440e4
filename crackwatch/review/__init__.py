"""People's labels: finds the picture meant, keeps its copy under the label that counts; knows no web.

``locating`` finds a picture, ``copies`` owns the folder that ``retrain`` reads, ``marking`` brings
both together with the books, ``listing`` says what was said, ``exchange`` reads and writes CSV,
``rendering`` is how it all looks to a person or a program.
"""
