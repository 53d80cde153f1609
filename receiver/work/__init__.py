"""The private plane: what talks to the cluster. It holds the cluster token and no webhook secret.

`dispatch` makes runs of jobs, `circuit` notices when the cluster is away, `follow` sees how runs end, `worker` runs them
together; `proof` tries a configuration on the cluster, `metrics` tells how things stand.
"""
