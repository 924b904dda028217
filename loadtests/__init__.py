"""What a send costs, what an event costs, what a service feels, beside peers and beside the floor.

`python -m loadtests SCENARIO` measures one question of issue 4 and prints whether its goal is met.
Every measurement is a fresh process (`child`) that drives one client (`subjects`, `peers`) against a
server of its own (`sink`); `runner` interleaves them and repeats, `results` judges, and the rest shows.
"""
