"""Access to the receiver: credentials, TLS, and the security headers of every response."""
