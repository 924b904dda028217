"""The compatibility tests: mixed events and faults with every version of Umami.

They compare the client's counts with the rows in the server's database. `python -m loadtests compatibility`
runs them on the collector as each version, and with `--server FILE` on a real server. `--report` writes the
tables of docs/compatibility.md from the results.
"""
