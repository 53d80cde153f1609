"""Builders that several kinds of tests share: payloads, signatures, settings folders, planes, a plain HTTP client."""
