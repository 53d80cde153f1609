"""The journal: what makes an acknowledged push survive. The only place with SQL.

`schema` says what is stored, `engine` opens the database, `intake` is the public plane's side (it only inserts and reads),
`jobs` is the private plane's side, `queries` is for people, `writer` lets a group share one commit, `wake` tells the
other process at once.
"""
