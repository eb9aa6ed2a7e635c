"""``fishnet serve``: the HTTP service, and its page. Imports no torch."""
