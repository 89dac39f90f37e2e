"""The HTML report: one file that needs no network and no other file.

``queries`` reads the numbers, ``metrics`` calculates, ``view`` prepares values for the templates, ``charts.js`` draws
the rows of ``chart_data`` and ``page`` renders all of it.
"""
