"""The private plane: what talks to the cluster. It holds the cluster token and no webhook secret.

`dispatch` says which jobs are tried when, `attempt` makes a run of one, `availability` knows when the cluster is away (`circuit`)
and when only one job fails (`suspects`), `follow` sees how runs end, `worker` runs them together; `proof` tries a
configuration on the cluster, `metrics` tells how things stand.
"""
