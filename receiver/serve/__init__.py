"""The public plane: what GitHub talks to. It holds the webhook secrets and no cluster token.

`gate` refuses what proves nothing, `admission` decides on a verified body, `webhook` keeps what was decided and answers.
Two carry requests there: `app`, the Flask application for any WSGI server, and `server`, the front that `receiver serve` runs.
`secrets` re-reads the secret files, `health` says whether the journal takes writes.
"""
