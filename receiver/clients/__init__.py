"""Adapters, so thin that they are boring. The only modules that import network libraries; their exceptions stop here."""
