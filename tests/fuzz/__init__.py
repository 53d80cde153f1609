"""Generated requests against the real front and the Flask application, and generated patterns; `make fuzz`."""
