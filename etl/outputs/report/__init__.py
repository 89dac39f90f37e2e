"""One HTML file for those who would rather look than read: it needs no network and no other file.

``gather`` asks the views, ``figures`` reckons, ``charts`` says what is drawn, ``page`` writes it down.
"""
