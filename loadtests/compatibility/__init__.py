"""Mixed traffic and trouble on every generation of Umami: what is stored beside what the ledger says.

`python -m loadtests compatibility` runs it on the collector's imitation of each generation, with
`--server FILE` on a real server, and `--report` writes docs/compatibility.md from the results.
"""
