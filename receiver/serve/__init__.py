"""The public plane: what GitHub talks to. It holds the webhook secrets and no cluster token.

`gate` refuses what proves nothing before Flask sees it, `app` is the Flask application, `admission` decides on a verified
body, `server` is the thin front of the WSGI application, `secrets` re-reads the secret files.
"""
