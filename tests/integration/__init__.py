"""What the public plane promises to whoever talks to it."""
