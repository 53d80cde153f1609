"""The private plane: what talks to the cluster. It holds the cluster token and no webhook secret.

`dispatch` makes runs of jobs, `follow` sees how runs end, `prune` keeps the journal small, `worker` runs them together,
`private` answers on the internal port.
"""
