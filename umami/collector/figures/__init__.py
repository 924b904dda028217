"""The figures and rows of the query routes, computed from the database.

`query` reads a request's parameters, `filters` turns them into SQL, and the other modules have a function for
each route: it takes the database, the website and the query, and returns the answer of Umami 3.1.
"""
