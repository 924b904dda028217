"""The load tests: what a send, an event and a tracked request cost, compared with other clients.

`python -m loadtests SCENARIO` runs one scenario and prints a table, and which goals are met. Each measurement
runs a client (`subjects`, `peers`) in a new process (`child`), against a server of its own (`sink`). `runner`
runs the measurements of a scenario in turn, for several rounds. `results` computes medians and judges the
goals.
"""
