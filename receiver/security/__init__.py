"""Who may talk to the receiver, and how: credentials, TLS, and the headers of every answer."""
